/* Interval timers and POSIX timers: what is left of them, their intervals, that they fire. */
#include "scene.h"

#include <pthread.h>
#include <sys/time.h>

static volatile int alarms, ticks, thread_ticks;
static volatile pid_t ticked_tid;

static void on_alarm(int signal UNUSED)
{
	alarms++;
}

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
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval value = { { 0, 20000 }, { 0, 20000 } };
	timer_t gone, none, tick, thread_tick, realtime, disarmed, cputime;
	struct itimerspec left;
	pthread_t thread;
	int now;

	MUST(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	while (!thread_tid)
		sched_yield();
	MUST(sigaction(SIGALRM, &action, NULL) == 0);
	action.sa_handler = on_thread_tick;
	MUST(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
	action.sa_sigaction = on_tick;
	action.sa_flags = SA_SIGINFO;
	MUST(sigaction(SIGRTMIN, &action, NULL) == 0);

	MUST(setitimer(ITIMER_REAL, &value, NULL) == 0);
	value.it_value.tv_sec = 5000;
	value.it_interval.tv_sec = 7;
	value.it_interval.tv_usec = 250000;
	MUST(setitimer(ITIMER_VIRTUAL, &value, NULL) == 0);
	value.it_value.tv_sec = 6000;
	MUST(setitimer(ITIMER_PROF, &value, NULL) == 0);

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

	getitimer(ITIMER_REAL, &value);
	CHECK(value.it_interval.tv_sec == 0 && value.it_interval.tv_usec == 20000, "ITIMER_REAL's interval");
	getitimer(ITIMER_VIRTUAL, &value);
	CHECK(value.it_value.tv_sec > 4900 && value.it_value.tv_sec <= 5000, "ITIMER_VIRTUAL: %ld",
	      (long)value.it_value.tv_sec);
	CHECK(value.it_interval.tv_sec == 7 && value.it_interval.tv_usec == 250000, "ITIMER_VIRTUAL's interval");
	getitimer(ITIMER_PROF, &value);
	CHECK(value.it_value.tv_sec > 5900 && value.it_value.tv_sec <= 6000, "ITIMER_PROF: %ld",
	      (long)value.it_value.tv_sec);
	far(none, "SIGEV_NONE", 9000);
	far(realtime, "CLOCK_REALTIME", 8000);
	far(cputime, "CLOCK_PROCESS_CPUTIME_ID", 7001);
	MUST(timer_gettime(realtime, &left) == 0);
	CHECK(left.it_interval.tv_nsec == 123456789, "interval %ld", left.it_interval.tv_nsec);
	MUST(timer_gettime(disarmed, &left) == 0);
	CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "a disarmed timer runs");
	CHECK(timer_gettime(gone, &left) == -1 && errno == EINVAL, "a deleted timer exists");
	/* They go on firing; a timer that was lost leaves this waiting. */
	now = alarms;
	while (alarms < now + 2)
		usleep(1000);
	now = ticks;
	while (ticks < now + 2)
		usleep(1000);
	now = thread_ticks;
	while (thread_ticks < now + 2)
		usleep(1000);
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
