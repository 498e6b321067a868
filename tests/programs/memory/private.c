/* state: users=root,user privilege=none criu=both */
/* Private memory: all of it, every seventh page, none; that none comes into being. */
#include "memory.h"

int main(void)
{
	char *full, *sparse, *untouched;
	unsigned char resident[64];

	full = map(8 * MIB, PROT_READ | PROT_WRITE, 0);
	fill_pattern(full, 8 * MIB, 3);
	sparse = map(4 * MIB, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	for (size_t i = 0; i < 4 * MIB; i += 7 * PAGE)
		fill_pattern(sparse + i, PAGE, i);
	untouched = map(64 * PAGE, PROT_READ | PROT_WRITE, 0);

	await_go_in_place();

	CHECK(pattern_intact(full, 8 * MIB, 3), "a full mapping");
	for (size_t i = 0; i < 4 * MIB; i += PAGE)
		CHECK(i % (7 * PAGE) ? sparse[i] == 0 && sparse[i + 100] == 0 : pattern_intact(sparse + i, PAGE, i),
		      "sparse page %lu", i / PAGE);
	MUST(mincore(untouched, 64 * PAGE, resident) == 0);
	for (int i = 0; i < 64; i++)
		CHECK(!(resident[i] & 1), "page %d came into being", i);
	CHECK(has_flag(sparse, " nr"), "MAP_NORESERVE is lost");
	return verdict();
}
