/*
 * Register files, held by threads that do nothing but look at a flag while they are dumped: what was
 * loaded before is what is stored after.
 */
#ifndef REGISTERS_H
#define REGISTERS_H

#include "scene.h"

#include <pthread.h>

static volatile int stop, settled;

/* What stands between loading and storing: waits for `stop` without any call. */
#define HOLD                                                                                       \
	"lock incl %[settled]\n"                                                                   \
	"1: pause\n"                                                                               \
	"cmpl $0, %[stop]\n"                                                                       \
	"je 1b\n"
#define FLAGS [settled] "+m"(settled), [stop] "+m"(stop)

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

/* Runs each body in a thread of its own, dumped when all of them hold their registers. */
static int hold_registers(void *(*const *bodies)(void *), int count)
{
	pthread_t threads[16];

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

#endif
