/* state: users=root,user privilege=none criu=both */
/* The registers of AVX-512, and its masks. */
#include "registers.h"

/* Nothing else runs in these functions between the asm and the end that uses vector registers. */
VECTOR_THREAD(avx512,
	      SIXTEEN(MOVE_IN, "vmovdqu64", "zmm", 64) UPPER_SIXTEEN(MOVE_IN, "vmovdqu64", "zmm", 64) HOLD
	      SIXTEEN(MOVE_OUT, "vmovdqu64", "zmm", 64) UPPER_SIXTEEN(MOVE_OUT, "vmovdqu64", "zmm", 64)
	      "vzeroupper\n",
	      2048, 5, "AVX-512 registers differ")
VECTOR_THREAD(masks,
	      EIGHT(MOVE_IN, "kmovq", "k", 8) HOLD EIGHT(MOVE_OUT, "kmovq", "k", 8),
	      64, 6, "AVX-512 masks differ")


int main(void)
{
	void *(*const bodies[])(void *) = { avx512, masks };

	if (!__builtin_cpu_supports("avx512bw"))
		leave_out("the processor has no AVX-512");
	return hold_registers(bodies, 2);
}
