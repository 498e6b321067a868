/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A stopped child stays stopped, and goes on when it is continued. */
#include "kin.h"

static int stopped(void *unused UNUSED)
{
	child_ready();
	kill(getpid(), SIGSTOP);
	return 42;
}

int main(void)
{
	pid_t pid = spawn(stopped, NULL);
	int status;

	until_state(pid, 'T');
	await_go();
	/* The stop may be on its way still when the restore ends; one that was lost leaves this waiting. */
	until_state(pid, 'T');
	CHECK(kill(pid, SIGCONT) == 0, "SIGCONT: %s", strerror(errno));
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42,
	      "the stopped child ended with %#x", status);
	no_child_is_left();
	return verdict();
}
