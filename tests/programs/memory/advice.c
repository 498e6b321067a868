/* state: users=root,user privilege=none criu=both */
/* Flags of mappings: advice, and growing downwards. */
#include "memory.h"

int main(void)
{
	static const int advice[6] = { MADV_DONTFORK, MADV_DONTDUMP, MADV_SEQUENTIAL,
				       MADV_RANDOM, MADV_NOHUGEPAGE, MADV_WIPEONFORK };
	static const char *const letters[6] = { " dc", " dd", " sr", " rr", " nh", " wf" };
	char *guarded, *flagged[6];

	guarded = map(3 * PAGE, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
	memset(guarded, 0x55, 3 * PAGE);
	for (int i = 0; i < 6; i++) {
		flagged[i] = map(2 * PAGE, PROT_READ | PROT_WRITE, 0);
		MUST(madvise(flagged[i], 2 * PAGE, advice[i]) == 0);
		memset(flagged[i], i + 1, 2 * PAGE);
	}

	await_go_in_place();

	CHECK(has_flag(guarded, " gd"), "MAP_GROWSDOWN is lost");
	CHECK(guarded[0] == 0x55 && guarded[3 * PAGE - 1] == 0x55, "growing memory");
	for (int i = 0; i < 6; i++) {
		CHECK(has_flag(flagged[i], letters[i]), "flag%s is lost", letters[i]);
		CHECK(flagged[i][0] == i + 1 && flagged[i][2 * PAGE - 1] == i + 1, "flagged memory %d", i);
	}
	return verdict();
}
