/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Shared memory of a tree: one object for all who have it, whatever part they have mapped. */
#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define LENGTH (64 * PAGE)

static char *shared, *second, *devzero;
static volatile int *word;

static int child(void *which)
{
	int i = (int)(intptr_t)which;

	if (i == 1) {
		/* A part of it, at another place, read-only. */
		char *moved = mremap(shared, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, shared + (1ul << 32));
		MUST(moved != MAP_FAILED);
		shared = moved;
		MUST(munmap(shared, 8 * PAGE) == 0);
		MUST(mprotect(shared + 8 * PAGE, 8 * PAGE, PROT_READ) == 0);
	}
	child_await_go();
	CHECK(pattern_intact(shared + 16 * PAGE, 8 * PAGE, 2), "child %d: contents", i);
	CHECK(shared[30 * PAGE] == 0x11, "child %d does not see what the parent wrote", i);
	CHECK(second[0] == 0x22, "child %d: the second object", i);
	CHECK(devzero[0] == 0x33, "child %d: /dev/zero", i);
	shared[(40 + i) * PAGE] = 0x40 + i;
	__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	return verdict();
}

int main(void)
{
	pid_t pids[3];
	int fd;

	shared = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	second = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fd = TRY(open("/dev/zero", O_RDWR | O_CLOEXEC));
	devzero = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	MUST(shared != MAP_FAILED && second != MAP_FAILED && devzero != MAP_FAILED);
	word = (volatile int *)(second + 64);
	fill_pattern(shared + 16 * PAGE, 8 * PAGE, 2);
	for (int i = 0; i < 3; i++)
		pids[i] = spawn(child, (void *)(intptr_t)i);

	await_go();

	shared[30 * PAGE] = 0x11;
	second[0] = 0x22;
	devzero[0] = 0x33;
	for (int i = 0; i < 3; i++)
		child_verdict(pids[i]);
	for (int i = 0; i < 3; i++)
		CHECK(shared[(40 + i) * PAGE] == 0x40 + i, "what child %d wrote is not here", i);
	CHECK(*word == 3, "%d children counted", *word);
	CHECK(shared[50 * PAGE] == 0 && shared[0] == 0, "untouched pages");
	return verdict();
}
