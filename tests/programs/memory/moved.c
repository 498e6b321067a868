/* state: users=root,user privilege=none criu=both */
/* Moved memory: the offset within the mapping no longer follows from the address. */
#include "memory.h"

int main(void)
{
	char *moved = map(8 * PAGE, PROT_READ | PROT_WRITE, 0), *target = map(64 * PAGE, PROT_NONE, 0);
	char *expected = malloc(8 * PAGE);

	fill_pattern(expected, 8 * PAGE, 2);
	fill_pattern(moved, 8 * PAGE, 2);
	moved = mremap(moved + 2 * PAGE, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + 10 * PAGE);
	MUST(moved != MAP_FAILED);
	await_go();
	CHECK(memcmp(moved, expected + 2 * PAGE, 4 * PAGE) == 0 && moved[5 * PAGE] == 0, "moved memory");
	return verdict();
}
