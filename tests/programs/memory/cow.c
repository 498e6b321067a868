/*
 * state: users=root,user privilege=none criu=both also=set_user_id,leave_running,self_dump,by_rpc
 * state sharing: users=root privilege=root criu=both args=sharing
 */
/* Memory that a parent and its children have in common until one writes. */
#include "scene.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define PAGES 512ul

static char *memory, *dropped;

static int grandchild(void *unused UNUSED)
{
	memset(memory + 300 * PAGE, 0x30, PAGE);
	child_await_go();
	CHECK(pattern_intact(memory, 100 * PAGE, 1), "grandchild: untouched pages");
	CHECK(memory[100 * PAGE] == 0x10, "grandchild: the child's page");
	CHECK(memory[300 * PAGE] == 0x30, "grandchild: its own page");
	CHECK(dropped[0] == 0, "grandchild: dropped memory");
	return verdict();
}

static int child(void *unused UNUSED)
{
	pid_t pid;

	memset(memory + 100 * PAGE, 0x10, PAGE);
	MUST(madvise(dropped, 4 * PAGE, MADV_DONTNEED) == 0);
	pid = spawn(grandchild, NULL);
	child_await_go();
	CHECK(pattern_intact(memory, 100 * PAGE, 1), "child: untouched pages");
	CHECK(memory[100 * PAGE] == 0x10, "child: its own page");
	CHECK(memory[200 * PAGE] != 0x20 && memory[300 * PAGE] != 0x30, "child: others' pages");
	CHECK(dropped[0] == 0 && dropped[3 * PAGE] == 0, "child: dropped memory");
	memory[0]++;
	child_verdict(pid);
	return verdict();
}

/* Resident memory that is shared with nobody: what the restore has to keep low. */
static long private_kib(void)
{
	char line[256];
	long total = 0, value;
	FILE *file = fopen("/proc/self/smaps", "r");
	int inside = 0;
	char wanted[32];

	MUST(file != NULL);
	snprintf(wanted, sizeof(wanted), "%lx-", (unsigned long)memory);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, wanted, strlen(wanted)) == 0)
			inside = 1;
		if (inside && (sscanf(line, "Private_Dirty: %ld", &value) == 1 ||
			       sscanf(line, "Private_Clean: %ld", &value) == 1))
			total += value;
		if (inside && strncmp(line, "VmFlags", 7) == 0)
			break;
	}
	fclose(file);
	return total;
}

/* With the argument `sharing`, that the sharing is there counts too, not the contents alone. */
int main(int argc, char **argv)
{
	long before;
	pid_t pid;

	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	dropped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(memory != MAP_FAILED && dropped != MAP_FAILED);
	MUST(madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE) == 0);
	fill_pattern(memory, PAGES * PAGE, 1);
	memset(dropped, 0x44, 4 * PAGE);
	pid = spawn(child, NULL);
	memset(memory + 200 * PAGE, 0x20, PAGE);
	before = private_kib();

	await_go();

	CHECK(argc == 1 || strcmp(argv[1], "sharing") != 0 || private_kib() <= before + 64, "%ld KiB were not shared before, %ld KiB are not now", before,
	      private_kib());
	CHECK(pattern_intact(memory, 200 * PAGE, 1), "parent: untouched pages");
	CHECK(memory[200 * PAGE] == 0x20, "parent: its own page");
	CHECK(dropped[0] == 0x44, "parent: memory that the child dropped");
	child_verdict(pid);
	CHECK(pattern_intact(memory, PAGE, 1), "the child's write is in the parent");
	return verdict();
}
