/* Mappings of files: private with and without changes, shared, partial, beyond the end, unlinked. */
#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul

static int make(const char *name, size_t length, unsigned seed)
{
	char *contents = malloc(length);
	int fd = TRY(open(scene_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));

	fill_pattern(contents, length, seed);
	MUST(write(fd, contents, length) == (ssize_t)length);
	free(contents);
	return fd;
}

static char *map(int fd, size_t length, int protection, int flags, off_t offset)
{
	char *memory = mmap(NULL, length, protection, flags, fd, offset);

	MUST(memory != MAP_FAILED);
	return memory;
}

int main(void)
{
	char *expected = malloc(16 * PAGE), *changed, *clean, *shared, *shared_ro, *offset, *hidden, *orphan;
	int fd, reader, orphan_fd;
	struct stat orphan_stat;

	fd = make("mapped", 16 * PAGE, 1);
	fill_pattern(expected, 16 * PAGE, 1);
	/* The descriptor that a mapping was made with is closed: the mapping stands by itself. */
	changed = map(fd, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	memset(changed + 3 * PAGE, 0xaa, PAGE);
	changed[9 * PAGE + 17] = 0x33;
	MUST(mprotect(changed + 9 * PAGE, PAGE, PROT_READ) == 0);
	clean = map(fd, 16 * PAGE, PROT_READ, MAP_PRIVATE, 0);
	shared = map(fd, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 4 * PAGE);
	offset = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 13 * PAGE);
	offset[0] = 0x44;
	hidden = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, PAGE);
	memset(hidden, 0x66, PAGE);
	MUST(mprotect(hidden, 2 * PAGE, PROT_NONE) == 0);
	reader = TRY(open(scene_path("mapped"), O_RDONLY | O_CLOEXEC));
	shared_ro = map(reader, 4 * PAGE, PROT_READ, MAP_SHARED, 4 * PAGE);
	close(reader);
	close(fd);
	orphan_fd = make("orphan", 4 * PAGE, 2);
	orphan = map(orphan_fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	close(orphan_fd);
	MUST(unlink(scene_path("orphan")) == 0);

	await_go();

	CHECK(memcmp(clean, expected, 16 * PAGE) == 0, "an unchanged private mapping");
	for (int page = 0; page < 16; page++) {
		char *at = changed + page * PAGE;
		if (page == 3)
			CHECK(at[0] == (char)0xaa && at[PAGE - 1] == (char)0xaa, "a changed page");
		else if (page == 9)
			CHECK(at[17] == 0x33 && memcmp(at + 18, expected + 9 * PAGE + 18, PAGE - 18) == 0,
			      "a changed byte in a page");
		else
			CHECK(memcmp(at, expected + page * PAGE, PAGE) == 0, "page %d", page);
	}
	CHECK(offset[0] == 0x44 && memcmp(offset + 1, expected + 13 * PAGE + 1, 2 * PAGE - 1) == 0,
	      "a mapping from an offset");
	MUST(mprotect(hidden, 2 * PAGE, PROT_READ) == 0);
	CHECK(hidden[0] == 0x66 && hidden[PAGE - 1] == 0x66 &&
		      memcmp(hidden + PAGE, expected + 2 * PAGE, PAGE) == 0,
	      "changes in memory without access");
	/* Shared means: what is written is in the file, and in the other mapping. */
	shared[5] = 0x77;
	CHECK(shared_ro[5] == 0x77, "two shared mappings of one file differ");
	fd = TRY(open(scene_path("mapped"), O_RDONLY));
	char byte = 0;
	CHECK(pread(fd, &byte, 1, 4 * PAGE + 5) == 1 && byte == 0x77, "the file does not change");
	/* Private changes stay out of it. */
	CHECK(pread(fd, &byte, 1, 3 * PAGE) == 1 && byte == expected[3 * PAGE], "a private change is in the file");
	CHECK(mprotect(shared_ro, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
	      "a mapping of a read-only descriptor becomes writable");
	CHECK(pattern_intact(orphan, 4 * PAGE, 2), "an unlinked file");
	CHECK(stat(scene_path("orphan"), &orphan_stat) == -1, "the unlinked file is back");
	orphan[0] = 1;
	return verdict();
}
