/*
 * The time of the C calls: starts a program, dumps it with criu_dump(), restores it with
 * criu_restore_child(), and prints `nanoseconds nanoseconds`.
 *
 *   calls LIBRARY BINARY DIRECTORY PROGRAM MEBIBYTES ARGS...
 *
 * BINARY is the worker; "-" asks for the engine in this process, "" for what the library has.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *library;

static void *function(const char *name)
{
	void *found = dlsym(library, name);

	if (!found) {
		fprintf(stderr, "%s\n", dlerror());
		exit(3);
	}
	return found;
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

/*
 * What was written before must not be written back meanwhile, and the memory that will be used must
 * be there: that of a virtual machine may have been taken back by its host.
 */
static long long begin(int directory, const char *mebibytes)
{
	size_t length = strtoul(mebibytes, NULL, 10) << 21;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (memory != MAP_FAILED)
		munmap(memory, length);
	syncfs(directory);
	return now();
}

static void complain(const char *what, int result)
{
	const char *(*last_error)(void) = (const char *(*)(void))dlsym(library, "criu_last_error");

	fprintf(stderr, "%s: %d %s\n", what, result, last_error ? last_error() : "");
	exit(4);
}

int main(int argc, char **argv)
{
	char path[4096], byte;
	long long begun, dump, restore;
	int ready, directory, result;
	pid_t pid;

	if (argc < 6)
		return 2;
	library = dlopen(argv[1], RTLD_NOW);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 3;
	}
	snprintf(path, sizeof(path), "%s/ready", getenv("SCENE_DIR"));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	ready = open(path, O_RDWR | O_CLOEXEC);
	directory = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		setsid();
		dup2(null, 0), dup2(null, 1), dup2(null, 2);
		close_range(3, ~0u, 0);
		execv(argv[4], argv + 4);
		_exit(127);
	}
	if (read(ready, &byte, 1) != 1)
		return 5;
	((int (*)(void))function("criu_init_opts"))();
	if (!strcmp(argv[2], "-"))
		((void (*)(void))function("criu_set_service_inprocess"))();
	else if (*argv[2])
		((int (*)(const char *))function("criu_set_service_binary"))(argv[2]);
	((void (*)(int))function("criu_set_images_dir_fd"))(directory);
	((void (*)(int))function("criu_set_pid"))(pid);
	((int (*)(const char *))function("criu_set_log_file"))("dump.log");
	begun = begin(directory, argv[5]);
	result = ((int (*)(void))function("criu_dump"))();
	dump = now() - begun;
	if (result < 0)
		complain("criu_dump", result);
	/* Dead children of the dumped root have come to us: they still have their pids. */
	while (waitpid(-1, NULL, 0) > 0)
		;
	((int (*)(const char *))function("criu_set_log_file"))("restore.log");
	begun = begin(directory, argv[5]);
	result = ((int (*)(void))function("criu_restore_child"))();
	restore = now() - begun;
	if (result < 0)
		complain("criu_restore_child", result);
	kill(result, SIGKILL);
	waitpid(result, NULL, 0);
	printf("%lld %lld\n", dump, restore);
	return 0;
}
