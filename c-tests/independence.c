/*
 * Options of their own do not touch each other or the global ones, their last errors neither; all
 * may be used from many threads at once.
 */
#include <pthread.h>

#include "test.h"

static criu_opts *options(const char *service)
{
	criu_opts *opts = NULL;

	CHECK_EQ(criu_local_init_opts(&opts), 0);
	CHECK_EQ(criu_local_set_service_binary(opts, service), 0);
	return opts;
}

static void errors_are_apart(void)
{
	criu_opts *one = options("/nowhere/one"), *two = options("/nowhere/two");
	const char *text;

	CHECK_EQ(criu_init_opts(), 0);
	CHECK_EQ(criu_local_check(one), -ECONNREFUSED);
	CHECK_EQ(criu_local_check(two), -ECONNREFUSED);
	text = criu_local_last_error(one);
	CHECK(strstr(text, "/nowhere/one") != NULL);
	CHECK(strstr(criu_local_last_error(two), "/nowhere/two") != NULL);
	CHECK(strstr(text, "/nowhere/one") != NULL);
	CHECK_EQ(strlen(criu_last_error()), 0);
	/* Made anew in place: forgotten. */
	CHECK_EQ(criu_local_init_opts(&one), 0);
	CHECK_EQ(strlen(criu_local_last_error(one)), 0);
	criu_local_free_opts(one);
	CHECK(strstr(criu_local_last_error(two), "/nowhere/two") != NULL);
	criu_local_free_opts(two);
	passed("options and their errors are apart");
}

/* Each thread has options of its own, and all write to the global ones. */
static void *hammer(void *argument)
{
	char name[64], path[64];
	long number = (long)argument;

	sprintf(name, "/nowhere/%ld", number);
	for (int round = 0; round < 200; round++) {
		criu_opts *own = options(name);

		sprintf(path, "log-%ld-%d", number, round);
		CHECK_EQ(criu_local_set_log_file(own, path), 0);
		CHECK_EQ(criu_set_log_file(path), 0);
		CHECK_EQ(criu_add_external(path), 0);
		criu_set_pid((int)number);
		CHECK_EQ(criu_local_check(own), -ECONNREFUSED);
		CHECK(strstr(criu_local_last_error(own), name) != NULL);
		if (round % 50 == 0)
			CHECK_EQ(criu_init_opts(), 0);
		CHECK(criu_last_error() != NULL);
		criu_local_free_opts(own);
	}
	return NULL;
}

static void many_threads(void)
{
	enum { THREADS = 8 };
	pthread_t threads[THREADS];

	CHECK_EQ(criu_init_opts(), 0);
	for (long i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, hammer, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	criu_free_opts();
	passed("many threads");
}

/* Verbs of several threads at once, each with its own worker. */
static void *ask(void *opts)
{
	for (int round = 0; round < 5; round++)
		CHECK_EQ(criu_local_check_version(opts, 40000), 1);
	return NULL;
}

static void many_workers(void)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	criu_opts *opts[THREADS];

	for (int i = 0; i < THREADS; i++) {
		opts[i] = options(getenv("CRIU_TEST_WORKER"));
		CHECK_EQ(pthread_create(&threads[i], NULL, ask, opts[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
		criu_local_free_opts(opts[i]);
	}
	passed("many workers");
}

int main(void)
{
	errors_are_apart();
	many_threads();
	many_workers();
	return 0;
}
