/*
 * What all tests share: checks that print where they failed, an image directory, the worker.
 *
 * CRIU_TEST_WORKER names another worker than the library's own, for comparison.
 */
#ifndef C_TESTS_TEST_H
#define C_TESTS_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criu/criu.h>

#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(value, wanted) check_eq((value), (wanted), #value, __FILE__, __LINE__)

static inline void check(int ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: pid %d: not true: %s (errno %d; last error: %s)\n", file, line,
		(int)getpid(), what, errno, criu_last_error());
	_exit(99);
}

static inline void check_eq(long value, long wanted, const char *what, const char *file, int line)
{
	if (value == wanted)
		return;
	fprintf(stderr, "%s:%d: pid %d: %s is %ld, not %ld (errno %d; last error: %s)\n", file, line,
		(int)getpid(), what, value, wanted, errno, criu_last_error());
	_exit(99);
}

/* An empty directory for images; removed by remove_images(). */
static inline int make_images(char *path)
{
	const char *tmp = getenv("TMPDIR");

	sprintf(path, "%.200s/libcriu-test-XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(path) != NULL);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void remove_images(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

/* Options for the worker under test. */
static inline void fresh_options(int images)
{
	CHECK_EQ(criu_init_opts(), 0);
	if (getenv("CRIU_TEST_WORKER"))
		CHECK_EQ(criu_set_service_binary(getenv("CRIU_TEST_WORKER")), 0);
	criu_set_images_dir_fd(images);
	criu_set_log_level(CRIU_LOG_DEBUG);
	criu_set_log_file("test.log");
	criu_set_shell_job(true);
}

/* The exit code of a child, -signal if it was killed. */
static inline int exit_code(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The standard streams of a task that is dumped are not the terminal or pipe of the tester. */
static inline void quiet_streams(void)
{
	int null = open("/dev/null", O_RDWR);

	setsid();
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	if (null > 2)
		close(null);
	/* Whatever the tester's shell left open. */
	close_range(3, ~0U, 0);
}

static inline void passed(const char *name)
{
	printf("ok %s\n", name);
	fflush(stdout);
}

#endif
