/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A signalfd: its mask, and the signals that are pending. */
#include "scene.h"

#include <sys/signalfd.h>

int main(void)
{
	struct signalfd_siginfo info;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGTERM);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	fd = TRY(signalfd(-1, &set, SFD_NONBLOCK));
	MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 12 }) == 0);
	await_go();
	CHECK(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == (unsigned)SIGRTMIN + 3 &&
		      info.ssi_int == 12,
	      "signalfd: signal %u, value %d", info.ssi_signo, info.ssi_int);
	MUST(kill(getpid(), SIGTERM) == 0);
	CHECK(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGTERM, "signalfd's mask");
	return verdict();
}
