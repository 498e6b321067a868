/* cc self-dump.c $(pkg-config --cflags --libs criu) -o self-dump && sudo ./self-dump */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criu/criu.h>

static char images[] = "/tmp/self-dump-XXXXXX";

static void set_up(void)
{
	criu_init_opts();
	criu_set_images_dir_fd(open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	criu_set_log_file("criu.log");
}

/* B, and later D, in a session of its own and without the terminal of the others. */
static int count_and_dump(void)
{
	int counter = 20, result;

	setsid();
	for (int fd = 0; fd < 3; fd++)
		dup2(open("/dev/null", O_RDWR | O_CLOEXEC), fd);
	set_up();
	criu_set_leave_running(true);

	result = criu_dump();	/* B comes back with 0, D with 1 */

	counter++;
	return result < 0 ? 2 : counter + (result == 0 ? 20 : 22);
}

static int exit_code(int pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
	int b, d, code;

	if (!mkdtemp(images))
		return 1;
	printf("A: I fork B, which dumps itself into %s\n", images);
	fflush(stdout);
	b = fork();
	if (b == 0)
		_exit(count_and_dump());
	code = exit_code(b);
	printf("A: B had pid %d and ended with %d\n", b, code);
	if (code != 41)
		return 1;

	set_up();
	d = criu_restore_child();
	if (d < 0) {
		printf("C: no restore: %s\n", criu_last_error());
		return 1;
	}
	code = exit_code(d);
	printf("C: I restored D, B's clone, which had pid %d and ended with %d\n", d, code);
	return code == 43 ? 0 : 1;
}
