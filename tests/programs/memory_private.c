/*
 * Private memory: contents, protections, flags, holes, the heap and the stack, and that the
 * layout is the same to the byte.
 */
#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define MIB (1ul << 20)

static char data[3 * 4096] = "initialised";
static char zeroes[64 * 4096];
static const char constant[] = "read-only";

static char maps[2][1 << 16];

static void read_maps(char *text, size_t size)
{
	size_t length = 0;
	ssize_t got;
	int fd = TRY(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));

	while ((got = read(fd, text + length, size - 1 - length)) > 0)
		length += got;
	text[length] = 0;
	close(fd);
}

static void *map(size_t length, int protection, int flags)
{
	void *memory = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	MUST(memory != MAP_FAILED);
	return memory;
}

/* The VmFlags of the mapping that begins at this address. */
static int has_flag(void *address, const char *flag)
{
	char line[4096], wanted[32];
	FILE *file = fopen("/proc/self/smaps", "r");
	int inside = 0, found = 0;

	MUST(file != NULL);
	snprintf(wanted, sizeof(wanted), "%lx-", (unsigned long)address);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, wanted, strlen(wanted)) == 0)
			inside = 1;
		if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			found = strstr(line + 8, flag) != NULL;
			break;
		}
	}
	fclose(file);
	return found;
}

static __attribute__((noinline)) unsigned deep(unsigned levels)
{
	volatile char frame[8192];

	fill_pattern((void *)frame, sizeof(frame), levels);
	if (levels == 0) {
		read_maps(maps[0], sizeof(maps[0]));
		await_go();
		read_maps(maps[1], sizeof(maps[1]));
	} else {
		deep(levels - 1);
	}
	CHECK(pattern_intact((void *)frame, sizeof(frame), levels), "stack frame %u", levels);
	return levels;
}

int main(void)
{
	char *full, *sparse, *hidden, *readable, *executable, *untouched, *guarded, *flagged[6], *heap, *top, *split;
	unsigned char resident[64];

	fill_pattern(data + 4096, 8192, 1);
	fill_pattern(zeroes + 10 * PAGE, PAGE, 2);
	full = map(8 * MIB, PROT_READ | PROT_WRITE, 0);
	fill_pattern(full, 8 * MIB, 3);
	/* Every seventh page. */
	sparse = map(4 * MIB, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	for (size_t i = 0; i < 4 * MIB; i += 7 * PAGE)
		fill_pattern(sparse + i, PAGE, i);
	hidden = map(16 * PAGE, PROT_READ | PROT_WRITE, 0);
	fill_pattern(hidden, 16 * PAGE, 4);
	MUST(mprotect(hidden, 16 * PAGE, PROT_NONE) == 0);
	readable = map(16 * PAGE, PROT_READ | PROT_WRITE, 0);
	fill_pattern(readable, 16 * PAGE, 5);
	MUST(mprotect(readable, 16 * PAGE, PROT_READ) == 0);
	executable = map(PAGE, PROT_READ | PROT_WRITE, 0);
	memcpy(executable, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov $42, %eax; ret */
	MUST(mprotect(executable, PAGE, PROT_READ | PROT_EXEC) == 0);
	untouched = map(64 * PAGE, PROT_READ | PROT_WRITE, 0);
	guarded = map(3 * PAGE, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
	memset(guarded, 0x55, 3 * PAGE);
	/* One mapping torn into parts of different protection, and one with a hole in it. */
	split = map(9 * PAGE, PROT_READ | PROT_WRITE, 0);
	fill_pattern(split, 9 * PAGE, 6);
	MUST(mprotect(split + 2 * PAGE, PAGE, PROT_READ) == 0);
	MUST(mprotect(split + 4 * PAGE, PAGE, PROT_NONE) == 0);
	MUST(munmap(split + 6 * PAGE, PAGE) == 0);
	static const int advice[6] = { MADV_DONTFORK, MADV_DONTDUMP, MADV_SEQUENTIAL,
				       MADV_RANDOM, MADV_NOHUGEPAGE, MADV_WIPEONFORK };
	static const char *const letters[6] = { " dc", " dd", " sr", " rr", " nh", " wf" };
	for (int i = 0; i < 6; i++) {
		flagged[i] = map(2 * PAGE, PROT_READ | PROT_WRITE, 0);
		MUST(madvise(flagged[i], 2 * PAGE, advice[i]) == 0);
		memset(flagged[i], i + 1, 2 * PAGE);
	}
	heap = sbrk(3 * MIB);
	MUST(heap != (void *)-1);
	fill_pattern(heap, 3 * MIB, 7);
	top = sbrk(0);

	/* Pages of stack that were touched once and are below the pointer now, and live frames. */
	deep(40);

	size_t same = 0;
	while (maps[0][same] && maps[0][same] == maps[1][same])
		same++;
	while (same && maps[0][same - 1] != '\n')
		same--;
	CHECK(strcmp(maps[0], maps[1]) == 0, "the layout was, from there on,\n%.400s\nand is\n%.400s",
	      maps[0] + same, maps[1] + same);
	/* First, because the C library allocates too. */
	CHECK(sbrk(0) == top, "the break was %p, is %p", top, sbrk(0));
	CHECK(sbrk(MIB) == top, "the heap cannot grow");
	memset(top, 1, MIB);
	CHECK(brk(top) == 0, "the heap cannot shrink");
	CHECK(strcmp(data, "initialised") == 0 && pattern_intact(data + 4096, 8192, 1), "data");
	CHECK(zeroes[0] == 0 && zeroes[sizeof(zeroes) - 1] == 0 && pattern_intact(zeroes + 10 * PAGE, PAGE, 2),
	      "uninitialised data");
	CHECK(strcmp(constant, "read-only") == 0, "constant data");
	CHECK(pattern_intact(full, 8 * MIB, 3), "a full mapping");
	for (size_t i = 0; i < 4 * MIB; i += PAGE)
		CHECK(i % (7 * PAGE) ? sparse[i] == 0 && sparse[i + 100] == 0 : pattern_intact(sparse + i, PAGE, i),
		      "sparse page %lu", i / PAGE);
	MUST(mprotect(hidden, 16 * PAGE, PROT_READ) == 0);
	CHECK(pattern_intact(hidden, 16 * PAGE, 4), "memory without access");
	CHECK(pattern_intact(readable, 16 * PAGE, 5), "read-only memory");
	CHECK(((int (*)(void))executable)() == 42, "executable memory");
	MUST(mincore(untouched, 64 * PAGE, resident) == 0);
	for (int i = 0; i < 64; i++)
		CHECK(!(resident[i] & 1), "page %d came into being", i);
	CHECK(has_flag(guarded, " gd"), "MAP_GROWSDOWN is lost");
	CHECK(guarded[0] == 0x55 && guarded[3 * PAGE - 1] == 0x55, "growing memory");
	MUST(mprotect(split + 4 * PAGE, PAGE, PROT_READ) == 0);
	CHECK(pattern_intact(split, 6 * PAGE, 6), "a split mapping");
	for (int i = 0; i < 6; i++) {
		CHECK(has_flag(flagged[i], letters[i]), "flag%s is lost", letters[i]);
		CHECK(flagged[i][0] == i + 1 && flagged[i][2 * PAGE - 1] == i + 1, "flagged memory %d", i);
	}
	CHECK(has_flag(sparse, " nr"), "MAP_NORESERVE is lost");
	CHECK(pattern_intact(heap, 3 * MIB, 7), "the heap");
	return verdict();
}
