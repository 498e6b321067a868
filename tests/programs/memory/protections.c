/* state: users=root,user privilege=none criu=both */
/* Protections: none, read-only, executable; and a mapping torn into parts, with a hole in it. */
#include "memory.h"

int main(void)
{
	char *hidden, *readable, *executable, *split;

	hidden = map(16 * PAGE, PROT_READ | PROT_WRITE, 0);
	fill_pattern(hidden, 16 * PAGE, 4);
	MUST(mprotect(hidden, 16 * PAGE, PROT_NONE) == 0);
	readable = map(16 * PAGE, PROT_READ | PROT_WRITE, 0);
	fill_pattern(readable, 16 * PAGE, 5);
	MUST(mprotect(readable, 16 * PAGE, PROT_READ) == 0);
	executable = map(PAGE, PROT_READ | PROT_WRITE, 0);
	memcpy(executable, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov $42, %eax; ret */
	MUST(mprotect(executable, PAGE, PROT_READ | PROT_EXEC) == 0);
	split = map(9 * PAGE, PROT_READ | PROT_WRITE, 0);
	fill_pattern(split, 9 * PAGE, 6);
	MUST(mprotect(split + 2 * PAGE, PAGE, PROT_READ) == 0);
	MUST(mprotect(split + 4 * PAGE, PAGE, PROT_NONE) == 0);
	MUST(munmap(split + 6 * PAGE, PAGE) == 0);

	await_go_in_place();

	MUST(mprotect(hidden, 16 * PAGE, PROT_READ) == 0);
	CHECK(pattern_intact(hidden, 16 * PAGE, 4), "memory without access");
	CHECK(pattern_intact(readable, 16 * PAGE, 5), "read-only memory");
	CHECK(((int (*)(void))executable)() == 42, "executable memory");
	MUST(mprotect(split + 4 * PAGE, PAGE, PROT_READ) == 0);
	CHECK(pattern_intact(split, 6 * PAGE, 6), "a split mapping");
	return verdict();
}
