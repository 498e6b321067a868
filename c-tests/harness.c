/*
 * The harness that many programs build around libcriu: A captures by forking B, which dumps itself
 * and ends with 41; C, which knows neither, restores B's clone D, which goes on where B was and
 * ends with 43. Both exit codes arrive at the process that forked or restored.
 */
#include "test.h"

static char images_path[256];

/* B, and later D. */
static int dump_self(void)
{
	int images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	volatile int counter = 1000;

	fresh_options(images);
	criu_set_leave_running(true);
	counter++;
	switch (criu_dump()) {
	case 0:
		counter++;
		return counter == 1002 ? 41 : 1;
	case 1:
		counter += 2;
		return counter == 1003 ? 43 : 1;
	default:
		return 2;
	}
}

/* A: tells its caller B's exit code by its own. */
static int capture(void)
{
	pid_t b = fork();

	if (!b) {
		quiet_streams();
		_exit(dump_self());
	}
	return exit_code(b);
}

/* C: the same for D. */
static int resume(void)
{
	int images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int d;

	fresh_options(images);
	d = criu_restore_child();
	CHECK(d > 0);
	return exit_code(d);
}

static int in_a_child(int (*body)(void))
{
	pid_t pid = fork();

	if (!pid)
		_exit(body());
	return exit_code(pid);
}

int main(void)
{
	close(make_images(images_path));
	CHECK_EQ(in_a_child(capture), 41);
	for (int round = 0; round < 3; round++)
		CHECK_EQ(in_a_child(resume), 43);
	remove_images(images_path);
	passed("four-process harness");
	return 0;
}
