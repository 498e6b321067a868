/*
 * Files that have no name any more and hold more than an engine may have memory for: one is full,
 * one is nearly all holes, and there are more small ones than a shell lets a program open.
 */
#include "scene.h"

#define MIB (1l << 20)
#define FULL (64 * MIB)
#define SPARSE (3 * 1024 * MIB)
#define MANY 200
#define MOST_BLOCKS (16 * MIB / 512)

static uint64_t block[MIB / 8];

static void expect(off_t at)
{
	size_t i;

	for (i = 0; i < MIB / 8; i++)
		block[i] = 0x9e3779b97f4a7c15u * (at / 8 + i + 1);
}

static void fill(int fd, off_t at)
{
	expect(at);
	MUST(pwrite(fd, block, MIB, at) == MIB);
}

static void compare(int fd, off_t at)
{
	static uint64_t found[MIB / 8];

	expect(at);
	CHECK(pread(fd, found, MIB, at) == MIB, "read at %ld: %s", (long)at, strerror(errno));
	CHECK(memcmp(found, block, MIB) == 0, "other contents at %ld", (long)at);
}

static int ghost(const char *name)
{
	int fd = TRY(open(scene_path(name), O_RDWR | O_CREAT | O_EXCL, 0600));

	MUST(unlink(scene_path(name)) == 0);
	return fd;
}

int main(void)
{
	const off_t written[] = {0, 5 * MIB, SPARSE / 2, SPARSE - MIB};
	int full = ghost("full"), sparse = ghost("sparse"), many[MANY], number;
	struct stat now;
	size_t i;
	off_t at;

	for (at = 0; at < FULL; at += MIB)
		fill(full, at);
	for (i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		fill(sparse, written[i]);
	for (i = 0; i < MANY; i++) {
		many[i] = ghost("small");
		MUST(write(many[i], &i, sizeof(i)) == sizeof(i));
	}

	await_go();

	for (at = 0; at < FULL; at += MIB)
		compare(full, at);
	MUST(fstat(full, &now) == 0);
	CHECK(now.st_size == FULL, "size %ld", (long)now.st_size);
	for (i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		compare(sparse, written[i]);
	MUST(fstat(sparse, &now) == 0);
	CHECK(now.st_size == SPARSE, "size %ld", (long)now.st_size);
	CHECK(now.st_blocks < MOST_BLOCKS, "holes are filled: %ld blocks", (long)now.st_blocks);
	CHECK(pread(sparse, &number, sizeof(number), SPARSE / 4) == sizeof(number) && number == 0, "a hole");
	for (i = 0; i < MANY; i++) {
		size_t held = MANY;

		CHECK(pread(many[i], &held, sizeof(held), 0) == sizeof(held) && held == i, "file %zu has %zu", i, held);
	}
	return verdict();
}
