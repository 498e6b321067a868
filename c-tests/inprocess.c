/*
 * The engine in the calling thread: dump and restore of another process without a worker, the
 * refusal of a callback with a user pointer, and what needs a worker all the same.
 */
#include "test.h"

#include <sched.h>
#include <sys/mount.h>

static int refuse(char *action, criu_notify_arg_t na, void *data)
{
	(void)na;
	return strcmp(action, "pre-dump") ? 0 : *(int *)data;
}

/*
 * In a pid namespace where the next number is that of the process to restore, which the engine's own
 * second thread then has.
 */
static int in_new_namespace(const char *images_path)
{
	int images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), last;
	pid_t pid;

	CHECK_EQ(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	CHECK_EQ(mount("proc", "/proc", "proc", 0, NULL), 0);
	pid = fork();
	if (!pid) {
		quiet_streams();
		for (;;)
			pause();
	}
	CHECK_EQ(pid, 2);
	fresh_options(images);
	criu_set_service_inprocess();
	criu_set_pid(pid);
	CHECK_EQ(criu_dump(), 0);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	CHECK_EQ(write(last, "1", 1), 1);
	close(last);
	CHECK_EQ(criu_restore_child(), pid);
	kill(pid, SIGKILL);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	return 0;
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

	pid = fork();
	if (!pid) {
		CHECK_EQ(unshare(CLONE_NEWPID | CLONE_NEWNS), 0);
		pid = fork();
		_exit(pid ? exit_code(pid) : in_new_namespace(images_path));
	}
	CHECK_EQ(exit_code(pid), 0);
	close(images);
	remove_images(images_path);
	passed("in process");
	return 0;
}
