/* Pseudoterminals of the tree: both ends, settings, window, queued input and output, the session. */
#include "scene.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave, raw_master, raw_slave, leader_master;
static char name[64];

/* A session leader with a controlling terminal, and a group in the foreground. */
static int leader(void *unused UNUSED)
{
	char text[16] = "";
	int terminal;

	close(leader_master);
	MUST(setsid() == getpid());
	terminal = TRY(open(name, O_RDWR));
	MUST(ioctl(terminal, TIOCSCTTY, 0) == 0 || tcgetsid(terminal) == getpid());
	MUST(tcgetpgrp(terminal) == getpid());
	child_await_go();
	CHECK(tcgetsid(terminal) == getpid(), "session of the terminal: %d", tcgetsid(terminal));
	CHECK(tcgetpgrp(terminal) == getpid(), "foreground group: %d", tcgetpgrp(terminal));
	int again = open("/dev/tty", O_RDWR);
	CHECK(again >= 0, "no controlling terminal: %s", strerror(errno));
	close(again);
	CHECK(read(terminal, text, 16) == 6 && memcmp(text, "hello\n", 6) == 0, "read %s", text);
	return verdict();
}

int main(void)
{
	struct termios settings, found;
	struct winsize window = { 33, 77, 5, 6 }, size;
	char slave_name[64], text[64] = "";
	pid_t pid;
	int on = 1, got;

	MUST(openpty(&master, &slave, slave_name, NULL, &window) == 0);
	MUST(tcgetattr(slave, &settings) == 0);
	settings.c_lflag &= ~(ECHO | ISIG);
	settings.c_cc[VERASE] = 'x';
	MUST(tcsetattr(slave, TCSANOW, &settings) == 0);
	MUST(fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
	MUST(openpty(&raw_master, &raw_slave, NULL, NULL, NULL) == 0);
	MUST(tcgetattr(raw_slave, &found) == 0);
	cfmakeraw(&found);
	MUST(tcsetattr(raw_slave, TCSANOW, &found) == 0);
	MUST(ioctl(raw_master, TIOCPKT, &on) == 0);
	leader_master = TRY(posix_openpt(O_RDWR | O_NOCTTY));
	MUST(unlockpt(leader_master) == 0 && ptsname_r(leader_master, name, sizeof(name)) == 0);
	pid = spawn(leader, NULL);

	await_go();

	CHECK(ptsname_r(master, text, sizeof(text)) == 0 && strcmp(text, slave_name) == 0, "the slave was %s, is %s",
	      slave_name, text);
	CHECK(isatty(slave) && isatty(raw_slave), "a slave is no terminal");
	MUST(tcgetattr(slave, &found) == 0);
	CHECK(found.c_lflag == settings.c_lflag && found.c_cc[VERASE] == 'x' && found.c_iflag == settings.c_iflag,
	      "settings differ: %#x, %#x", settings.c_lflag, found.c_lflag);
	MUST(ioctl(slave, TIOCGWINSZ, &size) == 0);
	CHECK(memcmp(&size, &window, sizeof(size)) == 0, "the window is %d by %d", size.ws_row, size.ws_col);
	CHECK(fcntl(master, F_GETFL) & O_NONBLOCK, "O_NONBLOCK of a master");
	CHECK(write(master, "typed\n", 6) == 6, "write: %s", strerror(errno));
	CHECK(read(slave, text, sizeof(text)) == 6 && memcmp(text, "typed\n", 6) == 0, "the slave reads %s", text);
	CHECK(write(slave, "shown", 5) == 5, "write: %s", strerror(errno));
	CHECK(read(master, text, sizeof(text)) == 5 && memcmp(text, "shown", 5) == 0, "the master reads %s", text);
	MUST(tcgetattr(raw_slave, &found) == 0);
	CHECK(!(found.c_lflag & (ICANON | ECHO)), "raw mode is lost");
	CHECK(write(raw_slave, "p", 1) == 1, "write: %s", strerror(errno));
	got = read(raw_master, text, sizeof(text));
	CHECK(got >= 1 && (got == 1 || text[1] == 'p'), "packet mode: %d bytes", got);
	CHECK(write(leader_master, "hello\n", 6) == 6, "write: %s", strerror(errno));
	child_verdict(pid);
	return verdict();
}
