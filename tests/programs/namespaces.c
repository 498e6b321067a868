/* uts, ipc and time namespaces of its own: the host name and the clock go on as they were. */
#include "scene.h"

#include <sched.h>
#include <time.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* Ahead of the host's clock by this, so that a clock of the host would have gone back. */
#define AHEAD 100000

static long seconds(void)
{
	struct timespec now;

	MUST(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return now.tv_sec;
}

static void write_file(const char *path, const char *text)
{
	int fd = TRY(open(path, O_WRONLY));

	MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

int main(int argc, char **argv)
{
	char name[64] = "", text[64];
	long before;

	if (argc < 2) {
		/* The time namespace is entered by what is executed next. */
		MUST(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWTIME) == 0);
		MUST(sethostname("scene", 5) == 0);
		write_file("/proc/sys/kernel/msgmax", "4321");
		sprintf(text, "monotonic %d 0\n", AHEAD);
		write_file("/proc/self/timens_offsets", text);
		execl("/proc/self/exe", argv[0], "inside", NULL);
		MUST(!"exec");
	}
	before = seconds();
	MUST(before >= AHEAD);
	await_go();
	MUST(gethostname(name, sizeof(name)) == 0);
	CHECK(strcmp(name, "scene") == 0, "host name %s", name);
	memset(text, 0, sizeof(text));
	{
		int fd = TRY(open("/proc/sys/kernel/msgmax", O_RDONLY));
		MUST(read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
	}
	CHECK(atoi(text) == 4321, "msgmax %s", text);
	CHECK(seconds() >= before && seconds() < before + 600, "clock %ld, then %ld", before, seconds());
	return verdict();
}
