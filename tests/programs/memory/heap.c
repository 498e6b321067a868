/* state: users=root,user privilege=none criu=both */
/* The heap: its contents, and that it grows and shrinks from where it ends. */
#include "memory.h"

int main(void)
{
	char *heap = sbrk(3 * MIB), *top;

	MUST(heap != (void *)-1);
	fill_pattern(heap, 3 * MIB, 7);
	top = sbrk(0);

	await_go_in_place();

	/* First, because the C library allocates too. */
	CHECK(sbrk(0) == top, "the break was %p, is %p", top, sbrk(0));
	CHECK(sbrk(MIB) == top, "the heap cannot grow");
	memset(top, 1, MIB);
	CHECK(brk(top) == 0, "the heap cannot shrink");
	CHECK(pattern_intact(heap, 3 * MIB, 7), "the heap");
	return verdict();
}
