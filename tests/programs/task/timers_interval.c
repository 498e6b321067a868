/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Interval timers: what is left of them, their intervals, that they fire. */
#include "scene.h"

#include <sys/time.h>

static volatile int alarms;

static void on_alarm(int signal UNUSED)
{
	alarms++;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval value = { { 0, 20000 }, { 0, 20000 } };
	int now;

	MUST(sigaction(SIGALRM, &action, NULL) == 0);
	MUST(setitimer(ITIMER_REAL, &value, NULL) == 0);
	value.it_value.tv_sec = 5000;
	value.it_interval.tv_sec = 7;
	value.it_interval.tv_usec = 250000;
	MUST(setitimer(ITIMER_VIRTUAL, &value, NULL) == 0);
	value.it_value.tv_sec = 6000;
	MUST(setitimer(ITIMER_PROF, &value, NULL) == 0);

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
	/* It goes on firing; a timer that was lost leaves this waiting. */
	now = alarms;
	while (alarms < now + 2)
		sched_yield();
	return verdict();
}
