/*
 * Tries to get into another process: intruder PID. The ways that worked are printed; the exit code
 * is 1 if there were any.
 */
#include "scene.h"

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static int worked;

static void note(const char *way, int succeeded)
{
	if (succeeded) {
		puts(way);
		worked = 1;
	}
}

static int opens(pid_t pid, const char *name, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int main(int argc, char **argv)
{
	pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
	char byte = 0, path[64], target[256];
	struct iovec here = { &byte, 1 }, there = { (void *)0x10000, 1 };
	int pidfd;

	MUST(kill(pid, 0) == 0);
	note("seize", ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
	note("memory", opens(pid, "mem", O_RDWR));
	note("environment", opens(pid, "environ", O_RDONLY));
	note("mappings", opens(pid, "maps", O_RDONLY));
	snprintf(path, sizeof(path), "/proc/%d/fd/2", pid);
	note("descriptor's name", readlink(path, target, sizeof(target)) >= 0);
	note("write", process_vm_writev(pid, &here, 1, &there, 1, 0) >= 0 || errno != EPERM);
	pidfd = TRY(syscall(SYS_pidfd_open, pid, 0));
	note("descriptor", syscall(SYS_pidfd_getfd, pidfd, 2, 0) >= 0 || errno != EPERM);
	return worked;
}
