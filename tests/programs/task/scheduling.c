/* state: users=root,user privilege=none criu=both */
/* Nice values and ordinary scheduling policies, of the process and of a thread. */
#include "scene.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

static volatile int leaves, settled;
static volatile pid_t thread_tid;

static void *idler(void *unused UNUSED)
{
	struct sched_param none = { 0 };

	thread_tid = gettid();
	MUST(setpriority(PRIO_PROCESS, gettid(), 7) == 0);
	MUST(sched_setscheduler(gettid(), SCHED_IDLE, &none) == 0);
	settled = 1;
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	return NULL;
}

int main(void)
{
	struct sched_param parameter = { 0 };
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, idler, NULL) == 0);
	while (!settled)
		sched_yield();
	MUST(setpriority(PRIO_PROCESS, 0, 5) == 0);
	MUST(sched_setscheduler(0, SCHED_BATCH, &parameter) == 0);

	await_go();

	CHECK(getpriority(PRIO_PROCESS, 0) == 5, "nice %d", getpriority(PRIO_PROCESS, 0));
	CHECK(sched_getscheduler(0) == SCHED_BATCH, "policy %d", sched_getscheduler(0));
	CHECK(getpriority(PRIO_PROCESS, thread_tid) == 7, "nice %d", getpriority(PRIO_PROCESS, thread_tid));
	CHECK(sched_getscheduler(thread_tid) == SCHED_IDLE, "policy %d", sched_getscheduler(thread_tid));
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	return verdict();
}
