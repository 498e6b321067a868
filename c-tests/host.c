/*
 * The host does not notice that the library works: not by its signal handlers, waits, masks,
 * descriptors, standard streams, working directory, threads, memory or errno, whatever state it is
 * in itself. Each case dumps another process and restores it as a child, once with what the library
 * chooses (short work is done in the host's memory), once by a program, for which a callback asks.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "test.h"

static char images_path[256];
static int images;
static volatile sig_atomic_t sigchlds;
static bool by_program;

static int agree(char *action, criu_notify_arg_t notify)
{
	(void)action;
	(void)notify;
	return 0;
}

static void options(void)
{
	fresh_options(images);
	if (by_program)
		criu_set_notify_cb(agree);
}

static void count(int signal)
{
	(void)signal;
	sigchlds++;
}

/* A process that waits; back when it does nothing else any more. */
static pid_t victim(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	CHECK_EQ(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		sigset_t none;

		signal(SIGCHLD, SIG_DFL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		quiet_streams();
		for (;;)
			pause();
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &byte, 1), 0);
	close(ready[0]);
	return pid;
}

/* What a host would see of itself. */
struct state {
	char fds[2048];
	char cwd[256];
	sigset_t mask;
	struct sigaction handler;
	int threads;
	int subreaper;
};

static int entries(const char *path, char *names, size_t size)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int number = 0;

	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		number++;
		if (names && atoi(entry->d_name) != dirfd(dir) && strlen(names) + 20 < size) {
			strcat(names, entry->d_name);
			strcat(names, " ");
		}
	}
	closedir(dir);
	return number;
}

static void look(struct state *state)
{
	memset(state, 0, sizeof(*state));
	entries("/proc/self/fd", state->fds, sizeof(state->fds));
	state->threads = entries("/proc/self/task", NULL, 0);
	CHECK(getcwd(state->cwd, sizeof(state->cwd)) != NULL);
	sigprocmask(SIG_SETMASK, NULL, &state->mask);
	sigaction(SIGCHLD, NULL, &state->handler);
	prctl(PR_GET_CHILD_SUBREAPER, &state->subreaper);
}

static void same(const struct state *before)
{
	struct state after;

	look(&after);
	CHECK(!strcmp(after.fds, before->fds));
	CHECK(!strcmp(after.cwd, before->cwd));
	CHECK(!memcmp(&after.mask, &before->mask, sizeof(after.mask)));
	CHECK(after.handler.sa_handler == before->handler.sa_handler);
	CHECK_EQ(after.threads, before->threads);
	CHECK_EQ(after.subreaper, before->subreaper);
}

static void dump_other(bool leave_running, pid_t pid)
{
	options();
	criu_set_pid(pid);
	criu_set_leave_running(leave_running);
	errno = 4321;
	CHECK_EQ(criu_dump(), 0);
	CHECK_EQ(errno, 4321);
}

/* No child but those the host made. */
static void no_children(void)
{
	CHECK_EQ(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	CHECK_EQ(errno, ECHILD);
}

/* Everything once. `signals`: whether SIGCHLD comes to the handler at once. */
static void work(bool signals, bool reaps)
{
	struct state before;
	pid_t pid = victim();

	look(&before);
	sigchlds = 0;
	dump_other(true, pid);
	same(&before);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), 0);
	CHECK_EQ(sigchlds, 0);
	dump_other(false, pid);
	if (reaps)
		CHECK_EQ(exit_code(pid), -SIGKILL);
	else
		waitpid(pid, NULL, 0);
	if (signals)
		CHECK_EQ(sigchlds, 1);
	same(&before);
	no_children();

	sigchlds = 0;
	options();
	CHECK_EQ(criu_restore_child(), pid);
	same(&before);
	CHECK_EQ(sigchlds, 0);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), 0);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	if (reaps)
		CHECK_EQ(exit_code(pid), -SIGKILL);
	else
		waitpid(pid, NULL, 0);
	if (signals)
		CHECK_EQ(sigchlds, 1);
	no_children();
	same(&before);
	criu_free_opts();
}

static void plain(void)
{
	work(false, true);
}

static void with_handler(void)
{
	struct sigaction action = { .sa_handler = count, .sa_flags = SA_RESTART };

	sigaction(SIGCHLD, &action, NULL);
	work(true, true);
}

static void with_sigchld_ignored(void)
{
	signal(SIGCHLD, SIG_IGN);
	work(false, false);
}

static void with_signals_blocked(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	work(false, true);
}

static void as_subreaper(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	work(false, true);
}

static void without_stdio(void)
{
	/* Failures are still told by the exit code. */
	int log = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	close(0);
	close(1);
	close(2);
	work(false, true);
	close(log);
}

static void in_another_directory(void)
{
	CHECK_EQ(chdir("/usr"), 0);
	work(false, true);
}

/* A thread that reaps every child there is, as a supervisor does. */
static volatile int strangers;

static void *reap_any(void *known)
{
	for (;;) {
		pid_t pid = waitpid(-1, NULL, 0);

		if (pid < 0) {
			usleep(1000);
			continue;
		}
		if (pid == (pid_t)(long)known)
			return NULL;
		strangers++;
	}
}

static void with_a_waiting_thread(void)
{
	pid_t pid = victim();
	pthread_t reaper;

	CHECK_EQ(pthread_create(&reaper, NULL, reap_any, (void *)(long)pid), 0);
	for (int round = 0; round < 5; round++)
		dump_other(true, pid);
	dump_other(false, pid);
	CHECK_EQ(pthread_join(reaper, NULL), 0);
	CHECK_EQ(strangers, 0);
}

/* A caller that shares its memory with its parent, which sleeps meanwhile. */
static int vfork_child(void *pid)
{
	dump_other(true, (pid_t)(long)pid);
	_exit(7);
}

static void in_a_vfork_child(void)
{
	static char stack[256 * 1024] __attribute__((aligned(16)));
	struct state before;
	pid_t pid = victim(), child;
	int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;

	look(&before);
	child = clone(vfork_child, stack + sizeof(stack), flags, (void *)(long)pid);
	CHECK_EQ(exit_code(child), 7);
	same(&before);
	dump_other(false, pid);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	no_children();
}

static long memory_kib(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmRSS: %ld", &kib);
	fclose(status);
	return kib;
}

/* Nor do 100 dumps and restores of a child, some of which fail. */
static void hundred_returns(void)
{
	struct state before;
	pid_t pid = victim();
	long memory = 0;

	for (int round = 0; round < 100; round++) {
		if (round == 20) {
			memory = memory_kib();
			look(&before);
		}
		dump_other(false, pid);
		/* Its number is taken until it is waited for. */
		options();
		CHECK_EQ(criu_restore_child(), -EBADE);
		CHECK_EQ(errno, EEXIST);
		CHECK_EQ(exit_code(pid), -SIGKILL);
		CHECK_EQ(criu_restore_child(), pid);
	}
	same(&before);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	no_children();
	CHECK(memory_kib() - memory < 512);
}

/* 200 dumps of the host itself leave nothing behind in it. */
static void two_hundred_dumps(void)
{
	struct state before;
	long memory = 0;

	quiet_streams();
	images = open(images_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int round = 0; round < 200; round++) {
		if (round == 20) {
			memory = memory_kib();
			look(&before);
		}
		fresh_options(images);
		criu_set_leave_running(true);
		CHECK_EQ(criu_dump(), 0);
	}
	same(&before);
	no_children();
	CHECK(memory_kib() - memory < 512);
}

static void run(const char *name, void (*body)(void))
{
	pid_t pid;

	images = make_images(images_path);
	pid = fork();
	if (!pid) {
		body();
		_exit(0);
	}
	CHECK_EQ(exit_code(pid), 0);
	close(images);
	remove_images(images_path);
	passed(name);
}

static void run_both(const char *name, void (*body)(void))
{
	char program[64];

	run(name, body);
	snprintf(program, sizeof(program), "%s, by a program", name);
	by_program = true;
	run(program, body);
	by_program = false;
}

int main(void)
{
	run_both("host: plain", plain);
	run_both("host: SIGCHLD handler", with_handler);
	run_both("host: SIGCHLD ignored", with_sigchld_ignored);
	run_both("host: all signals blocked", with_signals_blocked);
	run_both("host: subreaper", as_subreaper);
	run_both("host: standard streams closed", without_stdio);
	run_both("host: another working directory", in_another_directory);
	run_both("host: a thread in waitpid(-1)", with_a_waiting_thread);
	run_both("host: 100 returns of a child", hundred_returns);
	run("host: caller is a vfork child", in_a_vfork_child);
	run("host: 200 dumps in a row", two_hundred_dumps);
	return 0;
}
