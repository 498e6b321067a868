/* state: users=root,user privilege=none criu=both also=set_user_id,leave_running,by_rpc */
/* Private mappings of a file: unchanged, changed, partial, changed and without access. */
#include "memory.h"

int main(void)
{
	char *expected = malloc(16 * PAGE), *changed, *clean, *offset, *hidden, byte;
	int fd = make_file("mapped", 16 * PAGE, 1);

	fill_pattern(expected, 16 * PAGE, 1);
	/* The descriptor that a mapping was made with is closed: the mapping stands by itself. */
	changed = map_file(fd, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	memset(changed + 3 * PAGE, 0xaa, PAGE);
	changed[9 * PAGE + 17] = 0x33;
	MUST(mprotect(changed + 9 * PAGE, PAGE, PROT_READ) == 0);
	clean = map_file(fd, 16 * PAGE, PROT_READ, MAP_PRIVATE, 0);
	offset = map_file(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 13 * PAGE);
	offset[0] = 0x44;
	hidden = map_file(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, PAGE);
	memset(hidden, 0x66, PAGE);
	MUST(mprotect(hidden, 2 * PAGE, PROT_NONE) == 0);
	close(fd);

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
	/* Private changes stay out of the file. */
	fd = TRY(open(scene_path("mapped"), O_RDONLY));
	CHECK(pread(fd, &byte, 1, 3 * PAGE) == 1 && byte == expected[3 * PAGE], "a private change is in the file");
	return verdict();
}
