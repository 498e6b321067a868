/* state: users=root,user privilege=none criu=both */
/* General registers and the flags. */
#include "registers.h"

static void *general(void *unused UNUSED)
{
	uint64_t in[12], out[12];

	fill_pattern(in, sizeof(in), 1);
	memset(out, 0, sizeof(out));
	__asm__ volatile("movq 0(%[in]), %%rax\n movq 8(%[in]), %%rbx\n movq 16(%[in]), %%rcx\n"
			 "movq 24(%[in]), %%rdx\n movq 48(%[in]), %%r8\n movq 56(%[in]), %%r9\n"
			 "movq 64(%[in]), %%r10\n movq 72(%[in]), %%r11\n movq 80(%[in]), %%r12\n"
			 "movq 88(%[in]), %%r13\n" HOLD
			 "movq %%rax, 0(%[out])\n movq %%rbx, 8(%[out])\n movq %%rcx, 16(%[out])\n"
			 "movq %%rdx, 24(%[out])\n movq %%r8, 48(%[out])\n movq %%r9, 56(%[out])\n"
			 "movq %%r10, 64(%[out])\n movq %%r11, 72(%[out])\n movq %%r12, 80(%[out])\n"
			 "movq %%r13, 88(%[out])\n"
			 : FLAGS
			 : [in] "S"(in), [out] "D"(out)
			 : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "cc", "memory");
	out[4] = in[4];
	out[5] = in[5];
	CHECK(memcmp(in, out, sizeof(in)) == 0, "general registers differ");
	return NULL;
}

/* The carry and direction flags: nothing in the loop touches them (jrcxz tests a register). */
static void *flags(void *unused UNUSED)
{
	uint64_t out = 0;

	__asm__ volatile("lock incl %[settled]\n"
			 "stc\n"
			 "std\n"
			 "1: pause\n"
			 "movl %[stop], %%ecx\n"
			 "jrcxz 1b\n"
			 "pushfq\n"
			 "popq %[out]\n"
			 "cld\n"
			 : [settled] "+m"(settled), [out] "=r"(out)
			 : [stop] "m"(stop)
			 : "rcx", "cc", "memory");
	CHECK((out & 1) && (out & 0x400), "flags are %#lx", (unsigned long)out);
	return NULL;
}

int main(void)
{
	void *(*const bodies[])(void *) = { general, flags };

	return hold_registers(bodies, 2);
}
