/*
 * A process saves itself and comes back, on the command line:
 *
 *     cc self-dump.c $(pkg-config --cflags --libs criu) && sudo ./a.out
 *
 * A forks B. B counts to 20, dumps itself, goes on to 21 and ends with 41. C knows nothing of that
 * but the directory with the images: it restores B's clone D, which finds itself in the middle of
 * criu_dump(), sees that it was restored, goes on from 20 to 21, and ends with 43.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criu/criu.h>

static char images_path[] = "/tmp/self-dump-XXXXXX";

static void set_up(void)
{
	criu_init_opts();
	/* For comparison: another worker than the library's own. */
	if (getenv("CRIU_WORKER"))
		criu_set_service_binary(getenv("CRIU_WORKER"));
	criu_set_images_dir_fd(open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	criu_set_log_level(CRIU_LOG_INFO);
	criu_set_log_file("criu.log");
	/* This program was started from a terminal, whose session is not part of the dump. */
	criu_set_shell_job(true);
}

/* B, and later D: in a session of its own, and without the terminal of the others. */
static int count_and_dump(void)
{
	int counter = 0, result;

	setsid();
	dup2(open("/dev/null", O_RDWR), 0);
	dup2(0, 1);
	dup2(0, 2);
	while (counter < 20)
		counter++;

	set_up();
	criu_set_leave_running(true);
	result = criu_dump();

	if (result < 0) {
		FILE *why = fopen("why.txt", "w");
		fprintf(why, "%s\n", criu_last_error());
		fclose(why);
		return 2;
	}
	while (counter < 21)
		counter++;
	return result == 0 ? counter + 20 : counter + 22;
}

static int exit_code(int pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
	int pid, code;

	if (!mkdtemp(images_path) || chdir(images_path)) {
		perror(images_path);
		return 1;
	}
	printf("A: I fork B, which dumps itself into %s\n", images_path);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(count_and_dump());
	code = exit_code(pid);
	printf("A: B was pid %d and ended with %d\n", pid, code);
	if (code != 41) {
		printf("A: see %s/why.txt and criu.log there\n", images_path);
		return 1;
	}

	set_up();
	printf("C: I restore B's clone D from %s\n", images_path);
	fflush(stdout);
	pid = criu_restore_child();
	if (pid < 0) {
		printf("C: that failed: %s\n", criu_last_error());
		return 1;
	}
	code = exit_code(pid);
	printf("C: D had pid %d, went on from criu_dump(), and ended with %d\n", pid, code);
	return code == 43 ? 0 : 1;
}
