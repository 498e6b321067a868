/* state: users=root privilege=root criu=both */
/* A time namespace of its own: the clock goes on from where it was. */
#include "namespaces.h"

int main(int argc, char **argv)
{
	long before;

	if (argc < 2) {
		MUST(unshare(CLONE_NEWTIME) == 0);
		advance_clock();
		begin_anew(argv);
	}
	before = seconds();
	MUST(before >= AHEAD);
	await_go();
	CHECK(seconds() >= before && seconds() < before + 600, "clock %ld, then %ld", before, seconds());
	return verdict();
}
