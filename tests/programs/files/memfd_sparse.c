/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A memfd of four GiB, nearly all of which is a hole. */
#include "scene.h"

#include <sys/mman.h>

int main(void)
{
	int sparse = TRY(memfd_create("sparse", MFD_ALLOW_SEALING));
	struct stat stat;
	char text[3];

	MUST(ftruncate(sparse, 1ul << 32) == 0);
	MUST(pwrite(sparse, "far", 3, 3ul << 30) == 3);
	await_go();
	MUST(fstat(sparse, &stat) == 0);
	CHECK(stat.st_size == 1l << 32 && stat.st_blocks < 1024, "size %ld, %ld blocks", (long)stat.st_size,
	      (long)stat.st_blocks);
	CHECK(pread(sparse, text, 3, 3ul << 30) == 3 && memcmp(text, "far", 3) == 0, "contents of a sparse memfd");
	return verdict();
}
