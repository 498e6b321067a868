/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A file that has no name any more, because another file has taken it. */
#include "scene.h"

int main(void)
{
	int fd = TRY(open(scene_path("replaced"), O_RDWR | O_CREAT, 0600));
	struct stat other;
	char text[8];

	MUST(write(fd, "old", 3) == 3);
	MUST(unlink(scene_path("replaced")) == 0);
	close(TRY(open(scene_path("replaced"), O_RDWR | O_CREAT, 0600)));
	await_go();
	CHECK(pread(fd, text, 8, 0) == 3 && memcmp(text, "old", 3) == 0, "a replaced file");
	CHECK(stat(scene_path("replaced"), &other) == 0 && other.st_size == 0, "who has its name now is touched");
	return verdict();
}
