/* state: users=root,user privilege=none criu=both */
/* The stack: live frames, and pages below the pointer that were touched once. */
#include "memory.h"

/* So that no signal makes the stack grow while its size is compared. */
static __attribute__((noinline)) void touch_below(void)
{
	volatile char below[16 * PAGE];

	for (size_t i = 0; i < sizeof(below); i += PAGE)
		below[i] = 1;
}

static __attribute__((noinline)) unsigned deep(unsigned levels)
{
	volatile char frame[8192];

	fill_pattern((void *)frame, sizeof(frame), levels);
	if (levels == 0) {
		touch_below();
		await_go_in_place();
	} else {
		deep(levels - 1);
	}
	CHECK(pattern_intact((void *)frame, sizeof(frame), levels), "stack frame %u", levels);
	return levels;
}

int main(void)
{
	deep(40);
	return verdict();
}
