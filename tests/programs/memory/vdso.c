/* state: users=root,user privilege=none criu=both */
/* The vDSO: it answers, from its old address. */
#include "memory.h"

#include <sys/auxv.h>
#include <sys/time.h>

/* Later than another time, or the same. */
static int follows(struct timespec later, struct timespec earlier)
{
	return later.tv_sec > earlier.tv_sec ||
	       (later.tv_sec == earlier.tv_sec && later.tv_nsec >= earlier.tv_nsec);
}

static struct timespec by_the_kernel(clockid_t clock)
{
	struct timespec now;

	MUST(syscall(SYS_clock_gettime, clock, &now) == 0);
	return now;
}

int main(void)
{
	unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
	struct timespec before, first, now;
	struct timeval day;

	clock_gettime(CLOCK_MONOTONIC, &before);
	await_go();
	CHECK(vdso && memcmp((void *)vdso, "\177ELF", 4) == 0, "no vDSO at %#lx", vdso);
	first = by_the_kernel(CLOCK_MONOTONIC);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && follows(now, before), "the clock goes back");
	CHECK(follows(now, first) && follows(by_the_kernel(CLOCK_MONOTONIC), now),
	      "vDSO and kernel disagree");
	first = by_the_kernel(CLOCK_REALTIME);
	first.tv_nsec -= first.tv_nsec % 1000;
	CHECK(gettimeofday(&day, NULL) == 0, "gettimeofday: %s", strerror(errno));
	now = (struct timespec){ day.tv_sec, day.tv_usec * 1000 };
	CHECK(follows(now, first) && follows(by_the_kernel(CLOCK_REALTIME), now), "the time of day");
	CHECK(follows((struct timespec){ time(NULL) + 1, 0 }, first), "the second of the day");
	return verdict();
}
