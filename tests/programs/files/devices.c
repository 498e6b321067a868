/* state: users=root,user privilege=none criu=both also=set_user_id */
/* The usual devices. */
#include "scene.h"

int main(void)
{
	int null_fd = TRY(open("/dev/null", O_WRONLY)), zero_fd = TRY(open("/dev/zero", O_RDONLY | O_CLOEXEC)),
	    random_fd = TRY(open("/dev/urandom", O_RDONLY));
	char text[2];

	await_go();
	CHECK(write(null_fd, "x", 1) == 1, "/dev/null: %s", strerror(errno));
	CHECK(read(zero_fd, text, 2) == 2 && text[0] == 0, "/dev/zero: %s", strerror(errno));
	CHECK(fcntl(zero_fd, F_GETFD) == FD_CLOEXEC, "close-on-exec of /dev/zero");
	CHECK(read(random_fd, text, 2) == 2, "/dev/urandom: %s", strerror(errno));
	return verdict();
}
