/*
 * A process dumps itself and is restored as a child of another.
 *
 * Covered: 0 after the dump and 1 in the clone; leave_running or not; no pid or the own pid; a
 * thread other than the first; the old pid, and exit codes that arrive at the restorer.
 */
#include <pthread.h>

#include "test.h"

static char images_path[256];

/* What the dumpee does: dumps itself and says in its exit code where it is. */
struct plan {
	bool leave_running;
	bool own_pid;
	bool thread;
};

static int dump_self(const struct plan *plan)
{
	int images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result;

	fresh_options(images);
	criu_set_leave_running(plan->leave_running);
	if (plan->own_pid)
		criu_set_pid(getpid());
	errno = 12345;
	result = criu_dump();
	if (result >= 0 && errno != 12345)
		return 97;
	if (result < 0) {
		int log = openat(images, "failure.txt", O_CREAT | O_WRONLY, 0600);
		dprintf(log, "%d errno %d %s\n", result, errno, criu_last_error());
		return 98;
	}
	return result == 1 ? 43 : 41;
}

static void *dumping_thread(void *plan)
{
	return (void *)(long)dump_self(plan);
}

static int dumpee(const struct plan *plan)
{
	pthread_t thread;
	void *result;

	if (!plan->thread)
		return dump_self(plan);
	if (pthread_create(&thread, NULL, dumping_thread, (void *)plan))
		return 96;
	pthread_join(thread, &result);
	return (int)(long)result;
}

static void round_trip(const char *name, struct plan plan)
{
	int images = make_images(images_path);
	int wanted = plan.leave_running ? 41 : -SIGKILL;
	pid_t pid = fork();

	if (!pid) {
		quiet_streams();
		_exit(dumpee(&plan));
	}
	CHECK_EQ(exit_code(pid), wanted);
	fresh_options(images);
	CHECK_EQ(criu_restore_child(), pid);
	CHECK_EQ(exit_code(pid), 43);
	/* And once more: images are not used up. */
	CHECK_EQ(criu_restore_child(), pid);
	CHECK_EQ(exit_code(pid), 43);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	CHECK_EQ(errno, ECHILD);
	close(images);
	remove_images(images_path);
	passed(name);
}

int main(void)
{
	round_trip("self-dump, running on", (struct plan){ true, false, false });
	round_trip("self-dump, ending", (struct plan){ false, false, false });
	round_trip("self-dump by its own pid", (struct plan){ true, true, false });
	round_trip("self-dump from a second thread", (struct plan){ true, false, true });
	return 0;
}
