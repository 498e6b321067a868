/* state: users=root,user privilege=none criu=both also=set_user_id,self_dump */
/* Pending signals of the process and of threads, several of one number, in order, with values. */
#include "scene.h"

#include <pthread.h>

static volatile pid_t other_tid;
static volatile int other_leaves;
static volatile int order[16], values[16], received;
static sigset_t other_pending;
static volatile int other_values[4], other_received;

static void handler(int signal, siginfo_t *info, void *context UNUSED)
{
	if (received < 16) {
		order[received] = signal;
		values[received++] = info->si_value.sival_int;
	}
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
	sigset_t set;

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
	sigpending(&other_pending);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return NULL;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	pthread_barrier_t ready;
	pthread_t thread;
	union sigval value;
	sigset_t set, pending;

	sigemptyset(&action.sa_mask);
	for (int i = 0; i < 4; i++)
		sigaddset(&action.sa_mask, SIGRTMIN + i);
	sigaddset(&action.sa_mask, SIGTERM);
	for (int i = 0; i < 4; i++)
		MUST(sigaction(SIGRTMIN + i, &action, NULL) == 0);
	MUST(sigaction(SIGTERM, &action, NULL) == 0);
	action.sa_sigaction = other_handler;
	MUST(sigaction(SIGRTMIN + 5, &action, NULL) == 0);

	/* For the process and for this thread. */
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
	say_ready();
	scene_wait();

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

	other_leaves = 1;
	syscall(SYS_futex, &other_leaves, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	CHECK(sigismember(&other_pending, SIGRTMIN + 5), "the thread's pending signal is lost");
	CHECK(other_received == 2 && other_values[0] == 71 && other_values[1] == 72,
	      "the thread gets %d signals: %d, %d", other_received, other_values[0], other_values[1]);
	return verdict();
}
