/*
 * Every register file the machine has, held by threads that do nothing but look at a flag:
 * general registers and flags, x87, SSE, AVX, AVX-512 with its masks, AMX tiles.
 */
#include "scene.h"

#include <cpuid.h>
#include <pthread.h>

#ifndef ARCH_REQ_XCOMP_PERM
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif

static volatile int stop, settled;

/* What stands between loading and storing: waits for `stop` without any call. */
#define HOLD                                                                                       \
	"lock incl %[settled]\n"                                                                   \
	"1: pause\n"                                                                               \
	"cmpl $0, %[stop]\n"                                                                       \
	"je 1b\n"
#define FLAGS [settled] "+m"(settled), [stop] "+m"(stop)

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

/* n registers of `width` bytes, one load or store each. */
#define MOVE_IN(insn, reg, n, width) insn " " #n "*" #width "(%[in]), %%" reg #n "\n"
#define MOVE_OUT(insn, reg, n, width) insn " %%" reg #n ", " #n "*" #width "(%[out])\n"
#define EIGHT(move, insn, reg, width)                                                              \
	move(insn, reg, 0, width) move(insn, reg, 1, width) move(insn, reg, 2, width)              \
	move(insn, reg, 3, width) move(insn, reg, 4, width) move(insn, reg, 5, width)              \
	move(insn, reg, 6, width) move(insn, reg, 7, width)
#define SIXTEEN(move, insn, reg, width)                                                            \
	EIGHT(move, insn, reg, width)                                                              \
	move(insn, reg, 8, width) move(insn, reg, 9, width) move(insn, reg, 10, width)             \
	move(insn, reg, 11, width) move(insn, reg, 12, width) move(insn, reg, 13, width)           \
	move(insn, reg, 14, width) move(insn, reg, 15, width)
#define UPPER_SIXTEEN(move, insn, reg, width)                                                      \
	move(insn, reg, 16, width) move(insn, reg, 17, width) move(insn, reg, 18, width)           \
	move(insn, reg, 19, width) move(insn, reg, 20, width) move(insn, reg, 21, width)           \
	move(insn, reg, 22, width) move(insn, reg, 23, width) move(insn, reg, 24, width)           \
	move(insn, reg, 25, width) move(insn, reg, 26, width) move(insn, reg, 27, width)           \
	move(insn, reg, 28, width) move(insn, reg, 29, width) move(insn, reg, 30, width)           \
	move(insn, reg, 31, width)

#define VECTOR_THREAD(name, instructions, bytes, seed, complaint)                                  \
	static void *name(void *unused UNUSED)                                                     \
	{                                                                                          \
		static unsigned char in[bytes], out[bytes];                                        \
                                                                                                   \
		fill_pattern(in, sizeof(in), seed);                                                \
		__asm__ volatile(instructions : FLAGS : [in] "r"(in), [out] "r"(out) : "memory", "cc"); \
		CHECK(memcmp(in, out, sizeof(in)) == 0, complaint);                                \
		return NULL;                                                                       \
	}

/* Nothing else runs in these functions between the asm and the end that uses vector registers. */
VECTOR_THREAD(mmx,
	      EIGHT(MOVE_IN, "movq", "mm", 8) HOLD EIGHT(MOVE_OUT, "movq", "mm", 8) "emms\n",
	      64, 2, "MMX registers differ")
VECTOR_THREAD(sse,
	      SIXTEEN(MOVE_IN, "movdqu", "xmm", 16) HOLD SIXTEEN(MOVE_OUT, "movdqu", "xmm", 16),
	      256, 3, "SSE registers differ")
VECTOR_THREAD(avx,
	      SIXTEEN(MOVE_IN, "vmovdqu", "ymm", 32) HOLD SIXTEEN(MOVE_OUT, "vmovdqu", "ymm", 32) "vzeroupper\n",
	      512, 4, "AVX registers differ")
VECTOR_THREAD(avx512,
	      SIXTEEN(MOVE_IN, "vmovdqu64", "zmm", 64) UPPER_SIXTEEN(MOVE_IN, "vmovdqu64", "zmm", 64) HOLD
	      SIXTEEN(MOVE_OUT, "vmovdqu64", "zmm", 64) UPPER_SIXTEEN(MOVE_OUT, "vmovdqu64", "zmm", 64)
	      "vzeroupper\n",
	      2048, 5, "AVX-512 registers differ")
VECTOR_THREAD(masks,
	      EIGHT(MOVE_IN, "kmovq", "k", 8) HOLD EIGHT(MOVE_OUT, "kmovq", "k", 8),
	      64, 6, "AVX-512 masks differ")

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

/* Eight tiles of 16 rows of 64 bytes. The opcodes are spelt out for assemblers without AMX. */
static void *amx(void *unused UNUSED)
{
	static unsigned char in[8][1024], out[8][1024];
	static struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes_per_row[16];
		uint8_t rows[16];
	} config, config_out;

	config.palette = 1;
	for (int i = 0; i < 8; i++) {
		config.bytes_per_row[i] = 64;
		config.rows[i] = 16;
	}
	fill_pattern(in, sizeof(in), 7);
	__asm__ volatile("ldtilecfg (%[config])\n"
			 "mov %[in], %%rsi\n mov $64, %%rcx\n"
			 "tileloadd 0(%%rsi,%%rcx,1), %%tmm0\n tileloadd 1024(%%rsi,%%rcx,1), %%tmm1\n"
			 "tileloadd 2048(%%rsi,%%rcx,1), %%tmm2\n tileloadd 3072(%%rsi,%%rcx,1), %%tmm3\n"
			 "tileloadd 4096(%%rsi,%%rcx,1), %%tmm4\n tileloadd 5120(%%rsi,%%rcx,1), %%tmm5\n"
			 "tileloadd 6144(%%rsi,%%rcx,1), %%tmm6\n tileloadd 7168(%%rsi,%%rcx,1), %%tmm7\n" HOLD
			 "mov %[out], %%rsi\n"
			 "tilestored %%tmm0, 0(%%rsi,%%rcx,1)\n tilestored %%tmm1, 1024(%%rsi,%%rcx,1)\n"
			 "tilestored %%tmm2, 2048(%%rsi,%%rcx,1)\n tilestored %%tmm3, 3072(%%rsi,%%rcx,1)\n"
			 "tilestored %%tmm4, 4096(%%rsi,%%rcx,1)\n tilestored %%tmm5, 5120(%%rsi,%%rcx,1)\n"
			 "tilestored %%tmm6, 6144(%%rsi,%%rcx,1)\n tilestored %%tmm7, 7168(%%rsi,%%rcx,1)\n"
			 "sttilecfg (%[config_out])\n tilerelease\n"
			 : FLAGS
			 : [in] "r"(in), [out] "r"(out), [config] "r"(&config), [config_out] "r"(&config_out)
			 : "memory", "cc", "rsi", "rcx");
	CHECK(memcmp(in, out, sizeof(in)) == 0, "AMX tiles differ");
	CHECK(memcmp(&config, &config_out, sizeof(config)) == 0, "the AMX tile configuration differs");
	return NULL;
}

static int has_amx(void)
{
	unsigned a, b, c, d = 0;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & (1u << 24)))
		return 0;
	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, 18) == 0;
}

int main(void)
{
	void *(*bodies[16])(void *) = { general, flags, x87, mmx, sse, mxcsr };
	pthread_t threads[16];
	int count = 6;

	if (__builtin_cpu_supports("avx"))
		bodies[count++] = avx;
	if (__builtin_cpu_supports("avx512bw")) {
		bodies[count++] = avx512;
		bodies[count++] = masks;
	}
	if (has_amx())
		bodies[count++] = amx;
	scene_begin();
	for (int i = 0; i < count; i++)
		MUST(pthread_create(&threads[i], NULL, bodies[i], NULL) == 0);
	while (settled < count)
		sched_yield();
	say_ready();
	scene_wait();
	stop = 1;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return verdict();
}
