/* state: users=root,user privilege=none criu=no(it forgets that an eventfd is a semaphore) also=set_user_id */
/* An eventfd that is a semaphore, and an epoll that sees when it is empty. */
#include "events.h"

#include <sys/eventfd.h>

int main(void)
{
	int semaphore = TRY(eventfd(3, EFD_SEMAPHORE)), epoll = TRY(epoll_create1(EPOLL_CLOEXEC));
	eventfd_t value;

	add(epoll, semaphore, EPOLLIN, 0x1111111122222222);
	await_go();
	CHECK(ready_within(epoll, 0x1111111122222222, 0), "the epoll is not ready");
	for (int i = 0; i < 3; i++)
		CHECK(eventfd_read(semaphore, &value) == 0 && value == 1, "semaphore gives %lu", (unsigned long)value);
	CHECK(!ready_within(epoll, 0x1111111122222222, 0), "the epoll is still ready");
	return verdict();
}
