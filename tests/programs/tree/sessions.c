/* state: users=root,user privilege=none criu=both also=set_user_id,self_dump,by_rpc */
/* A child, and one that leads a session of its own and has a child in it. */
#include "kin.h"

static int plain(void *unused UNUSED)
{
	struct place own = here();

	child_await_go();
	same_place(own, "plain child");
	return verdict();
}

static int session_leader(void *unused UNUSED)
{
	struct place own;
	pid_t inner;

	MUST(setsid() == getpid());
	own = here();
	inner = spawn(plain, NULL);
	child_await_go();
	same_place(own, "session leader");
	child_verdict(inner);
	return verdict();
}

int main(void)
{
	struct place own = here();
	pid_t leader = spawn(session_leader, NULL), child = spawn(plain, NULL);

	await_go();
	same_place_of_root(own);
	child_verdict(leader);
	child_verdict(child);
	no_child_is_left();
	return verdict();
}
