/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A shared mapping of a file that has no name and no descriptor any more. */
#include "memory.h"

int main(void)
{
	int fd = make_file("orphan", 4 * PAGE, 2);
	char *orphan = map_file(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	struct stat stat_now;

	close(fd);
	MUST(unlink(scene_path("orphan")) == 0);
	await_go();
	CHECK(pattern_intact(orphan, 4 * PAGE, 2), "an unlinked file");
	CHECK(stat(scene_path("orphan"), &stat_now) == -1, "the unlinked file is back");
	orphan[0] = 1;
	return verdict();
}
