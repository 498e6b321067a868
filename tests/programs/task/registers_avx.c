/* state: users=root,user privilege=none criu=both */
/* The registers of AVX. */
#include "registers.h"

VECTOR_THREAD(avx,
	      SIXTEEN(MOVE_IN, "vmovdqu", "ymm", 32) HOLD SIXTEEN(MOVE_OUT, "vmovdqu", "ymm", 32) "vzeroupper\n",
	      512, 4, "AVX registers differ")

int main(void)
{
	void *(*const bodies[])(void *) = { avx };

	if (!__builtin_cpu_supports("avx"))
		leave_out("the processor has no AVX");
	return hold_registers(bodies, 1);
}
