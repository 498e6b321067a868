/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A descriptor that is a path only. */
#include "files.h"

int main(void)
{
	struct stat file;
	char byte;
	int fd;

	close(TRY(open(scene_path("plain"), O_RDWR | O_CREAT, 0640)));
	fd = TRY(open(scene_path("plain"), O_PATH));
	await_go();
	CHECK((fcntl(fd, F_GETFL) & O_PATH) != 0, "O_PATH is lost");
	CHECK(read(fd, &byte, 1) == -1 && errno == EBADF, "an O_PATH descriptor reads");
	MUST(stat(scene_path("plain"), &file) == 0);
	same_file(fd, &file, "O_PATH");
	return verdict();
}
