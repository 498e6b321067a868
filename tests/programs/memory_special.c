/* Locked and moved memory, and the vDSO: it answers, from its old address. */
#include "scene.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>

#define PAGE 4096ul

int main(void)
{
	char *locked, *moved, *target, *big, mlock_before[64];
	unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
	struct timespec before, after, direct;
	struct timeval tv;

	locked = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(locked != MAP_FAILED && mlock(locked, 8 * PAGE) == 0);
	fill_pattern(locked, 16 * PAGE, 1);
	snprintf(mlock_before, sizeof(mlock_before), "%s", status_field(getpid(), "VmLck"));
	/* Moved: the offset within the mapping no longer follows from the address. */
	moved = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	target = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(moved != MAP_FAILED && target != MAP_FAILED);
	fill_pattern(moved, 8 * PAGE, 2);
	moved = mremap(moved + 2 * PAGE, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + 10 * PAGE);
	MUST(moved != MAP_FAILED);
	/* Huge pages, where the kernel gives them. */
	big = mmap(NULL, 8ul << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(big != MAP_FAILED);
	(void)madvise(big, 8ul << 20, MADV_HUGEPAGE);
	fill_pattern(big, 8ul << 20, 3);
	clock_gettime(CLOCK_MONOTONIC, &before);

	await_go();

	CHECK(pattern_intact(locked, 16 * PAGE, 1), "locked memory");
	CHECK(strcmp(mlock_before, status_field(getpid(), "VmLck")) == 0, "locked were %s, are %s", mlock_before,
	      status_field(getpid(), "VmLck"));
	{
		char *expected = malloc(8 * PAGE);
		fill_pattern(expected, 8 * PAGE, 2);
		CHECK(memcmp(moved, expected + 2 * PAGE, 4 * PAGE) == 0 && moved[5 * PAGE] == 0, "moved memory");
		free(expected);
	}
	CHECK(pattern_intact(big, 8ul << 20, 3), "huge pages");
	CHECK(vdso && memcmp((void *)vdso, "\177ELF", 4) == 0, "no vDSO at %#lx", vdso);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0 && after.tv_sec >= before.tv_sec, "the clock");
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &direct);
	CHECK(direct.tv_sec - after.tv_sec <= 1 && direct.tv_sec >= after.tv_sec, "vDSO and kernel disagree");
	CHECK(gettimeofday(&tv, NULL) == 0 && labs(time(NULL) - tv.tv_sec) <= 1, "the time of day");
	return verdict();
}
