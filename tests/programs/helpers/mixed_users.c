/* A process of the user whose number is given, with a child that is still root's. */
#include "scene.h"

#include <sys/prctl.h>

static int roots_own(void *unused UNUSED)
{
	child_await_go();
	return verdict();
}

int main(int argc, char **argv)
{
	uid_t user = argc > 1 ? atoi(argv[1]) : 0;

	spawn(roots_own, NULL);
	MUST(setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0);
	MUST(prctl(PR_SET_DUMPABLE, 1) == 0);
	await_go();
	return verdict();
}
