/* state: users=root,user privilege=none criu=both also=set_user_id */
/* timerfd: far away by either clock, periodic, expired, and at rest. */
#include "events.h"

#include <sys/timerfd.h>

int main(void)
{
	int monotonic, absolute, periodic, expired, stopped, epoll;
	struct itimerspec spec = { { 3, 500 }, { 4000, 0 } };
	uint64_t ticks;

	monotonic = TRY(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	MUST(timerfd_settime(monotonic, 0, &spec, NULL) == 0);
	absolute = TRY(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	clock_gettime(CLOCK_REALTIME, &spec.it_value);
	spec.it_value.tv_sec += 6000;
	MUST(timerfd_settime(absolute, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
	periodic = TRY(timerfd_create(CLOCK_BOOTTIME, 0));
	spec = (struct itimerspec){ { 0, 20000000 }, { 0, 20000000 } };
	MUST(timerfd_settime(periodic, 0, &spec, NULL) == 0);
	expired = TRY(timerfd_create(CLOCK_MONOTONIC, 0));
	spec = (struct itimerspec){ { 0, 0 }, { 0, 1 } };
	MUST(timerfd_settime(expired, 0, &spec, NULL) == 0);
	stopped = TRY(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	epoll = TRY(epoll_create1(EPOLL_CLOEXEC));
	add(epoll, stopped, EPOLLIN, 0x3);

	await_go();

	MUST(timerfd_gettime(monotonic, &spec) == 0);
	CHECK(spec.it_value.tv_sec > 3000 && spec.it_value.tv_sec < 4000 && spec.it_interval.tv_sec == 3 &&
		      spec.it_interval.tv_nsec == 500,
	      "timerfd: %ld seconds left", (long)spec.it_value.tv_sec);
	CHECK(fcntl(monotonic, F_GETFD) == FD_CLOEXEC, "close-on-exec of a timerfd");
	MUST(timerfd_gettime(absolute, &spec) == 0);
	CHECK(spec.it_value.tv_sec > 5000 && spec.it_value.tv_sec < 6001, "absolute timerfd: %ld seconds left",
	      (long)spec.it_value.tv_sec);
	for (int i = 0; i < 3; i++)
		CHECK(read(periodic, &ticks, 8) == 8 && ticks >= 1, "periodic timerfd: %lu", (unsigned long)ticks);
	CHECK(read(expired, &ticks, 8) == 8 && ticks == 1, "expired timerfd: %lu", (unsigned long)ticks);
	CHECK(read(stopped, &ticks, 8) == -1 && errno == EAGAIN, "a stopped timerfd has expired");
	spec = (struct itimerspec){ { 0, 0 }, { 0, 1 } };
	MUST(timerfd_settime(stopped, 0, &spec, NULL) == 0);
	CHECK(ready_within(epoll, 3, -1), "epoll over a timerfd");
	MUST(read(stopped, &ticks, 8) == 8);
	return verdict();
}
