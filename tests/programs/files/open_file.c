/* state: users=root privilege=root criu=both */
/* One file of 4096 bytes, open for writing, and one pipe with something in it. */
#include "scene.h"

int main(void)
{
	char block[4096], text[8] = "";
	int fd = TRY(open(scene_path("data"), O_RDWR | O_CREAT | O_TRUNC, 0640));
	int ends[2];

	memset(block, 'd', sizeof(block));
	MUST(write(fd, block, sizeof(block)) == sizeof(block));
	MUST(pipe(ends) == 0 && write(ends[1], "piped", 5) == 5);
	await_go();
	CHECK(lseek(fd, 0, SEEK_CUR) == 4096, "position %ld", (long)lseek(fd, 0, SEEK_CUR));
	CHECK(read(ends[0], text, 8) == 5 && memcmp(text, "piped", 5) == 0, "read %s", text);
	return verdict();
}
