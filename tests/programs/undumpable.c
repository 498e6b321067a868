/* A process that its user may not look into. */
#include "scene.h"

#include <sys/prctl.h>

int main(void)
{
	MUST(prctl(PR_SET_DUMPABLE, 0) == 0);
	await_go();
	CHECK(prctl(PR_GET_DUMPABLE) == 0, "dumpable");
	return verdict();
}
