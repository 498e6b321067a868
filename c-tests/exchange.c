/*
 * Self-dumps go both ways between us and CRIU, where CRIU_PEER names CRIU's binary.
 *
 * The library drives either engine; whoever restores answers the call that the dumped program is
 * in. Covered: 0 after the dump and 1 in the clone, from the first and from a second thread, and a
 * clone that dumps itself again.
 */
#include <pthread.h>

#include "test.h"

/* NULL is the library's own worker. */
struct pair {
	const char *name;
	const char *dumper;
	const char *restorer;
};

static char images_path[256];

static void use(const char *engine, int images)
{
	fresh_options(images);
	if (engine)
		CHECK_EQ(criu_set_service_binary(engine), 0);
}

/* 41 in the dumped process, 43 in its clone. */
static int dump_self(const char *engine)
{
	int images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result;

	use(engine, images);
	criu_set_leave_running(true);
	result = criu_dump();
	close(images);
	return result < 0 ? 98 : result == 1 ? 43 : 41;
}

static void *dumping_thread(void *engine)
{
	return (void *)(long)dump_self(engine);
}

static int dump_from_thread(const char *engine)
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, dumping_thread, (void *)engine))
		return 96;
	pthread_join(thread, &result);
	return (int)(long)result;
}

/* The clone of the first dump dumps itself once more; its clone ends with 45. */
static int dump_twice(const char *engine)
{
	int first = dump_self(engine);

	if (first != 43)
		return first;
	return dump_self(engine) + 2;
}

static pid_t start(const struct pair *pair, int (*dumpee)(const char *))
{
	pid_t pid = fork();

	if (!pid) {
		quiet_streams();
		_exit(dumpee(pair->dumper));
	}
	return pid;
}

static void restore(const struct pair *pair, int images, pid_t pid, int wanted)
{
	use(pair->restorer, images);
	CHECK_EQ(criu_restore_child(), pid);
	CHECK_EQ(exit_code(pid), wanted);
}

/* The second restore is of the same images, unless the first clone has dumped itself over them. */
static void round_trip(const struct pair *pair, const char *what, int (*dumpee)(const char *),
		       int second)
{
	int images = make_images(images_path);
	pid_t pid = start(pair, dumpee);

	CHECK_EQ(exit_code(pid), 41);
	restore(pair, images, pid, 43);
	restore(pair, images, pid, second);
	close(images);
	remove_images(images_path);
	printf("ok %s, %s\n", what, pair->name);
	fflush(stdout);
}

/* Where `make test` looks for it. */
static void leave_out(const char *why)
{
	const char *path = getenv("CRIU_TESTS_LEFT_OUT");
	FILE *file = path ? fopen(path, "a") : NULL;

	printf("left out: %s\n", why);
	if (!file)
		return;
	fprintf(file, "%s\tc-tests/exchange.c\n", why);
	fclose(file);
}

int main(void)
{
	const char *peer = getenv("CRIU_PEER");
	struct pair pairs[] = {
		{ "by us, restored by CRIU", NULL, peer },
		{ "by CRIU, restored by us", peer, NULL },
	};
	size_t i;

	if (!peer) {
		leave_out("there is no CRIU 4.2, or CRIU_PEER does not name it");
		return 0;
	}
	for (i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		round_trip(&pairs[i], "self-dump", dump_self, 43);
		round_trip(&pairs[i], "self-dump from a second thread", dump_from_thread, 43);
		round_trip(&pairs[i], "dumped again as a clone", dump_twice, 45);
	}
	return 0;
}
