/* Pipes: contents, packets, sizes, ends in several processes, ends that are closed. And FIFOs. */
#include "scene.h"

#include <sys/ioctl.h>

static int between[2], full[2], packets[2], resized[2], orphaned[2], widowed[2], fifo_read, fifo_write, both;

static int child(void *unused UNUSED)
{
	char text[16] = "";

	close(between[1]);
	child_await_go();
	/* Only the parent has the other end. */
	CHECK(read(between[0], text, 6) == 6 && memcmp(text, "before", 6) == 0, "read %.6s", text);
	CHECK(read(between[0], text, 6) == 5 && memcmp(text, "after", 5) == 0, "read %.6s", text);
	CHECK(read(between[0], text, 1) == 0, "the pipe does not end");
	return verdict();
}

int main(int argc, char **argv)
{
	int plain = scene_plain(argc, argv);
	char *content = malloc(1 << 20), *found = malloc(1 << 20), text[128] = "";
	int queued = 0;
	pid_t pid;

	fill_pattern(content, 1 << 20, 1);
	MUST(pipe(between) == 0);
	MUST(write(between[1], "before", 6) == 6);
	pid = spawn(child, NULL);
	close(between[0]);
	MUST(pipe2(full, O_NONBLOCK | O_CLOEXEC) == 0);
	MUST(write(full[1], content, 65536) == 65536);
	if (!plain) {
		MUST(pipe2(packets, O_DIRECT) == 0);
		MUST(write(packets[1], "one", 3) == 3 && write(packets[1], "fourth", 6) == 6);
		MUST(write(packets[1], "x", 1) == 1);
	}
	MUST(pipe(resized) == 0);
	MUST(fcntl(resized[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	MUST(write(resized[1], content, 200000) == 200000);
	MUST(pipe(orphaned) == 0);
	MUST(write(orphaned[1], "left", 4) == 4);
	close(orphaned[1]);
	MUST(pipe(widowed) == 0);
	close(widowed[0]);
	MUST(mkfifo(scene_path("fifo"), 0600) == 0);
	both = TRY(open(scene_path("fifo"), O_RDWR | O_NONBLOCK));
	fifo_read = TRY(open(scene_path("fifo"), O_RDONLY | O_NONBLOCK));
	fifo_write = TRY(open(scene_path("fifo"), O_WRONLY));
	MUST(write(fifo_write, "queued", 6) == 6);

	await_go();

	MUST(write(between[1], "after", 5) == 5);
	close(between[1]);
	child_verdict(pid);
	MUST(ioctl(full[0], FIONREAD, &queued) == 0);
	CHECK(queued == 65536, "%d bytes are queued", queued);
	CHECK(fcntl(full[0], F_GETFD) == FD_CLOEXEC && (fcntl(full[1], F_GETFL) & O_NONBLOCK), "flags of a pipe");
	CHECK(write(full[1], "x", 1) == -1 && errno == EAGAIN, "a full pipe takes more");
	CHECK(read(full[0], found, 1 << 20) == 65536 && memcmp(content, found, 65536) == 0, "contents of a full pipe");
	if (!plain) {
		CHECK(fcntl(packets[1], F_GETFL) & O_DIRECT, "packet mode is lost");
		CHECK(read(packets[0], text, 100) == 3 && memcmp(text, "one", 3) == 0, "first packet: %.3s", text);
		CHECK(read(packets[0], text, 100) == 6 && memcmp(text, "fourth", 6) == 0, "second packet: %.6s", text);
		CHECK(read(packets[0], text, 100) == 1, "third packet");
	}
	CHECK(fcntl(resized[0], F_GETPIPE_SZ) == 1 << 18, "size %d", fcntl(resized[0], F_GETPIPE_SZ));
	size_t got = 0;
	while (got < 200000) {
		ssize_t part = read(resized[0], found + got, 200000 - got);
		MUST(part > 0);
		got += part;
	}
	CHECK(memcmp(content, found, 200000) == 0, "contents of a large pipe");
	CHECK(read(orphaned[0], text, 8) == 4 && memcmp(text, "left", 4) == 0, "what a closed writer left");
	CHECK(read(orphaned[0], text, 8) == 0, "a pipe without writers does not end");
	signal(SIGPIPE, SIG_IGN);
	CHECK(write(widowed[1], "x", 1) == -1 && errno == EPIPE, "a pipe without readers takes bytes");
	CHECK(read(fifo_read, text, 8) == 6 && memcmp(text, "queued", 6) == 0, "contents of a FIFO");
	CHECK(write(both, "again", 5) == 5 && read(fifo_read, text, 8) == 5, "a FIFO open both ways");
	CHECK(read(fifo_read, text, 8) == -1 && errno == EAGAIN, "an empty FIFO blocks or ends");
	return verdict();
}
