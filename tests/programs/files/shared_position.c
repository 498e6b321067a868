/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Descriptors that share a position by dup and by fork, under which numbers, with which flags. */
#include "scene.h"

static int shared_fd;

static int child(void *unused UNUSED)
{
	child_await_go();
	/* The position is that of the description, which parent and child share. */
	CHECK(lseek(shared_fd, 0, SEEK_CUR) == 40, "position %ld", (long)lseek(shared_fd, 0, SEEK_CUR));
	CHECK(lseek(shared_fd, 50, SEEK_SET) == 50, "lseek: %s", strerror(errno));
	return verdict();
}

/* Has another file under the same number. */
static int own_table(void *unused UNUSED)
{
	close(shared_fd);
	shared_fd = open("/dev/null", O_RDWR);
	child_await_go();
	CHECK(fcntl(shared_fd, F_GETFL) == (O_RDWR | 0100000), "flags %#o", fcntl(shared_fd, F_GETFL));
	return verdict();
}

int main(void)
{
	int copy_fd, high_fd, cloexec_fd, fd = TRY(open(scene_path("plain"), O_RDWR | O_CREAT, 0640));
	char text[68];
	pid_t first, second;

	fill_pattern(text, sizeof(text), 1);
	MUST(write(fd, text, sizeof(text)) == sizeof(text));
	shared_fd = TRY(open(scene_path("plain"), O_RDWR));
	MUST(lseek(shared_fd, 40, SEEK_SET) == 40);
	copy_fd = TRY(dup(shared_fd));
	high_fd = TRY(dup2(shared_fd, 700));
	cloexec_fd = TRY(fcntl(shared_fd, F_DUPFD_CLOEXEC, 300));
	first = spawn(child, NULL);
	second = spawn(own_table, NULL);

	await_go();

	child_verdict(first);
	child_verdict(second);
	CHECK(lseek(shared_fd, 0, SEEK_CUR) == 50, "a child's lseek is not seen");
	CHECK(lseek(copy_fd, 1, SEEK_CUR) == 51 && lseek(high_fd, 0, SEEK_CUR) == 51 &&
		      lseek(cloexec_fd, 0, SEEK_CUR) == 51,
	      "duplicates have positions of their own");
	CHECK(lseek(fd, 0, SEEK_CUR) == 68, "another description has position %ld", (long)lseek(fd, 0, SEEK_CUR));
	CHECK(fcntl(cloexec_fd, F_GETFD) == FD_CLOEXEC && cloexec_fd >= 300, "close-on-exec is lost");
	CHECK(fcntl(high_fd, F_GETFD) == 0 && high_fd == 700, "close-on-exec came up");
	return verdict();
}
