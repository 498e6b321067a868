/* memfd: name, size, contents, position, seals, mappings, a second read-only description. */
#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul

int main(void)
{
	int plain, sealed, reader, sparse, unsealable;
	char path[64], name[PATH_MAX] = "", *mapping, *copy, byte;
	struct stat stat;

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
	sealed = TRY(memfd_create("sealed", MFD_ALLOW_SEALING));
	MUST(write(sealed, "contents", 8) == 8);
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
	unsealable = TRY(memfd_create("unsealable", 0));
	sparse = TRY(memfd_create("sparse", MFD_ALLOW_SEALING));
	MUST(ftruncate(sparse, 1ul << 32) == 0);
	MUST(pwrite(sparse, "far", 3, 3ul << 30) == 3);

	await_go();

	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain);
	MUST(readlink(path, name, sizeof(name) - 1) > 0);
	CHECK(strcmp(name, "/memfd:a name with spaces (deleted)") == 0, "it is called %s", name);
	CHECK(fcntl(plain, F_GETFD) == FD_CLOEXEC, "close-on-exec");
	CHECK(lseek(plain, 0, SEEK_CUR) == 100, "position %ld", (long)lseek(plain, 0, SEEK_CUR));
	CHECK(pattern_intact(mapping, 8 * PAGE, 1), "contents");
	CHECK(copy[0] == 0x12 && memcmp(copy + 1, mapping + 4 * PAGE + 1, 4 * PAGE - 1) == 0, "a private mapping");
	mapping[3] = 0x55;
	CHECK(pread(reader, &byte, 1, 3) == 1 && byte == 0x55, "descriptor and mapping differ");
	CHECK(write(reader, "x", 1) == -1, "a read-only description writes");
	CHECK(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "seals %#x",
	      fcntl(sealed, F_GET_SEALS));
	CHECK(pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM, "a sealed memfd takes bytes");
	CHECK(pread(sealed, name, 9, 0) == 8 && memcmp(name, "contents", 8) == 0, "contents of a sealed memfd");
	CHECK(fcntl(unsealable, F_GET_SEALS) == F_SEAL_SEAL, "seals %#x", fcntl(unsealable, F_GET_SEALS));
	MUST(fstat(sparse, &stat) == 0);
	CHECK(stat.st_size == 1l << 32 && stat.st_blocks < 1024, "size %ld, %ld blocks", (long)stat.st_size,
	      (long)stat.st_blocks);
	CHECK(pread(sparse, name, 3, 3ul << 30) == 3 && memcmp(name, "far", 3) == 0, "contents of a sparse memfd");
	return verdict();
}
