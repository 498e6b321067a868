/* state: users=root,user privilege=none criu=both takes=terminals also=set_user_id,self_dump,by_rpc */
/* A session of the tree on a terminal of the tree, with its foreground group. */
#include "terminals.h"

static int master;
static char name[64];

static int leader(void *unused UNUSED)
{
	char text[16] = "";
	int terminal, again;

	close(master);
	MUST(setsid() == getpid());
	terminal = TRY(open(name, O_RDWR));
	MUST(ioctl(terminal, TIOCSCTTY, 0) == 0 || tcgetsid(terminal) == getpid());
	MUST(tcgetpgrp(terminal) == getpid());
	child_await_go();
	CHECK(tcgetsid(terminal) == getpid(), "session of the terminal: %d", tcgetsid(terminal));
	CHECK(tcgetpgrp(terminal) == getpid(), "foreground group: %d", tcgetpgrp(terminal));
	again = open("/dev/tty", O_RDWR);
	CHECK(again >= 0, "no controlling terminal: %s", strerror(errno));
	close(again);
	CHECK(read(terminal, text, 16) == 6 && memcmp(text, "hello\n", 6) == 0, "read %s", text);
	return verdict();
}

int main(void)
{
	pid_t pid;

	master = TRY(posix_openpt(O_RDWR | O_NOCTTY));
	MUST(unlockpt(master) == 0 && ptsname_r(master, name, sizeof(name)) == 0);
	pid = spawn(leader, NULL);
	await_go();
	CHECK(write(master, "hello\n", 6) == 6, "write: %s", strerror(errno));
	child_verdict(pid);
	return verdict();
}
