/* Ends with 0 if this user may neither trace the process whose number is given nor look into it. */
#include "scene.h"

#include <sys/ptrace.h>

int main(int argc, char **argv)
{
	pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
	char path[64];

	MUST(kill(pid, 0) == 0);
	CHECK(ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 && errno == EPERM, "%s", strerror(errno));
	for (const char *const *name = (const char *const[]){ "mem", "environ", "fd/0", 0 }; *name; name++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, *name);
		CHECK(open(path, O_RDONLY) < 0 && errno == EACCES, "%s: %s", path, strerror(errno));
	}
	return verdict();
}
