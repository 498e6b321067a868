/* state: users=root,user privilege=none criu=both also=set_user_id */
/* POSIX timers: what is left of them, their intervals, numbers, and that they fire. */
#include "scene.h"

#include <pthread.h>

static volatile int ticks, thread_ticks;
static volatile pid_t ticked_tid;

static void on_tick(int signal UNUSED, siginfo_t *info, void *context UNUSED)
{
	if (info->si_code == SI_TIMER && info->si_value.sival_int == 77)
		ticks++;
}

static void on_thread_tick(int signal UNUSED)
{
	thread_ticks++;
	ticked_tid = gettid();
}

static volatile int leaves;
static volatile pid_t thread_tid;

static void *sleeper(void *unused UNUSED)
{
	thread_tid = gettid();
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	return NULL;
}

static timer_t make(clockid_t clock, int notify, int signal, long first, long first_ns, long interval_ns)
{
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = signal };
	struct itimerspec spec = { { 0, interval_ns }, { first, first_ns } };
	timer_t timer;

	event.sigev_value.sival_int = 77;
	event._sigev_un._tid = thread_tid;
	MUST(timer_create(clock, &event, &timer) == 0);
	MUST(timer_settime(timer, 0, &spec, NULL) == 0);
	return timer;
}

static void far(timer_t timer, const char *what, long seconds)
{
	struct itimerspec left;

	CHECK(timer_gettime(timer, &left) == 0, "%s: %s", what, strerror(errno));
	CHECK(left.it_value.tv_sec > seconds - 1000 && left.it_value.tv_sec < seconds,
	      "%s: %ld seconds are left", what, (long)left.it_value.tv_sec);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_thread_tick };
	timer_t gone, none, tick, thread_tick, realtime, disarmed, cputime;
	struct itimerspec left;
	pthread_t thread;
	int now;

	MUST(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	while (!thread_tid)
		sched_yield();
	MUST(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
	action.sa_sigaction = on_tick;
	action.sa_flags = SA_SIGINFO;
	MUST(sigaction(SIGRTMIN, &action, NULL) == 0);

	/* A hole in the numbers, and every way to be told. */
	none = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 9000, 0, 0);
	gone = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 9000, 0, 0);
	tick = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 0, 10000000, 10000000);
	thread_tick = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 1, 0, 10000000, 10000000);
	realtime = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN, 8000, 0, 123456789);
	disarmed = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 0, 0, 0);
	cputime = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN, 7000, 0, 0);
	MUST(timer_delete(gone) == 0);

	await_go();

	far(none, "SIGEV_NONE", 9000);
	far(realtime, "CLOCK_REALTIME", 8000);
	far(cputime, "CLOCK_PROCESS_CPUTIME_ID", 7001);
	MUST(timer_gettime(realtime, &left) == 0);
	CHECK(left.it_interval.tv_nsec == 123456789, "interval %ld", left.it_interval.tv_nsec);
	MUST(timer_gettime(disarmed, &left) == 0);
	CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "a disarmed timer runs");
	CHECK(timer_gettime(gone, &left) == -1 && errno == EINVAL, "a deleted timer exists");
	/* They go on firing; a timer that was lost leaves this waiting. */
	now = ticks;
	while (ticks < now + 2)
		sched_yield();
	now = thread_ticks;
	while (thread_ticks < now + 2)
		sched_yield();
	CHECK(ticked_tid == thread_tid, "thread %d was told instead of %d", ticked_tid, thread_tid);
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	timer_delete(thread_tick);
	pthread_join(thread, NULL);
	/* The next timer gets a number of its own. */
	CHECK(timer_create(CLOCK_MONOTONIC, NULL, &none) == 0, "timer_create: %s", strerror(errno));
	(void)tick;
	return verdict();
}
