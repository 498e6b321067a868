/* state: users=root,user privilege=none criu=both */
/* Initialised, uninitialised and constant data. */
#include "memory.h"

static char data[3 * 4096] = "initialised";
static char zeroes[64 * 4096];
static const char constant[] = "read-only";

int main(void)
{
	fill_pattern(data + 4096, 8192, 1);
	fill_pattern(zeroes + 10 * PAGE, PAGE, 2);
	await_go_in_place();
	CHECK(strcmp(data, "initialised") == 0 && pattern_intact(data + 4096, 8192, 1), "data");
	CHECK(zeroes[0] == 0 && zeroes[sizeof(zeroes) - 1] == 0 && pattern_intact(zeroes + 10 * PAGE, PAGE, 2),
	      "uninitialised data");
	CHECK(strcmp(constant, "read-only") == 0, "constant data");
	return verdict();
}
