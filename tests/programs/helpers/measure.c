/*
 * Runs a command and writes `nanoseconds kibibytes` into a file: its wall time and, with -m in front,
 * the most memory that it and its threads had for themselves (mapped files do not count). Memory is
 * looked at again and again, so the time of such a run is of no use.
 *
 *   measure [-m] FILE COMMAND ARGS...
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static long own_memory(pid_t pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

static pid_t start(char **words)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execv(words[0], words);
		_exit(127);
	}
	return pid;
}

int main(int argc, char **argv)
{
	int with_memory = argc > 1 && strcmp(argv[1], "-m") == 0, status = 0;
	long most = 0, kib;
	long long begun;
	pid_t pid;
	FILE *out;

	argv += with_memory;
	begun = now();
	pid = start(argv + 2);
	while (with_memory && waitpid(pid, &status, WNOHANG) == 0) {
		kib = own_memory(pid);
		most = kib > most ? kib : most;
		usleep(200);
	}
	if (!with_memory && waitpid(pid, &status, 0) != pid)
		return 126;
	begun = now() - begun;
	out = fopen(argv[1], "w");
	if (!out)
		return 125;
	fprintf(out, "%lld %ld\n", begun, most);
	fclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 124;
}
