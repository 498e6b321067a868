/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Dispositions: a handler with flags and a mask, ignored signals, the default. */
#include "scene.h"

static char stack_memory[64 * 1024];
static volatile int received;

static void handler(int signal UNUSED, siginfo_t *info UNUSED, void *context UNUSED)
{
	char here;

	received++;
	CHECK(&here >= stack_memory && &here < stack_memory + sizeof(stack_memory),
	      "the handler is not on the alternative stack");
}

int main(void)
{
	stack_t stack = { .ss_sp = stack_memory, .ss_size = sizeof(stack_memory) };
	struct sigaction action = { .sa_sigaction = handler }, kept;

	/* nohup ignores SIGHUP. */
	signal(SIGHUP, SIG_DFL);
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGINT);
	sigaddset(&action.sa_mask, SIGRTMAX);
	MUST(sigaction(SIGUSR2, &action, NULL) == 0);
	MUST(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	MUST(signal(SIGWINCH, SIG_IGN) != SIG_ERR);
	MUST(sigaltstack(&stack, NULL) == 0);

	await_go();

	sigaction(SIGUSR2, NULL, &kept);
	CHECK(kept.sa_sigaction == handler &&
		      (kept.sa_flags & ~0x04000000) == (SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER),
	      "flags %#x", kept.sa_flags);
	CHECK(sigismember(&kept.sa_mask, SIGINT) && sigismember(&kept.sa_mask, SIGRTMAX) &&
		      !sigismember(&kept.sa_mask, SIGQUIT),
	      "the mask of a handler differs");
	sigaction(SIGPIPE, NULL, &kept);
	CHECK(kept.sa_handler == SIG_IGN, "SIGPIPE is not ignored");
	sigaction(SIGWINCH, NULL, &kept);
	CHECK(kept.sa_handler == SIG_IGN, "SIGWINCH is not ignored");
	sigaction(SIGHUP, NULL, &kept);
	CHECK(kept.sa_handler == SIG_DFL, "SIGHUP is not at its default");
	CHECK(raise(SIGUSR2) == 0 && received == 1, "the handler runs %d times", received);
	return verdict();
}
