/* The first thread of the process has ended; the others live on. */
#include "scene.h"

#include <pthread.h>

static void *body(void *unused UNUSED)
{
	sigset_t set;

	until_state(getpid(), 'Z');
	sigemptyset(&set);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	say_ready();
	scene_wait();
	CHECK(scene_state(getpid()) == 'Z', "the leader is %c", scene_state(getpid()));
	CHECK(gettid() != getpid(), "thread ids");
	exit(verdict());
}

int main(void)
{
	pthread_t thread;

	scene_begin();
	MUST(pthread_create(&thread, NULL, body, NULL) == 0);
	pthread_exit(NULL);
}
