/*
 * Connections to a service that say nothing:
 *
 *   silent_peers SOCKET COUNT LEFT
 *
 * The service ends all of them but LEFT, sooner or later.
 */
#include "scene.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static struct pollfd peers[1000];
	int count, left, silent;

	MUST(argc == 4 && strlen(argv[1]) < sizeof(address.sun_path));
	strcpy(address.sun_path, argv[1]);
	count = atoi(argv[2]);
	left = atoi(argv[3]);
	MUST(count <= 1000);
	for (int i = 0; i < count; i++) {
		peers[i].fd = TRY(socket(AF_UNIX, SOCK_SEQPACKET, 0));
		peers[i].events = POLLIN;
		TRY(connect(peers[i].fd, (struct sockaddr *)&address, sizeof(address)));
	}
	await_go();
	for (int tries = 0; tries < 6000; tries++) {
		silent = count - TRY(poll(peers, count, 0));
		if (silent == left)
			break;
		usleep(10000);
	}
	CHECK(silent == left, "%d of %d connections are still served", silent, count);
	return verdict();
}
