/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Many threads, each with a name, a mask, an alternative stack and thread-local data. */
#include "scene.h"

#include <pthread.h>
#include <sys/prctl.h>

#define THREADS 120

static pthread_barrier_t settled, leave;
static __thread int own;
static pid_t tids[THREADS];
static char stacks[THREADS][8192];

static void *body(void *argument)
{
	int i = (int)(intptr_t)argument;
	char name[16], found_name[16] = "";
	stack_t stack = { .ss_sp = stacks[i], .ss_size = sizeof(stacks[i]) }, found;
	sigset_t set, found_set;

	own = i * 3;
	tids[i] = gettid();
	snprintf(name, sizeof(name), "thread %d", i);
	MUST(prctl(PR_SET_NAME, name) == 0);
	MUST(sigaltstack(&stack, NULL) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + i % 25);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	pthread_barrier_wait(&settled);
	pthread_barrier_wait(&leave);
	CHECK(own == i * 3, "thread-local data of thread %d", i);
	CHECK(gettid() == tids[i], "thread %d was %d, is %d", i, tids[i], gettid());
	prctl(PR_GET_NAME, found_name);
	CHECK(strcmp(name, found_name) == 0, "%s is called %s", name, found_name);
	sigaltstack(NULL, &found);
	CHECK(found.ss_sp == stack.ss_sp, "alternative stack of thread %d", i);
	pthread_sigmask(SIG_SETMASK, NULL, &found_set);
	CHECK(memcmp(&set, &found_set, 8) == 0, "mask of thread %d", i);
	return (void *)(intptr_t)(i + 1);
}

int main(void)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&settled, NULL, THREADS + 1);
	pthread_barrier_init(&leave, NULL, THREADS + 1);
	scene_begin();
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i) == 0);
	pthread_barrier_wait(&settled);
	say_ready();
	scene_wait();
	pthread_barrier_wait(&leave);
	for (int i = 0; i < THREADS; i++) {
		void *result = NULL;
		CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(intptr_t)(i + 1),
		      "thread %d ends with %p", i, result);
	}
	return verdict();
}
