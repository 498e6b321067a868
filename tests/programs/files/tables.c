/* state: users=root,user privilege=none criu=no(it does not let processes share a working directory) */
/* Tables of descriptors: common to threads and to processes that share them, own for others. */
#include "scene.h"

#include <pthread.h>
#include <sched.h>

static char stack[64 * 1024];
static int file_fd;

static int sharer(void *unused UNUSED)
{
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, SIGUSR2);
	for (;;) {
		sigsuspend(&set);
		/* Opened here, seen by the other process. */
		if (dup2(file_fd, 55) == 55)
			_exit(0);
		_exit(1);
	}
}

static void wake(int signal UNUSED)
{
}

int main(void)
{
	struct sigaction action = { .sa_handler = wake };
	int status = -1;
	pid_t pid;

	file_fd = TRY(open(scene_path("plain"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	MUST(sigaction(SIGUSR2, &action, NULL) == 0);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid = TRY(clone(sharer, stack + sizeof(stack), CLONE_FILES | CLONE_FS | SIGCHLD, NULL));
	until_state(pid, 'S');
	await_go();
	CHECK(fcntl(55, F_GETFD) == -1, "descriptor 55 is there already");
	CHECK(chdir("/usr") == 0, "chdir: %s", strerror(errno));
	char link[64], path[PATH_MAX] = "";
	snprintf(link, sizeof(link), "/proc/%d/cwd", pid);
	CHECK(readlink(link, path, sizeof(path) - 1) > 0 && strcmp(path, "/usr") == 0,
	      "the working directory is not shared: %s", path);
	MUST(kill(pid, SIGUSR2) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the sharer ended with %#x", status);
	CHECK(fcntl(55, F_GETFD) == 0, "what the sharer opened is not here");
	return verdict();
}
