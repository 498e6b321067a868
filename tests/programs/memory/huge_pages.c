/* state: users=root,user privilege=none criu=both */
/* Memory that asks for huge pages, which it has where the kernel gives them. */
#include "memory.h"

int main(void)
{
	char *big = map(8 * MIB, PROT_READ | PROT_WRITE, 0);

	(void)madvise(big, 8 * MIB, MADV_HUGEPAGE);
	fill_pattern(big, 8 * MIB, 3);
	await_go();
	CHECK(pattern_intact(big, 8 * MIB, 3), "huge pages");
	return verdict();
}
