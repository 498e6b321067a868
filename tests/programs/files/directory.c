/* state: users=root,user privilege=none criu=both also=set_user_id */
/* An open directory. */
#include "files.h"

int main(void)
{
	int fd = TRY(open(scene_path(""), O_RDONLY | O_DIRECTORY));
	struct stat file;

	close(TRY(open(scene_path("plain"), O_RDWR | O_CREAT, 0640)));
	await_go();
	MUST(stat(scene_path(""), &file) == 0);
	same_file(fd, &file, "directory");
	CHECK(faccessat(fd, "plain", R_OK, 0) == 0, "below a directory: %s", strerror(errno));
	return verdict();
}
