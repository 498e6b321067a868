/* What the programs about memory share. */
#ifndef MEMORY_H
#define MEMORY_H

#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define MIB (1ul << 20)

static UNUSED void *map(size_t length, int protection, int flags)
{
	void *memory = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	MUST(memory != MAP_FAILED);
	return memory;
}

static UNUSED char *map_file(int fd, size_t length, int protection, int flags, off_t offset)
{
	char *memory = mmap(NULL, length, protection, flags, fd, offset);

	MUST(memory != MAP_FAILED);
	return memory;
}

/* A new file with a pattern in it. */
static UNUSED int make_file(const char *name, size_t length, unsigned seed)
{
	char *contents = malloc(length);
	int fd = TRY(open(scene_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));

	fill_pattern(contents, length, seed);
	MUST(write(fd, contents, length) == (ssize_t)length);
	free(contents);
	return fd;
}

/* The VmFlags of the mapping that begins at this address. */
static UNUSED int has_flag(void *address, const char *flag)
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

static char scene_maps[2][1 << 16];

static UNUSED void read_maps(char *text, size_t size)
{
	size_t length = 0;
	ssize_t got;
	int fd = TRY(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));

	while ((got = read(fd, text + length, size - 1 - length)) > 0)
		length += got;
	text[length] = 0;
	close(fd);
}

/* await_go(); the layout must be the same to the byte. Nothing is allocated in between. */
static UNUSED void await_go_in_place(void)
{
	size_t same = 0;

	read_maps(scene_maps[0], sizeof(scene_maps[0]));
	await_go();
	read_maps(scene_maps[1], sizeof(scene_maps[1]));
	while (scene_maps[0][same] && scene_maps[0][same] == scene_maps[1][same])
		same++;
	while (same && scene_maps[0][same - 1] != '\n')
		same--;
	CHECK(strcmp(scene_maps[0], scene_maps[1]) == 0,
	      "the layout was, from there on,\n%.400s\nand is\n%.400s", scene_maps[0] + same,
	      scene_maps[1] + same);
}

#endif
