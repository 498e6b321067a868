/* A tree whose root is stopped, with several threads. Continued, it goes on where it was. */
#include "scene.h"

#include <pthread.h>

static volatile int count;

static __attribute__((noreturn)) void *counter(void *unused UNUSED)
{
	for (;;)
		count++;
}

int main(void)
{
	pthread_t thread;
	pid_t watcher;
	int status = -1, ends[2];
	char byte;

	MUST(pipe2(ends, O_CLOEXEC) == 0);
	scene_begin();
	MUST(pthread_create(&thread, NULL, counter, NULL) == 0);
	watcher = TRY(fork());
	if (watcher == 0) {
		/* Says ready when the root has stopped, and wakes it when told to. */
		close(ends[1]);
		close(ends[0]);
		until_state(getppid(), 'T');
		say_ready();
		scene_wait();
		CHECK(scene_state(getppid()) == 'T', "the root is %c", scene_state(getppid()));
		kill(getppid(), SIGCONT);
		_exit(verdict());
	}
	close(ends[1]);
	MUST(read(ends[0], &byte, 1) == 0);
	close(ends[0]);
	raise(SIGSTOP);
	int before = count;
	while (count == before)
		sched_yield();
	CHECK(waitpid(watcher, &status, 0) == watcher && status == 0, "the watcher ended with %#x", status);
	return verdict();
}
