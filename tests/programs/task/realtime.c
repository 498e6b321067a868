/* state: users=root privilege=root criu=both */
/* Real-time policies with their priorities, of the process and of a thread. */
#include "scene.h"

#include <pthread.h>
#include <sched.h>

static volatile int leaves, settled;
static volatile pid_t thread_tid;

static void *body(void *unused UNUSED)
{
	struct sched_param parameter = { .sched_priority = 3 };

	thread_tid = gettid();
	MUST(sched_setscheduler(gettid(), SCHED_FIFO, &parameter) == 0);
	settled = 1;
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	return NULL;
}

int main(void)
{
	struct sched_param parameter = { .sched_priority = 2 };
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, body, NULL) == 0);
	while (!settled)
		sched_yield();
	MUST(sched_setscheduler(0, SCHED_RR, &parameter) == 0);
	await_go();
	CHECK(sched_getscheduler(0) == SCHED_RR, "policy %d", sched_getscheduler(0));
	sched_getparam(0, &parameter);
	CHECK(parameter.sched_priority == 2, "priority %d", parameter.sched_priority);
	CHECK(sched_getscheduler(thread_tid) == SCHED_FIFO, "policy %d", sched_getscheduler(thread_tid));
	sched_getparam(thread_tid, &parameter);
	CHECK(parameter.sched_priority == 3, "priority %d", parameter.sched_priority);
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	return verdict();
}
