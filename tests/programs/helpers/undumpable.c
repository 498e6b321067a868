/*
 * A process that its user may not look into; or, called with the argument `zombie`, one that can be
 * looked into and has such a child, dead.
 */
#include "scene.h"

#include <sys/prctl.h>

static int dies(void *unused UNUSED)
{
	MUST(prctl(PR_SET_DUMPABLE, 0) == 0);
	child_ready();
	return 3;
}

static int parent(void)
{
	pid_t child = spawn(dies, NULL);
	int status = 0;

	until_state(child, 'Z');
	await_go();
	CHECK(waitpid(child, &status, 0) == child && status == 3 << 8, "status %#x", status);
	return verdict();
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "zombie") == 0)
		return parent();
	MUST(prctl(PR_SET_DUMPABLE, 0) == 0);
	await_go();
	CHECK(prctl(PR_GET_DUMPABLE) == 0, "dumpable");
	return verdict();
}
