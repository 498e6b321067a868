/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Regular files: positions, flags, and that appending still appends. */
#include "scene.h"

int main(void)
{
	int offset_fd, append_fd, read_fd;
	char text[64] = "";

	offset_fd = TRY(open(scene_path("plain"), O_RDWR | O_CREAT, 0640));
	MUST(write(offset_fd, "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuv", 68) == 68);
	MUST(lseek(offset_fd, 11, SEEK_SET) == 11);
	append_fd = TRY(open(scene_path("plain"), O_WRONLY | O_APPEND));
	read_fd = TRY(open(scene_path("plain"), O_RDONLY | O_NONBLOCK | O_NOATIME));

	await_go();

	CHECK(lseek(offset_fd, 0, SEEK_CUR) == 11, "position %ld", (long)lseek(offset_fd, 0, SEEK_CUR));
	CHECK(read(offset_fd, text, 4) == 4 && memcmp(text, "bcde", 4) == 0, "read %.4s", text);
	CHECK(fcntl(append_fd, F_GETFL) == (O_WRONLY | O_APPEND | 0100000), "flags %#o", fcntl(append_fd, F_GETFL));
	CHECK(fcntl(read_fd, F_GETFL) == (O_RDONLY | O_NONBLOCK | O_NOATIME | 0100000), "flags %#o",
	      fcntl(read_fd, F_GETFL));
	CHECK(write(append_fd, "END", 3) == 3, "write: %s", strerror(errno));
	CHECK(pread(read_fd, text, 3, 68) == 3 && memcmp(text, "END", 3) == 0, "what was appended is not at the end");
	return verdict();
}
