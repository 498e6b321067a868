/* state: users=root,user privilege=none criu=both also=set_user_id */
/* An eventfd: its count and its flags. */
#include "scene.h"

#include <sys/eventfd.h>

int main(void)
{
	int counter = TRY(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK)), plain = TRY(eventfd(3, 0)), large = TRY(eventfd(0, 0));
	eventfd_t value;

	MUST(eventfd_write(large, 0xfffffffeull) == 0);
	await_go();
	CHECK(fcntl(counter, F_GETFD) == FD_CLOEXEC && (fcntl(counter, F_GETFL) & O_NONBLOCK), "flags of an eventfd");
	CHECK(eventfd_read(counter, &value) == 0 && value == 7, "eventfd holds %lu", (unsigned long)value);
	CHECK(eventfd_read(counter, &value) == -1 && errno == EAGAIN, "eventfd is not empty");
	CHECK(eventfd_read(plain, &value) == 0 && value == 3, "eventfd gives %lu", (unsigned long)value);
	CHECK(eventfd_read(large, &value) == 0 && value == 0xfffffffeull, "eventfd holds %lx", (unsigned long)value);
	return verdict();
}
