/* state: users=root,user privilege=none criu=both takes=terminals also=set_user_id */
/* Both ends of a pseudoterminal: name, settings, window, flags, and what is typed and shown. */
#include "terminals.h"

int main(void)
{
	struct termios settings, found;
	struct winsize window = { 33, 77, 5, 6 }, size;
	char slave_name[64], text[64] = "";
	int master, slave;

	MUST(openpty(&master, &slave, slave_name, NULL, &window) == 0);
	MUST(tcgetattr(slave, &settings) == 0);
	settings.c_lflag &= ~(ECHO | ISIG);
	settings.c_cc[VERASE] = 'x';
	MUST(tcsetattr(slave, TCSANOW, &settings) == 0);
	MUST(fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK) == 0);

	await_go();

	CHECK(ptsname_r(master, text, sizeof(text)) == 0 && strcmp(text, slave_name) == 0, "the slave was %s, is %s",
	      slave_name, text);
	CHECK(isatty(slave), "the slave is no terminal");
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
	return verdict();
}
