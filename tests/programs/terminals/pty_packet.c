/* state: users=root,user privilege=none criu=both takes=terminals also=set_user_id */
/* A pseudoterminal in raw mode, whose master is in packet mode. */
#include "terminals.h"

int main(void)
{
	struct termios settings;
	int master, slave, on = 1, got;
	char text[64];

	MUST(openpty(&master, &slave, NULL, NULL, NULL) == 0);
	MUST(tcgetattr(slave, &settings) == 0);
	cfmakeraw(&settings);
	MUST(tcsetattr(slave, TCSANOW, &settings) == 0);
	MUST(ioctl(master, TIOCPKT, &on) == 0);
	await_go();
	CHECK(isatty(slave), "the slave is no terminal");
	MUST(tcgetattr(slave, &settings) == 0);
	CHECK(!(settings.c_lflag & (ICANON | ECHO)), "raw mode is lost");
	CHECK(write(slave, "p", 1) == 1, "write: %s", strerror(errno));
	got = read(master, text, sizeof(text));
	CHECK(got >= 1 && (got == 1 || text[1] == 'p'), "packet mode: %d bytes", got);
	return verdict();
}
