/*
 * criu_snapshot(): the caller goes on with 0, a later restore goes on as the caller with 1; no
 * set-up, the directory is made, and its descriptor is nowhere in the caller.
 */
#include "test.h"

int main(void)
{
	char parent[256], path[300];
	int images = make_images(parent), dir;
	pid_t pid;

	sprintf(path, "%s/snap", parent);
	pid = fork();
	if (!pid) {
		quiet_streams();
		if (getenv("CRIU_TEST_WORKER")) {
			criu_init_opts();
			criu_set_service_binary(getenv("CRIU_TEST_WORKER"));
		}
		for (int fd = 3; fd < 64; fd++)
			CHECK_EQ(fcntl(fd, F_GETFD), -1);
		switch (criu_snapshot(path)) {
		case 0:
			_exit(41);
		case 1:
			_exit(43);
		default:
			_exit(2);
		}
	}
	CHECK_EQ(exit_code(pid), 41);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	fresh_options(dir);
	CHECK_EQ(criu_restore_child(), pid);
	CHECK_EQ(exit_code(pid), 43);

	CHECK(criu_snapshot(NULL) < 0);
	CHECK_EQ(criu_snapshot("/nowhere/at/all"), -EBADE);
	CHECK(strstr(criu_last_error(), "/nowhere/at/all") != NULL);
	close(dir);
	close(images);
	remove_images(path);
	remove_images(parent);
	passed("snapshot");
	return 0;
}
