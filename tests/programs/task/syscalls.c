/* state: users=root,user privilege=none criu=both also=leave_running,self_dump */
/*
 * Interrupted system calls of each class go on as if nothing had been: a thread sits in each of
 * them while the tree is dumped.
 */
#include "scene.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum { READER, POLLER, POLLER_TIMED, EPOLLER, SELECTOR, FUTEX, FUTEX_TIMED, SLEEPER, SLEEPER_UNTIL,
       PAUSER, WAITER, CHILDLESS, COUNT };

static struct {
	volatile pid_t tid;
	volatile int returned;
	long result;
	int error;
	double seconds;
} calls[COUNT];
static int pipes[COUNT][2];
static int words[COUNT];
static pid_t child_pid;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static long perform(int which)
{
	struct timespec second = { 1, 500000000 }, hour = { 3600, 0 }, until;
	struct pollfd poll_one = { pipes[which][0], POLLIN, 0 };
	struct epoll_event event = { .events = EPOLLIN };
	sigset_t set;
	fd_set fds;
	char byte;

	switch (which) {
	case READER:
		return syscall(SYS_read, pipes[which][0], &byte, 1);
	case POLLER:
		return syscall(SYS_poll, &poll_one, 1, -1);
	case POLLER_TIMED:
		return syscall(SYS_poll, &poll_one, 1, 3600 * 1000);
	case EPOLLER:
		return syscall(SYS_epoll_wait, words[which], &event, 1, -1);
	case SELECTOR:
		FD_ZERO(&fds);
		FD_SET(pipes[which][0], &fds);
		return syscall(SYS_select, pipes[which][0] + 1, &fds, NULL, NULL, NULL);
	case FUTEX:
		return syscall(SYS_futex, &words[which], FUTEX_WAIT, 0, NULL, NULL, 0);
	case FUTEX_TIMED:
		return syscall(SYS_futex, &words[which], FUTEX_WAIT, 0, &hour, NULL, 0);
	case SLEEPER:
		return syscall(SYS_nanosleep, &second, &second);
	case SLEEPER_UNTIL:
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += 2;
		return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	case PAUSER:
		return syscall(SYS_pause);
	case WAITER:
		sigemptyset(&set);
		sigaddset(&set, SIGRTMIN);
		return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8);
	default:
		return syscall(SYS_wait4, child_pid, NULL, 0, NULL);
	}
}

static void *body(void *argument)
{
	int which = (int)(intptr_t)argument;
	double begun = now();

	calls[which].tid = gettid();
	calls[which].result = perform(which);
	calls[which].error = errno;
	calls[which].seconds = now() - begun;
	calls[which].returned = 1;
	return NULL;
}

static int child(void *unused UNUSED)
{
	child_await_go();
	return 0;
}

static void nothing(int signal UNUSED)
{
}

int main(void)
{
	static const long numbers[COUNT] = {
		SYS_read, SYS_poll, SYS_poll, SYS_epoll_wait, SYS_select, SYS_futex, SYS_futex,
		SYS_nanosleep, SYS_clock_nanosleep, SYS_pause, SYS_rt_sigtimedwait, SYS_wait4,
	};
	static const char *const names[COUNT] = {
		"read", "poll", "poll with a timeout", "epoll_wait", "select", "futex",
		"futex with a timeout", "nanosleep", "clock_nanosleep until", "pause", "sigtimedwait", "wait4",
	};
	struct sigaction action = { .sa_handler = nothing };
	pthread_t threads[COUNT];
	sigset_t set;

	scene_begin();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	MUST(sigaction(SIGUSR2, &action, NULL) == 0);
	child_pid = spawn(child, NULL);
	for (int i = 0; i < COUNT; i++)
		MUST(pipe2(pipes[i], O_CLOEXEC) == 0);
	words[EPOLLER] = TRY(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN };
	MUST(epoll_ctl(words[EPOLLER], EPOLL_CTL_ADD, pipes[EPOLLER][0], &event) == 0);
	for (int i = 0; i < COUNT; i++) {
		MUST(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i) == 0);
		while (!calls[i].tid)
			sched_yield();
		until_in_syscall(calls[i].tid, numbers[i]);
	}
	say_ready();
	scene_wait();

	for (int i = 0; i < COUNT; i++)
		if (i != SLEEPER && i != SLEEPER_UNTIL)
			CHECK(!calls[i].returned, "%s returned %ld (%s)", names[i], calls[i].result,
			      strerror(calls[i].error));
	/* What each of them waits for. */
	for (int i = READER; i <= SELECTOR; i++)
		MUST(write(pipes[i][1], "x", 1) == 1);
	for (int i = FUTEX; i <= FUTEX_TIMED; i++) {
		/* Not before it waits again: it may be on its way back into the kernel. */
		while (syscall(SYS_futex, &words[i], FUTEX_WAKE, 1, NULL, NULL, 0) == 0 && !calls[i].returned)
			sched_yield();
	}
	while (!calls[PAUSER].returned) {
		syscall(SYS_tgkill, getpid(), calls[PAUSER].tid, SIGUSR2);
		usleep(1000);
	}
	MUST(kill(getpid(), SIGRTMIN) == 0);
	MUST(kill(child_pid, SIGUSR1) == 0);
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], NULL);

	for (int i = 0; i < COUNT; i++) {
		long expected = i == FUTEX || i == FUTEX_TIMED || i == SLEEPER || i == SLEEPER_UNTIL ? 0 :
				i == PAUSER ? -1 :
				i == WAITER ? SIGRTMIN :
				i == CHILDLESS ? child_pid : 1;
		CHECK(calls[i].result == expected, "%s returned %ld (%s)", names[i], calls[i].result,
		      strerror(calls[i].error));
	}
	CHECK(calls[PAUSER].error == EINTR, "pause: %s", strerror(calls[PAUSER].error));
	CHECK(calls[SLEEPER].seconds >= 1.49, "nanosleep took %f seconds", calls[SLEEPER].seconds);
	CHECK(calls[SLEEPER_UNTIL].seconds >= 1.99, "clock_nanosleep took %f seconds",
	      calls[SLEEPER_UNTIL].seconds);
	return verdict();
}
