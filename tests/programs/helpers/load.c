/* What is measured: load MIB THREADS PROCESSES. */
#include "scene.h"

#include <pthread.h>
#include <sys/mman.h>

static pthread_barrier_t started;

static void *idle(void *unused UNUSED)
{
	pthread_barrier_wait(&started);
	for (;;)
		pause();
	return NULL;
}

static int child(void *unused UNUSED)
{
	child_await_go();
	return 0;
}

int main(int argc, char **argv)
{
	size_t length = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0;
	int threads = argc > 2 ? atoi(argv[2]) : 1, processes = argc > 3 ? atoi(argv[3]) : 1;
	char *memory = mmap(NULL, length + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

	MUST(memory != MAP_FAILED);
	/* The usual case, and the harder one: small pages, none like another. */
	madvise(memory, length, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < length; i += 8)
		*(size_t *)(memory + i) = i * 2654435761u;
	for (int i = 1; i < processes; i++)
		spawn(child, NULL);
	pthread_barrier_init(&started, NULL, threads);
	scene_begin();
	for (int i = 1; i < threads; i++)
		MUST(pthread_create(&thread, NULL, idle, NULL) == 0);
	pthread_barrier_wait(&started);
	say_ready();
	scene_wait();
	return 0;
}
