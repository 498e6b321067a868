/* Descriptors of events: eventfd, signalfd, timerfd, and epoll over them. */
#include "scene.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int ready_within(int epoll, uint64_t wanted, int milliseconds)
{
	struct epoll_event events[16];
	int count = epoll_wait(epoll, events, 16, milliseconds);

	for (int i = 0; i < count; i++)
		if (events[i].data.u64 == wanted)
			return 1;
	return 0;
}

static void add(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data = { .u64 = data } };

	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

static int shared_epoll, shared_event;

static int child(void *unused UNUSED)
{
	child_await_go();
	CHECK(eventfd_write(shared_event, 5) == 0, "eventfd: %s", strerror(errno));
	CHECK(ready_within(shared_epoll, 0x5555, -1), "the child's epoll is not ready");
	return verdict();
}

int main(int argc, char **argv)
{
	int plain = scene_plain(argc, argv);
	int counter, semaphore, huge, signals, monotonic, absolute, periodic, expired, stopped, epoll, outer, closed, pipe_ends[2];
	struct itimerspec spec = { { 3, 500 }, { 4000, 0 } };
	struct signalfd_siginfo info;
	eventfd_t value;
	uint64_t ticks;
	sigset_t set;
	pid_t pid;

	counter = TRY(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK));
	semaphore = TRY(eventfd(3, plain ? 0 : EFD_SEMAPHORE));
	huge = TRY(eventfd(0, 0));
	/* CRIU keeps 32 bits of it. */
	eventfd_t most = plain ? 0xfffffffeull : 0xfffffffffffffffeull;
	MUST(eventfd_write(huge, most) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGTERM);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	signals = TRY(signalfd(-1, &set, SFD_NONBLOCK));
	MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 12 }) == 0);
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
	add(epoll, semaphore, EPOLLIN, 0x1111111122222222);
	add(epoll, stopped, EPOLLIN, 0x3);
	MUST(pipe(pipe_ends) == 0);
	add(epoll, pipe_ends[0], EPOLLIN | EPOLLET, 0x4);
	add(epoll, pipe_ends[1], EPOLLIN | EPOLLONESHOT, 0x5);
	outer = TRY(epoll_create1(0));
	add(outer, epoll, EPOLLIN, 0x77);
	/* A target under a number that is closed: the epoll keeps it alive under the other one. */
	closed = TRY(fcntl(counter, F_DUPFD, 90));
	add(outer, closed, EPOLLIN, 0x88);
	close(closed);
	shared_epoll = TRY(epoll_create1(0));
	shared_event = TRY(eventfd(0, 0));
	add(shared_epoll, shared_event, EPOLLIN, 0x5555);
	pid = spawn(child, NULL);

	await_go();

	CHECK(fcntl(counter, F_GETFD) == FD_CLOEXEC && (fcntl(counter, F_GETFL) & O_NONBLOCK), "flags of an eventfd");
	CHECK(ready_within(outer, 0x88, 0), "a target with a closed number is lost");
	CHECK(eventfd_read(counter, &value) == 0 && value == 7, "eventfd holds %lu", (unsigned long)value);
	CHECK(eventfd_read(counter, &value) == -1 && errno == EAGAIN, "eventfd is not empty");
	CHECK(ready_within(epoll, 0x1111111122222222, 0), "the epoll is not ready");
	CHECK(ready_within(outer, 0x77, 0), "the outer epoll is not ready");
	for (int i = 0; i < (plain ? 1 : 3); i++)
		CHECK(eventfd_read(semaphore, &value) == 0 && value == (plain ? 3 : 1), "semaphore gives %lu",
		      (unsigned long)value);
	CHECK(!ready_within(epoll, 0x1111111122222222, 0), "the epoll is still ready");
	CHECK(eventfd_read(huge, &value) == 0 && value == most, "eventfd holds %lx",
	      (unsigned long)value);
	CHECK(read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == (unsigned)SIGRTMIN + 3 &&
		      info.ssi_int == 12,
	      "signalfd: signal %u, value %d", info.ssi_signo, info.ssi_int);
	MUST(kill(getpid(), SIGTERM) == 0);
	CHECK(read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGTERM, "signalfd's mask");
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
	MUST(write(pipe_ends[1], "x", 1) == 1);
	MUST(read(stopped, &ticks, 8) == 8);
	CHECK(ready_within(epoll, 4, -1), "epoll over a pipe");
	CHECK(!ready_within(epoll, 4, 0), "an edge is told twice");
	child_verdict(pid);
	CHECK(eventfd_read(shared_event, &value) == 0 && value == 5, "a child's eventfd: %lu", (unsigned long)value);
	return verdict();
}
