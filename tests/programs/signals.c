/* Dispositions, masks, alternative stacks and pending signals, of the process and of threads. */
#include "scene.h"

#include <pthread.h>

static char stacks[2][64 * 1024];
static volatile pid_t other_tid;
static volatile int other_leaves;
static volatile int order[16], values[16], received;
static stack_t other_stack;
static sigset_t other_mask, other_pending;
static volatile int other_values[4], other_received;

static void handler(int signal, siginfo_t *info, void *context UNUSED)
{
	char here;

	if (received < 16) {
		order[received] = signal;
		values[received++] = info->si_value.sival_int;
	}
	if (signal == SIGUSR2)
		CHECK(&here >= stacks[0] && &here < stacks[0] + sizeof(stacks[0]),
		      "the handler is not on the alternative stack");
}

static void other_handler(int signal UNUSED, siginfo_t *info, void *context UNUSED)
{
	if (other_received < 4)
		other_values[other_received++] = info->si_value.sival_int;
}

static void queue(pid_t tid, int signal, int value)
{
	siginfo_t info = { .si_signo = signal, .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	MUST(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, signal, &info) == 0);
}

static void *other(void *ready)
{
	stack_t stack = { .ss_sp = stacks[1], .ss_size = sizeof(stacks[1]) };
	sigset_t set;

	MUST(sigaltstack(&stack, NULL) == 0);
	/* Nearly everything, so that what is pending for the process stays so. */
	sigfillset(&set);
	sigdelset(&set, SIGQUIT);
	MUST(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0);
	other_tid = gettid();
	queue(other_tid, SIGRTMIN + 5, 71);
	queue(other_tid, SIGRTMIN + 5, 72);
	pthread_barrier_wait(ready);
	while (!other_leaves)
		syscall(SYS_futex, &other_leaves, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
	sigaltstack(NULL, &other_stack);
	pthread_sigmask(SIG_SETMASK, NULL, &other_mask);
	sigpending(&other_pending);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	int plain = scene_plain(argc, argv);
	stack_t stack = { .ss_sp = stacks[0], .ss_size = sizeof(stacks[0]) }, found;
	struct sigaction action = { .sa_sigaction = handler }, kept;
	pthread_barrier_t ready;
	pthread_t thread;
	union sigval value;
	sigset_t set, before, pending;

	/* Dispositions: a handler with flags and a mask, ignored, default (nohup ignores SIGHUP). */
	signal(SIGHUP, SIG_DFL);
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGINT);
	sigaddset(&action.sa_mask, SIGRTMAX);
	MUST(sigaction(SIGUSR2, &action, NULL) == 0);
	action.sa_flags = SA_SIGINFO;
	sigemptyset(&action.sa_mask);
	for (int i = 0; i < 4; i++)
		sigaddset(&action.sa_mask, SIGRTMIN + i);
	sigaddset(&action.sa_mask, SIGTERM);
	for (int i = 0; i < 4; i++)
		MUST(sigaction(SIGRTMIN + i, &action, NULL) == 0);
	MUST(sigaction(SIGTERM, &action, NULL) == 0);
	action.sa_sigaction = other_handler;
	MUST(sigaction(SIGRTMIN + 5, &action, NULL) == 0);
	MUST(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	MUST(plain || signal(SIGTRAP, SIG_IGN) != SIG_ERR);
	MUST(signal(SIGWINCH, SIG_IGN) != SIG_ERR);
	MUST(sigaltstack(&stack, NULL) == 0);

	/* Pending for the process and for this thread, several of one number, in order. */
	scene_begin();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	for (int i = 0; i < 4; i++)
		sigaddset(&set, SIGRTMIN + i);
	sigaddset(&set, SIGRTMIN + 5);
	sigaddset(&set, SIGALRM);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	MUST(kill(getpid(), SIGTERM) == 0);
	for (int i = 0; i < 3; i++) {
		value.sival_int = 100 + i;
		MUST(sigqueue(getpid(), SIGRTMIN + 1, value) == 0);
	}
	queue(gettid(), SIGRTMIN + 2, 200);
	queue(gettid(), SIGRTMIN + 2, 201);
	value.sival_int = 300;
	MUST(sigqueue(getpid(), SIGRTMIN, value) == 0);

	pthread_barrier_init(&ready, NULL, 2);
	MUST(pthread_create(&thread, NULL, other, &ready) == 0);
	pthread_barrier_wait(&ready);
	sigprocmask(SIG_BLOCK, NULL, &before);
	say_ready();
	scene_wait();

	sigprocmask(SIG_BLOCK, NULL, &set);
	CHECK(memcmp(&set, &before, 8) == 0, "the mask differs");
	MUST(sigaltstack(NULL, &found) == 0);
	CHECK(found.ss_sp == stack.ss_sp && found.ss_size == stack.ss_size && found.ss_flags == 0,
	      "the alternative stack differs");
	sigaction(SIGUSR2, NULL, &kept);
	CHECK(kept.sa_sigaction == handler &&
		      (kept.sa_flags & ~0x04000000) == (SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER),
	      "flags %#x", kept.sa_flags);
	CHECK(sigismember(&kept.sa_mask, SIGINT) && sigismember(&kept.sa_mask, SIGRTMAX) &&
		      !sigismember(&kept.sa_mask, SIGQUIT),
	      "the mask of a handler differs");
	sigaction(SIGPIPE, NULL, &kept);
	CHECK(kept.sa_handler == SIG_IGN, "SIGPIPE is not ignored");
	sigaction(SIGTRAP, NULL, &kept);
	CHECK(plain || kept.sa_handler == SIG_IGN, "SIGTRAP is not ignored");
	sigaction(SIGHUP, NULL, &kept);
	CHECK(kept.sa_handler == SIG_DFL, "SIGHUP is not at its default");
	sigpending(&pending);
	CHECK(sigismember(&pending, SIGTERM) && sigismember(&pending, SIGRTMIN) &&
		      sigismember(&pending, SIGRTMIN + 1) && sigismember(&pending, SIGRTMIN + 2),
	      "a pending signal is lost");
	CHECK(!sigismember(&pending, SIGHUP) && !sigismember(&pending, SIGRTMIN + 3) &&
		      !sigismember(&pending, SIGRTMIN + 5) && !sigismember(&pending, SIGCHLD),
	      "a signal is pending that nobody sent");

	/* Each is taken by itself, so that the order within one number shows. */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	for (int i = 0; i < 3; i++) {
		siginfo_t info;
		struct timespec now = { 0, 0 };
		CHECK(sigtimedwait(&set, &info, &now) == SIGRTMIN + 1 && info.si_value.sival_int == 100 + i &&
			      info.si_code == SI_QUEUE && info.si_pid == getpid() && info.si_uid == getuid(),
		      "value %d where %d belongs", info.si_value.sival_int, 100 + i);
	}
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 2);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	CHECK(received == 4, "%d signals arrive", received);
	for (int i = 0, private = 200; i < received; i++)
		if (order[i] == SIGRTMIN + 2)
			CHECK(values[i] == private++, "value %d", values[i]);
	received = 0;
	CHECK(raise(SIGUSR2) == 0 && received == 1, "the handler runs %d times", received);

	other_leaves = 1;
	syscall(SYS_futex, &other_leaves, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	CHECK(other_stack.ss_sp == stacks[1] && other_stack.ss_size == sizeof(stacks[1]),
	      "the thread's alternative stack differs");
	CHECK(sigismember(&other_mask, SIGHUP) && sigismember(&other_mask, SIGRTMIN + 5) &&
		      !sigismember(&other_mask, SIGQUIT),
	      "the thread's mask differs");
	CHECK(sigismember(&other_pending, SIGRTMIN + 5), "the thread's pending signal is lost");
	CHECK(other_received == 2 && other_values[0] == 71 && other_values[1] == 72,
	      "the thread gets %d signals: %d, %d", other_received, other_values[0], other_values[1]);
	CHECK(gettid() == getpid() && other_tid != getpid(), "thread ids");
	return verdict();
}
