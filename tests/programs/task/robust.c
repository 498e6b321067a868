/* state: users=root,user privilege=none criu=both */
/* Robust mutexes: who dies holding one is noticed, in a thread and across processes. */
#include "scene.h"

#include <pthread.h>
#include <sys/mman.h>

static pthread_mutex_t *mutexes;

static void *holder(void *go)
{
	pthread_mutex_lock(&mutexes[0]);
	pthread_barrier_wait(go);
	/* Ends with the mutex held. */
	pthread_barrier_wait(go);
	return NULL;
}

static int child(void *unused UNUSED)
{
	MUST(pthread_mutex_lock(&mutexes[1]) == 0);
	child_ready();
	for (;;)
		pause();
}

int main(void)
{
	pthread_mutexattr_t attributes;
	pthread_barrier_t go;
	pthread_t thread;
	pid_t pid;

	mutexes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(mutexes != MAP_FAILED);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&mutexes[0], &attributes);
	pthread_mutex_init(&mutexes[1], &attributes);
	pid = spawn(child, NULL);
	pthread_barrier_init(&go, NULL, 2);
	MUST(pthread_create(&thread, NULL, holder, &go) == 0);
	pthread_barrier_wait(&go);

	await_go();

	CHECK(pthread_mutex_trylock(&mutexes[0]) == EBUSY, "the thread's mutex is free");
	CHECK(pthread_mutex_trylock(&mutexes[1]) == EBUSY, "the child's mutex is free");
	pthread_barrier_wait(&go);
	pthread_join(thread, NULL);
	CHECK(pthread_mutex_lock(&mutexes[0]) == EOWNERDEAD, "the thread's death goes unnoticed");
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid, "the child is lost");
	CHECK(pthread_mutex_trylock(&mutexes[1]) == EOWNERDEAD, "the child's death goes unnoticed");
	return verdict();
}
