/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Masks and alternative stacks, of the process and of a thread. */
#include "scene.h"

#include <pthread.h>

static char stacks[2][64 * 1024];
static volatile pid_t other_tid;
static volatile int other_leaves;
static stack_t other_stack;
static sigset_t other_mask;

static void *other(void *ready)
{
	stack_t stack = { .ss_sp = stacks[1], .ss_size = sizeof(stacks[1]) };
	sigset_t set;

	MUST(sigaltstack(&stack, NULL) == 0);
	sigfillset(&set);
	sigdelset(&set, SIGQUIT);
	MUST(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0);
	other_tid = gettid();
	pthread_barrier_wait(ready);
	while (!other_leaves)
		syscall(SYS_futex, &other_leaves, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
	sigaltstack(NULL, &other_stack);
	pthread_sigmask(SIG_SETMASK, NULL, &other_mask);
	return NULL;
}

int main(void)
{
	stack_t stack = { .ss_sp = stacks[0], .ss_size = sizeof(stacks[0]) }, found;
	pthread_barrier_t ready;
	pthread_t thread;
	sigset_t set, before;

	MUST(sigaltstack(&stack, NULL) == 0);
	scene_begin();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	for (int i = 0; i < 4; i++)
		sigaddset(&set, SIGRTMIN + i);
	sigaddset(&set, SIGRTMIN + 5);
	sigaddset(&set, SIGALRM);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
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
	other_leaves = 1;
	syscall(SYS_futex, &other_leaves, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	CHECK(other_stack.ss_sp == stacks[1] && other_stack.ss_size == sizeof(stacks[1]),
	      "the thread's alternative stack differs");
	CHECK(sigismember(&other_mask, SIGHUP) && sigismember(&other_mask, SIGRTMIN + 5) &&
		      !sigismember(&other_mask, SIGQUIT),
	      "the thread's mask differs");
	CHECK(gettid() == getpid() && other_tid != getpid(), "thread ids");
	return verdict();
}
