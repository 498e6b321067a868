/* state: users=root,user privilege=none criu=both */
/* Resource limits, soft and hard. */
#include "scene.h"

#include <sys/resource.h>

int main(void)
{
	struct rlimit before[RLIM_NLIMITS], after;

	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		MUST(getrlimit(i, &before[i]) == 0);
		if (i == RLIMIT_NOFILE)
			before[i] = (struct rlimit){ 200, 300 };
		if (i == RLIMIT_CORE)
			before[i].rlim_cur = 0;
		if (i == RLIMIT_FSIZE)
			before[i] = (struct rlimit){ 1 << 20, 1 << 22 };
		if (i == RLIMIT_STACK)
			before[i].rlim_cur = 4 << 20;
		if (i == RLIMIT_CPU)
			before[i] = (struct rlimit){ 100000, 200000 };
		MUST(setrlimit(i, &before[i]) == 0);
	}

	await_go();

	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		MUST(getrlimit(i, &after) == 0);
		CHECK(before[i].rlim_cur == after.rlim_cur && before[i].rlim_max == after.rlim_max,
		      "limit %d was %ld/%ld, is %ld/%ld", i, (long)before[i].rlim_cur,
		      (long)before[i].rlim_max, (long)after.rlim_cur, (long)after.rlim_max);
	}
	return verdict();
}
