/* state: users=root,user privilege=none criu=both */
/* Restartable sequences: the area that the C library registered is known to the kernel again. */
#include "scene.h"

#include <sys/rseq.h>
#include <pthread.h>

#define SIGNATURE RSEQ_SIG

static volatile int leaves;
static volatile int settled;

/* With a signature that is wrong the kernel says EPERM if, and only if, the area is registered. */
static void registered(struct rseq *area, const char *who)
{
	CHECK(syscall(SYS_rseq, area, 32, 1, SIGNATURE + 1) == -1 && errno == EPERM, "%s: %s", who,
	      strerror(errno));
	CHECK(area->cpu_id < 4096, "%s: the processor is %d", who, (int)area->cpu_id);
	CHECK(syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, SIGNATURE) == 0, "%s: %s", who,
	      strerror(errno));
	CHECK(syscall(SYS_rseq, area, 32, 0, SIGNATURE) == 0, "%s: %s", who, strerror(errno));
}

static struct rseq *enlist(struct rseq *own)
{
	struct rseq *area;

	if (__rseq_size) {
		__asm__("movq %%fs:0, %0" : "=r"(area));
		return (struct rseq *)((char *)area + __rseq_offset);
	}
	MUST(syscall(SYS_rseq, own, 32, 0, SIGNATURE) == 0);
	return own;
}

static void *thread_body(void *unused UNUSED)
{
	static struct rseq own __attribute__((aligned(32)));
	struct rseq *area = enlist(&own);

	__atomic_add_fetch(&settled, 1, __ATOMIC_SEQ_CST);
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	registered(area, "thread");
	return NULL;
}

int main(void)
{
	static struct rseq own __attribute__((aligned(32)));
	struct rseq *area = enlist(&own);
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, thread_body, NULL) == 0);
	while (!settled)
		sched_yield();
	await_go();
	registered(area, "leader");
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	return verdict();
}
