/* state: users=root,user privilege=none criu=dump(it restores no timer for a thread that has ended) */
/* POSIX timers for a thread that has ended: they run on, and signal nobody. */
#include "scene.h"

#include <pthread.h>

static volatile int ticks, leaves;
static volatile pid_t thread_tid;

static void on_tick(int signal UNUSED)
{
	ticks++;
}

static void *sleeper(void *unused UNUSED)
{
	thread_tid = gettid();
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	return NULL;
}

static timer_t make(long first, long first_ns, long interval_ns)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN };
	struct itimerspec spec = { { 0, interval_ns }, { first, first_ns } };
	timer_t timer;

	event._sigev_un._tid = thread_tid;
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	MUST(timer_settime(timer, 0, &spec, NULL) == 0);
	return timer;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_tick };
	timer_t far, often, disarmed, next;
	struct itimerspec left;
	pthread_t thread;

	MUST(sigaction(SIGRTMIN, &action, NULL) == 0);
	MUST(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	while (!thread_tid)
		sched_yield();
	far = make(9000, 0, 0);
	often = make(8000, 0, 0);
	disarmed = make(0, 0, 0);
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	MUST(pthread_join(thread, NULL) == 0);
	/* Not before: the thread gets no signal of it, and so nobody does. */
	left = (struct itimerspec){ { 0, 10000000 }, { 0, 10000000 } };
	MUST(timer_settime(often, 0, &left, NULL) == 0);

	await_go();

	CHECK(timer_gettime(far, &left) == 0, "far: %s", strerror(errno));
	CHECK(left.it_value.tv_sec > 8000 && left.it_value.tv_sec < 9000, "%ld seconds are left",
	      (long)left.it_value.tv_sec);
	CHECK(timer_gettime(often, &left) == 0, "often: %s", strerror(errno));
	CHECK(left.it_interval.tv_nsec == 10000000, "the interval is %ld", left.it_interval.tv_nsec);
	CHECK(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 10000000, "%ld nanoseconds are left",
	      left.it_value.tv_nsec);
	CHECK(timer_gettime(disarmed, &left) == 0, "disarmed: %s", strerror(errno));
	CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "a disarmed timer runs");
	CHECK(ticks == 0, "somebody got %d signals", ticks);
	CHECK(timer_delete(far) == 0, "timer_delete: %s", strerror(errno));
	CHECK(timer_create(CLOCK_MONOTONIC, NULL, &next) == 0, "timer_create: %s", strerror(errno));
	return verdict();
}
