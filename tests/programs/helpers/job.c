/* A job of a shell that waits for a line from its terminal. */
#include "scene.h"

#include <pthread.h>
#include <termios.h>

static void *tell(void *unused UNUSED)
{
	until_in_syscall(getpid(), SYS_read);
	say_ready();
	return NULL;
}

int main(void)
{
	char line[64] = "";
	pid_t pid = getpid(), group = getpgid(0);
	pthread_t thread;

	MUST(isatty(0) && tcgetpgrp(0) == getpgid(0));
	MUST(pthread_create(&thread, NULL, tell, NULL) == 0);
	/* A line that was waited for before the dump comes from the terminal after it. */
	ssize_t got = read(0, line, sizeof(line));
	CHECK(got == 6 && memcmp(line, "typed\n", 6) == 0, "read %ld (%s): %s", (long)got, strerror(errno), line);
	CHECK(getpid() == pid && getpgid(0) == group, "pid %d, group %d", getpid(), getpgid(0));
	CHECK(isatty(0) && isatty(1) && isatty(2), "stdio is no terminal");
	CHECK(tcgetpgrp(0) == getpgid(0), "the foreground group is %d", tcgetpgrp(0));
	CHECK(tcgetsid(0) == getsid(0), "the terminal's session is %d", tcgetsid(0));
	pthread_join(thread, NULL);
	return verdict();
}
