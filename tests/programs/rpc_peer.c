/*
 * One request to a service, as a process of any user:
 *
 *   rpc_peer SOCKET DIRECTORY REQUEST ANSWER
 *
 * DIRECTORY is descriptor 10, REQUEST and ANSWER are files with one message each. Ends with 0 when
 * there was an answer, with 3 when there was no connection. It may well be dumped while it waits.
 */
#include "scene.h"

#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static char request[65536], answer[65536];
	int images, file, service;
	ssize_t length;

	MUST(argc == 5);
	images = TRY(open(argv[2], O_RDONLY | O_DIRECTORY));
	TRY(dup2(images, 10));
	close(images);
	file = TRY(open(argv[3], O_RDONLY));
	length = TRY(read(file, request, sizeof(request)));
	close(file);
	service = TRY(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	MUST(strlen(argv[1]) < sizeof(address.sun_path));
	strcpy(address.sun_path, argv[1]);
	if (connect(service, (struct sockaddr *)&address, sizeof(address)) < 0)
		return 3;
	MUST(send(service, request, length, 0) == length);
	length = TRY(recv(service, answer, sizeof(answer), 0));
	file = TRY(open(argv[4], O_WRONLY | O_CREAT | O_TRUNC, 0666));
	MUST(write(file, answer, length) == length);
	return verdict();
}
