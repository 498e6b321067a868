/* state: users=root privilege=root criu=both */
/* An ipc namespace of its own: its limits. */
#include "namespaces.h"

int main(void)
{
	MUST(unshare(CLONE_NEWIPC) == 0);
	write_file("/proc/sys/kernel/msgmax", "4321");
	await_go();
	CHECK(number_in("/proc/sys/kernel/msgmax") == 4321, "msgmax %d", number_in("/proc/sys/kernel/msgmax"));
	return verdict();
}
