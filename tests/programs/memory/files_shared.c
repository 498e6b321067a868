/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Shared mappings of a file: what is written is in the file, and in every other mapping. */
#include "memory.h"

int main(void)
{
	char *expected = malloc(16 * PAGE), *shared, *shared_ro, *clean, byte = 0;
	int reader, fd = make_file("mapped", 16 * PAGE, 1);

	fill_pattern(expected, 16 * PAGE, 1);
	shared = map_file(fd, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 4 * PAGE);
	clean = map_file(fd, 16 * PAGE, PROT_READ, MAP_PRIVATE, 0);
	reader = TRY(open(scene_path("mapped"), O_RDONLY | O_CLOEXEC));
	shared_ro = map_file(reader, 4 * PAGE, PROT_READ, MAP_SHARED, 4 * PAGE);
	close(reader);
	close(fd);

	await_go();

	CHECK(memcmp(shared, expected + 4 * PAGE, 8 * PAGE) == 0, "a shared mapping");
	CHECK(memcmp(clean, expected, 16 * PAGE) == 0, "a private mapping beside it");
	shared[5] = 0x77;
	CHECK(shared_ro[5] == 0x77, "two shared mappings of one file differ");
	fd = TRY(open(scene_path("mapped"), O_RDONLY));
	CHECK(pread(fd, &byte, 1, 4 * PAGE + 5) == 1 && byte == 0x77, "the file does not change");
	CHECK(mprotect(shared_ro, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
	      "a mapping of a read-only descriptor becomes writable");
	return verdict();
}
