/* state: users=root,user privilege=none criu=both also=set_user_id,by_rpc */
/* epoll over eventfds, pipes and another epoll; over a number that is closed; shared with a child. */
#include "events.h"

#include <sys/eventfd.h>

static int shared_epoll, shared_event;

static int child(void *unused UNUSED)
{
	child_await_go();
	CHECK(eventfd_write(shared_event, 5) == 0, "eventfd: %s", strerror(errno));
	CHECK(ready_within(shared_epoll, 0x5555, -1), "the child's epoll is not ready");
	return verdict();
}

int main(void)
{
	int counter, event, epoll, outer, closed, pipe_ends[2];
	eventfd_t value;
	pid_t pid;

	counter = TRY(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK));
	event = TRY(eventfd(3, 0));
	epoll = TRY(epoll_create1(EPOLL_CLOEXEC));
	add(epoll, event, EPOLLIN, 0x1111111122222222);
	MUST(pipe(pipe_ends) == 0);
	add(epoll, pipe_ends[0], EPOLLIN | EPOLLET, 0x4);
	add(epoll, pipe_ends[1], EPOLLIN | EPOLLONESHOT, 0x5);
	outer = TRY(epoll_create1(0));
	add(outer, epoll, EPOLLIN, 0x77);
	/* A target under a number that is closed: the epoll keeps it alive under the other one. */
	closed = TRY(fcntl(counter, F_DUPFD, 90));
	add(outer, closed, EPOLLIN, 0x88);
	close(closed);
	shared_epoll = TRY(epoll_create1(0));
	shared_event = TRY(eventfd(0, 0));
	add(shared_epoll, shared_event, EPOLLIN, 0x5555);
	pid = spawn(child, NULL);

	await_go();

	CHECK(ready_within(outer, 0x88, 0), "a target with a closed number is lost");
	CHECK(eventfd_read(counter, &value) == 0 && value == 7, "eventfd holds %lu", (unsigned long)value);
	CHECK(ready_within(epoll, 0x1111111122222222, 0), "the epoll is not ready");
	CHECK(ready_within(outer, 0x77, 0), "the outer epoll is not ready");
	CHECK(eventfd_read(event, &value) == 0 && value == 3, "eventfd gives %lu", (unsigned long)value);
	CHECK(!ready_within(epoll, 0x1111111122222222, 0), "the epoll is still ready");
	MUST(write(pipe_ends[1], "x", 1) == 1);
	CHECK(ready_within(epoll, 4, -1), "epoll over a pipe");
	CHECK(!ready_within(epoll, 4, 0), "an edge is told twice");
	child_verdict(pid);
	CHECK(eventfd_read(shared_event, &value) == 0 && value == 5, "a child's eventfd: %lu", (unsigned long)value);
	return verdict();
}
