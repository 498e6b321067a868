/* state: users=root privilege=root criu=both also=leave_running,self_dump,by_rpc */
/* uts, ipc and time namespaces of its own at the same time. */
#include "namespaces.h"

int main(int argc, char **argv)
{
	char name[64] = "";
	long before;

	if (argc < 2) {
		MUST(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWTIME) == 0);
		MUST(sethostname("scene", 5) == 0);
		write_file("/proc/sys/kernel/msgmax", "4321");
		advance_clock();
		begin_anew(argv);
	}
	before = seconds();
	MUST(before >= AHEAD);
	await_go();
	MUST(gethostname(name, sizeof(name)) == 0);
	CHECK(strcmp(name, "scene") == 0, "host name %s", name);
	CHECK(number_in("/proc/sys/kernel/msgmax") == 4321, "msgmax %d", number_in("/proc/sys/kernel/msgmax"));
	CHECK(seconds() >= before && seconds() < before + 600, "clock %ld, then %ld", before, seconds());
	return verdict();
}
