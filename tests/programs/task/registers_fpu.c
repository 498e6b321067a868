/* state: users=root,user privilege=none criu=both */
/* x87, MMX and SSE, with their control words. */
#include "registers.h"

static void *x87(void *unused UNUSED)
{
	double in[8] = { 1.5, -2.25, 3.125, 1e300, -1e-300, 6.75, 0.1, 8.0 }, out[8] = { 0 };
	uint16_t control = 0x0e7f, control_out = 0;

	__asm__ volatile("fninit\n fldcw %[control]\n"
			 "fldl 0(%[in])\n fldl 8(%[in])\n fldl 16(%[in])\n fldl 24(%[in])\n"
			 "fldl 32(%[in])\n fldl 40(%[in])\n fldl 48(%[in])\n fldl 56(%[in])\n" HOLD
			 "fnstcw (%[word])\n"
			 "fstpl 56(%[out])\n fstpl 48(%[out])\n fstpl 40(%[out])\n fstpl 32(%[out])\n"
			 "fstpl 24(%[out])\n fstpl 16(%[out])\n fstpl 8(%[out])\n fstpl 0(%[out])\n"
			 "fninit\n"
			 : FLAGS
			 : [in] "r"(in), [out] "r"(out), [control] "m"(control), [word] "r"(&control_out)
			 : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
	CHECK(memcmp(in, out, sizeof(in)) == 0, "x87 registers differ");
	CHECK(control_out == control, "x87 control word is %#x", control_out);
	return NULL;
}

/* Nothing else runs in these functions between the asm and the end that uses vector registers. */
VECTOR_THREAD(mmx,
	      EIGHT(MOVE_IN, "movq", "mm", 8) HOLD EIGHT(MOVE_OUT, "movq", "mm", 8) "emms\n",
	      64, 2, "MMX registers differ")
VECTOR_THREAD(sse,
	      SIXTEEN(MOVE_IN, "movdqu", "xmm", 16) HOLD SIXTEEN(MOVE_OUT, "movdqu", "xmm", 16),
	      256, 3, "SSE registers differ")

static void *mxcsr(void *unused UNUSED)
{
	uint32_t in = 0x7fa0, out = 0, usual = 0x1f80;

	__asm__ volatile("ldmxcsr %[in]\n" HOLD "stmxcsr %[out]\n ldmxcsr %[usual]\n"
			 : FLAGS, [out] "+m"(out)
			 : [in] "m"(in), [usual] "m"(usual)
			 : "memory", "cc");
	CHECK(out == in, "MXCSR is %#x", out);
	return NULL;
}

int main(void)
{
	void *(*const bodies[])(void *) = { x87, mmx, sse, mxcsr };

	return hold_registers(bodies, 4);
}
