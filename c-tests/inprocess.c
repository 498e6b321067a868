/*
 * The engine in the calling thread: dump and restore of another process without a worker, the
 * refusal of a callback with a user pointer, and what needs a worker all the same.
 */
#include "test.h"

static int refuse(char *action, criu_notify_arg_t na, void *data)
{
	(void)na;
	return strcmp(action, "pre-dump") ? 0 : *(int *)data;
}

int main(void)
{
	char images_path[256], cwd[256], after[256];
	int images = make_images(images_path), value = -31;
	pid_t pid = fork();

	if (!pid) {
		quiet_streams();
		for (;;)
			pause();
	}
	usleep(50000);
	CHECK(getcwd(cwd, sizeof(cwd)) != NULL);
	fresh_options(images);
	CHECK_EQ(criu_set_service_inprocess(), 0);
	CHECK_EQ(criu_get_version(), 40200);
	criu_set_pid(pid);
	criu_set_notify_cb_data(refuse, &value);
	CHECK_EQ(criu_dump(), -31);
	CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);

	criu_set_notify_cb(NULL);
	CHECK_EQ(criu_dump(), 0);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	CHECK_EQ(criu_restore_child(), pid);
	CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
	CHECK_EQ(criu_restore_child(), -EBADE);
	CHECK_EQ(errno, EEXIST);
	kill(pid, SIGKILL);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	CHECK_EQ(criu_dump(), -EBADE);
	CHECK_EQ(errno, ESRCH);
	CHECK(getcwd(after, sizeof(after)) && !strcmp(cwd, after));

	/* A dump of itself asks a worker. */
	pid = fork();
	if (!pid) {
		quiet_streams();
		images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fresh_options(images);
		criu_set_service_inprocess();
		criu_set_leave_running(true);
		_exit(criu_dump() == 0 ? 41 : 1);
	}
	CHECK_EQ(exit_code(pid), 41);
	close(images);
	remove_images(images_path);
	passed("in process");
	return 0;
}
