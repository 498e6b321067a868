/* state: users=root,user privilege=none criu=no(its format has no field for tiles) */
/* The tiles of AMX. */
#include "registers.h"

#include <cpuid.h>

#ifndef ARCH_REQ_XCOMP_PERM
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif

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

static int has_tiles(void)
{
	unsigned a, b, c, d = 0;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (1u << 24));
}

int main(void)
{
	void *(*const bodies[])(void *) = { amx };

	if (!has_tiles())
		leave_out("the processor has no AMX");
	if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, 18) != 0)
		leave_out("the kernel does not allow AMX");
	return hold_registers(bodies, 1);
}
