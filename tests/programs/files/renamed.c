/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A file that was renamed while it was open. */
#include "files.h"

int main(void)
{
	int fd = TRY(open(scene_path("old name"), O_RDWR | O_CREAT, 0600));
	char old[PATH_MAX];
	struct stat file;

	snprintf(old, sizeof(old), "%s", scene_path("old name"));
	MUST(rename(old, scene_path("new name")) == 0);
	await_go();
	MUST(stat(scene_path("new name"), &file) == 0);
	same_file(fd, &file, "a renamed file");
	return verdict();
}
