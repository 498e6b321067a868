/* state: users=root,user privilege=none criu=both also=leave_running */
/* The simplest tree there is: one process that counts, in memory and in registers. */
#include "scene.h"

int main(void)
{
	volatile unsigned long counter = 0;
	unsigned long last = 0;

	scene_begin();
	say_ready();
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	while (!scene_go) {
		counter++;
		CHECK(counter == last + 1, "%lu follows %lu", counter, last);
		last = counter;
	}
	return verdict();
}
