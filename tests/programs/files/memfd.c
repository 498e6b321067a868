/* state: users=root,user privilege=none criu=both also=set_user_id */
/* memfd: name, contents, position, mappings, a second read-only description. */
#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul

int main(void)
{
	int plain, reader;
	char path[64], name[PATH_MAX] = "", *mapping, *copy, byte;

	plain = TRY(memfd_create("a name with spaces", MFD_CLOEXEC));
	mapping = malloc(8 * PAGE);
	fill_pattern(mapping, 8 * PAGE, 1);
	MUST(write(plain, mapping, 8 * PAGE) == (ssize_t)(8 * PAGE));
	MUST(lseek(plain, 100, SEEK_SET) == 100);
	free(mapping);
	mapping = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 0);
	copy = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, plain, 4 * PAGE);
	MUST(mapping != MAP_FAILED && copy != MAP_FAILED);
	copy[0] = 0x12;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain);
	reader = TRY(open(path, O_RDONLY));

	await_go();

	MUST(readlink(path, name, sizeof(name) - 1) > 0);
	CHECK(strcmp(name, "/memfd:a name with spaces (deleted)") == 0, "it is called %s", name);
	CHECK(fcntl(plain, F_GETFD) == FD_CLOEXEC, "close-on-exec");
	CHECK(lseek(plain, 0, SEEK_CUR) == 100, "position %ld", (long)lseek(plain, 0, SEEK_CUR));
	CHECK(pattern_intact(mapping, 8 * PAGE, 1), "contents");
	CHECK(copy[0] == 0x12 && memcmp(copy + 1, mapping + 4 * PAGE + 1, 4 * PAGE - 1) == 0, "a private mapping");
	mapping[3] = 0x55;
	CHECK(pread(reader, &byte, 1, 3) == 1 && byte == 0x55, "descriptor and mapping differ");
	CHECK(write(reader, "x", 1) == -1, "a read-only description writes");
	return verdict();
}
