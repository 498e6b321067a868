/*
 * One request to a service, as a process of any user:
 *
 *   rpc_peer SOCKET DIRECTORY REQUEST ANSWER [hold]
 *
 * SOCKET may be exec:BINARY instead, a worker to start. DIRECTORY is descriptor 10, REQUEST and
 * ANSWER are files with one message each. Ends with 0 when there was an answer (on SIGUSR1 if it is
 * to hold the connection), with 3 when there was no connection. It may well be dumped while it
 * waits.
 */
#include "scene.h"

#include <sys/socket.h>
#include <sys/un.h>

static int start_worker(const char *binary)
{
	char number[16];
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	snprintf(number, sizeof(number), "%d", pair[1]);
	if (fork() == 0) {
		close(pair[0]);
		execl(binary, "criu", "swrk", number, NULL);
		_exit(127);
	}
	close(pair[1]);
	return pair[0];
}

static int reach(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int service;

	if (strncmp(socket_path, "exec:", 5) == 0)
		return start_worker(socket_path + 5);
	service = TRY(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	MUST(strlen(socket_path) < sizeof(address.sun_path));
	strcpy(address.sun_path, socket_path);
	if (connect(service, (struct sockaddr *)&address, sizeof(address)) < 0)
		exit(3);
	return service;
}

int main(int argc, char **argv)
{
	static char request[65536], answer[65536];
	int images, file, service;
	ssize_t length;

	MUST(argc >= 5);
	images = TRY(open(argv[2], O_RDONLY | O_DIRECTORY));
	TRY(dup2(images, 10));
	close(images);
	file = TRY(open(argv[3], O_RDONLY));
	length = TRY(read(file, request, sizeof(request)));
	close(file);
	service = reach(argv[1]);
	MUST(send(service, request, length, 0) == length);
	length = TRY(recv(service, answer, sizeof(answer), 0));
	file = TRY(open(argv[4], O_WRONLY | O_CREAT | O_TRUNC, 0666));
	MUST(write(file, answer, length) == length);
	if (argc > 5)
		await_go();
	return verdict();
}
