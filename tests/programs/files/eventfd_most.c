/* state: users=root,user privilege=none criu=dump(it restores 32 bits of the count) also=set_user_id */
/* An eventfd with the largest count. */
#include "scene.h"

#include <sys/eventfd.h>

int main(void)
{
	int fd = TRY(eventfd(0, 0));
	eventfd_t value;

	MUST(eventfd_write(fd, 0xfffffffffffffffeull) == 0);
	await_go();
	CHECK(eventfd_read(fd, &value) == 0 && value == 0xfffffffffffffffeull, "eventfd holds %lx",
	      (unsigned long)value);
	return verdict();
}
