/*
 * state: users=root privilege=root criu=both args=100
 * state locked: users=root privilege=root criu=both args=100,locked
 */
/*
 * As many MiB of memory as the first argument says; locked if there is a second one. Pages of so much
 * memory are copied while the kernel still shows its layout; only then it is known that locked ones are
 * not to be brought in late.
 */
#include "scene.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	size_t length = (size_t)(argc > 1 ? atoi(argv[1]) : 1) << 20;
	char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(memory != MAP_FAILED);
	MUST(argc < 3 || mlock(memory, length) == 0);
	for (size_t i = 0; i < length; i += 4096)
		*(size_t *)(memory + i) = i * 31 + 7;
	await_go();
	for (size_t i = 0; i < length; i += 4096)
		if (*(size_t *)(memory + i) != i * 31 + 7) {
			CHECK(0, "page %zu differs", i / 4096);
			break;
		}
	return verdict();
}
