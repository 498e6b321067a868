/* state: users=root,user privilege=none criu=both also=leave_running,by_rpc */
/* A hundred processes, three deep, each with memory and a pipe of its own. */
#include "scene.h"

#define FIRST 9
#define SECOND 10

static int leaf(void *number)
{
	char pattern[5000];
	unsigned seed = (unsigned)(intptr_t)number;
	int ends[2];

	fill_pattern(pattern, sizeof(pattern), seed);
	MUST(pipe(ends) == 0);
	MUST(write(ends[1], &seed, sizeof(seed)) == sizeof(seed));
	child_await_go();
	CHECK(pattern_intact(pattern, sizeof(pattern), seed), "memory of leaf %u", seed);
	CHECK(read(ends[0], &seed, sizeof(seed)) == sizeof(seed) && seed == (unsigned)(intptr_t)number, "leaf %u", seed);
	return verdict();
}

static int branch(void *number)
{
	pid_t pids[SECOND];

	for (int i = 0; i < SECOND; i++)
		pids[i] = spawn(leaf, (void *)((intptr_t)number * 100 + i));
	child_await_go();
	for (int i = 0; i < SECOND; i++)
		child_verdict(pids[i]);
	return verdict();
}

int main(void)
{
	pid_t pids[FIRST];

	for (int i = 0; i < FIRST; i++)
		pids[i] = spawn(branch, (void *)(intptr_t)i);
	await_go();
	for (int i = 0; i < FIRST; i++)
		child_verdict(pids[i]);
	return verdict();
}
