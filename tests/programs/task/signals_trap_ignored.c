/* state: users=root,user privilege=none criu=no(its own traps reset the disposition) also=set_user_id */
/* SIGTRAP is ignored, which is the signal that tracers use. */
#include "scene.h"

int main(void)
{
	struct sigaction kept;

	MUST(signal(SIGTRAP, SIG_IGN) != SIG_ERR);
	await_go();
	sigaction(SIGTRAP, NULL, &kept);
	CHECK(kept.sa_handler == SIG_IGN, "SIGTRAP is not ignored");
	return verdict();
}
