/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A process group that lives on without its leader. */
#include "kin.h"

static pid_t group;

static int group_leader(void *unused UNUSED)
{
	MUST(setpgid(0, 0) == 0);
	child_ready();
	raise(SIGSTOP);
	return 0;
}

static int member(void *unused UNUSED)
{
	struct place own;

	MUST(setpgid(0, group) == 0);
	own = here();
	child_await_go();
	same_place(own, "member of a dead leader's group");
	return verdict();
}

int main(void)
{
	struct place own = here();
	pid_t first, second;

	group = spawn(group_leader, NULL);
	until_state(group, 'T');
	first = spawn(member, NULL);
	second = spawn(member, NULL);
	kill(group, SIGKILL);
	MUST(waitpid(group, NULL, 0) == group);
	await_go();
	same_place_of_root(own);
	child_verdict(first);
	child_verdict(second);
	no_child_is_left();
	return verdict();
}
