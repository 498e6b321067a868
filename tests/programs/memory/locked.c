/* state: users=root,user privilege=none criu=both */
/* Locked memory. */
#include "memory.h"

int main(void)
{
	char *locked = map(16 * PAGE, PROT_READ | PROT_WRITE, 0), before[64];

	MUST(mlock(locked, 8 * PAGE) == 0);
	fill_pattern(locked, 16 * PAGE, 1);
	snprintf(before, sizeof(before), "%s", status_field(getpid(), "VmLck"));
	await_go();
	CHECK(pattern_intact(locked, 16 * PAGE, 1), "locked memory");
	CHECK(strcmp(before, status_field(getpid(), "VmLck")) == 0, "locked were %s, are %s", before,
	      status_field(getpid(), "VmLck"));
	return verdict();
}
