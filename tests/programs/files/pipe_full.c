/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Pipes that are full: of the usual size, and of a larger one. */
#include "scene.h"

#include <sys/ioctl.h>

int main(void)
{
	char *content = malloc(1 << 20), *found = malloc(1 << 20);
	int full[2], resized[2], queued = 0;
	size_t got = 0;

	fill_pattern(content, 1 << 20, 1);
	MUST(pipe2(full, O_NONBLOCK | O_CLOEXEC) == 0);
	MUST(write(full[1], content, 65536) == 65536);
	MUST(pipe(resized) == 0);
	MUST(fcntl(resized[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	MUST(write(resized[1], content, 200000) == 200000);

	await_go();

	MUST(ioctl(full[0], FIONREAD, &queued) == 0);
	CHECK(queued == 65536, "%d bytes are queued", queued);
	CHECK(fcntl(full[0], F_GETFD) == FD_CLOEXEC && (fcntl(full[1], F_GETFL) & O_NONBLOCK), "flags of a pipe");
	CHECK(write(full[1], "x", 1) == -1 && errno == EAGAIN, "a full pipe takes more");
	CHECK(read(full[0], found, 1 << 20) == 65536 && memcmp(content, found, 65536) == 0, "contents of a full pipe");
	CHECK(fcntl(resized[0], F_GETPIPE_SZ) == 1 << 18, "size %d", fcntl(resized[0], F_GETPIPE_SZ));
	while (got < 200000) {
		ssize_t part = read(resized[0], found + got, 200000 - got);
		MUST(part > 0);
		got += part;
	}
	CHECK(memcmp(content, found, 200000) == 0, "contents of a large pipe");
	return verdict();
}
