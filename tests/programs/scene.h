/*
 * What the programs under test share. A program sets its objects up, calls await_go() (or
 * say_ready() and a wait of its own), is dumped and restored meanwhile, looks at its objects
 * with CHECK, and returns verdict(). Nothing of the harness is open while it is dumped.
 *
 * SCENE_DIR is a directory of the program's own, writable by any user.
 */
#ifndef SCENE_H
#define SCENE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static volatile sig_atomic_t scene_go;
static volatile int scene_failures;

static const char *scene_path(const char *name)
{
	static __thread char path[PATH_MAX];
	const char *dir = getenv("SCENE_DIR");

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "/", name);
	return path;
}

/* Appends one line to the file in which the harness looks for complaints. */
static void scene_complain(const char *file, int line, const char *what, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static void scene_complain(const char *file, int line, const char *what, const char *format, ...)
{
	char text[1024];
	va_list args;
	int length, used, fd, saved = errno;

	length = snprintf(text, 700, "%s:%d (pid %d): not so: %s: ", file, line, getpid(),
			  what);
	length = length < 700 ? length : 700;
	va_start(args, format);
	used = vsnprintf(text + length, sizeof(text) - length - 1, format, args);
	va_end(args);
	length += used < (int)sizeof(text) - length - 1 ? used : (int)sizeof(text) - length - 2;
	text[length++] = '\n';
	scene_failures++;
	/* The path is taken from a copy, for programs that change their root or directory. */
	fd = open(scene_path("verdict"), O_WRONLY | O_APPEND | O_CREAT, 0666);
	if (fd < 0 || write(fd, text, length) != length)
		(void)!write(2, text, length);
	if (fd >= 0)
		close(fd);
	errno = saved;
}

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			scene_complain(__FILE__, __LINE__, #condition, __VA_ARGS__);               \
	} while (0)

/* The same for what has to succeed before there is anything to dump. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			scene_complain(__FILE__, __LINE__, #condition, "%s", strerror(errno));     \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

/* A system call or library function that returns -1 on failure. */
#define TRY(call)                                                                                  \
	({                                                                                         \
		__typeof__(call) scene_result = (call);                                            \
		MUST(scene_result != (__typeof__(call))-1);                                        \
		scene_result;                                                                      \
	})

/*
 * The machine has not what the program is about: the test is left out, and the reason is shown. Only
 * for what nobody could install.
 */
static UNUSED __attribute__((noreturn)) void leave_out(const char *reason)
{
	int fd = TRY(open(scene_path("left-out"), O_WRONLY | O_CREAT, 0666));

	MUST(write(fd, reason, strlen(reason)) == (ssize_t)strlen(reason));
	_exit(77);
}

static UNUSED int verdict(void)
{
	return scene_failures ? 1 : 0;
}

static void scene_on_go(int signal UNUSED)
{
	scene_go = 1;
}

static void scene_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}

/* Before there are threads: none but the one that waits may take the signal. */
static __attribute__((constructor)) void scene_start(void)
{
	scene_block();
}

/* From here on SIGUSR1 means: look at your objects. It stays blocked outside scene_wait(). */
static UNUSED void scene_begin(void)
{
	struct sigaction action = { .sa_handler = scene_on_go };

	scene_block();
	MUST(sigaction(SIGUSR1, &action, NULL) == 0);
}

static UNUSED void scene_wait(void)
{
	sigset_t set;

	sigprocmask(SIG_BLOCK, NULL, &set);
	sigdelset(&set, SIGUSR1);
	while (!scene_go)
		sigsuspend(&set);
	scene_go = 0;
}

/*
 * Told to, asks a service for a dump of this process, with the request in a file of the scene. Goes on
 * when it has been restored from that dump. The numbers of both descriptors are out of the way.
 */
static void scene_dump_self(void)
{
	enum { IMAGES = 180, SERVICE };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static const char restored[] = { 0x1a, 0x02, 0x08, 0x01 };
	char request[1024], answer[1024];
	int number, file, images, service;
	ssize_t length;
	sigset_t go;

	sigemptyset(&go);
	sigaddset(&go, SIGUSR1);
	MUST(sigwait(&go, &number) == 0);
	file = TRY(open(scene_path("request"), O_RDONLY | O_CLOEXEC));
	length = TRY(read(file, request, sizeof(request)));
	close(file);
	images = TRY(open(scene_path("images"), O_RDONLY | O_DIRECTORY));
	MUST(dup2(images, IMAGES) == IMAGES && close(images) == 0);
	service = TRY(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	MUST(dup2(service, SERVICE) == SERVICE && close(service) == 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", scene_path("socket"));
	MUST(connect(SERVICE, (struct sockaddr *)&address, sizeof(address)) == 0);
	MUST(send(SERVICE, request, length, 0) == length);
	do
		length = recv(SERVICE, answer, sizeof(answer), 0);
	while (length < 0 && errno == EINTR);
	MUST(length >= 0);
	/* The answer to a dump, with `restored` set. */
	CHECK(memmem(answer, length, restored, sizeof(restored)), "not restored: %.*s", (int)length, answer);
	close(SERVICE);
	close(IMAGES);
}

/* Everything is set up: the harness may dump, or tell the program to dump itself. */
static UNUSED void say_ready(void)
{
	int fd = TRY(open(scene_path("ready"), O_WRONLY | O_CLOEXEC));

	MUST(write(fd, "+", 1) == 1);
	close(fd);
	if (getenv("SCENE_SELF_DUMP"))
		scene_dump_self();
}

/* What nearly every program does between set-up and checks. */
static UNUSED void await_go(void)
{
	scene_begin();
	say_ready();
	scene_wait();
}

/*
 * Forks a child that runs body() and exits with its result. Returns when the child has called
 * child_ready(): no child is in the middle of its set-up when the tree is dumped.
 */
static int scene_child_pipe = -1;

static UNUSED pid_t spawn(int (*body)(void *), void *argument)
{
	int ends[2];
	char byte;
	pid_t pid;

	MUST(pipe2(ends, O_CLOEXEC) == 0);
	pid = TRY(fork());
	if (pid == 0) {
		close(ends[0]);
		scene_child_pipe = ends[1];
		_exit(body(argument));
	}
	close(ends[1]);
	MUST(read(ends[0], &byte, 1) == 1);
	close(ends[0]);
	return pid;
}

static UNUSED void child_ready(void)
{
	scene_begin();
	MUST(write(scene_child_pipe, "+", 1) == 1);
	close(scene_child_pipe);
	scene_child_pipe = -1;
}

static UNUSED void child_await_go(void)
{
	child_ready();
	scene_wait();
}

/* Tells a child to look at its objects, and takes its verdict over. */
static UNUSED void child_verdict(pid_t pid)
{
	int status = -1;

	CHECK(kill(pid, SIGUSR1) == 0, "child %d: %s", pid, strerror(errno));
	CHECK(waitpid(pid, &status, 0) == pid, "child %d: %s", pid, strerror(errno));
	CHECK(status == 0, "child %d ended with status %#x", pid, status);
}

/* Blocks until the task sleeps in the given system call. */
static UNUSED void until_in_syscall(pid_t tid, long number)
{
	char path[64], text[256];
	long found;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	for (;;) {
		file = fopen(path, "r");
		MUST(file != NULL);
		found = fgets(text, sizeof(text), file) ? strtol(text, NULL, 10) : -1;
		if (strncmp(text, "running", 7) == 0)
			found = -1;
		fclose(file);
		if (found == number)
			return;
		sched_yield();
	}
}

static UNUSED char scene_state(pid_t tid)
{
	char path[64], text[512] = "", *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	(void)!fgets(text, sizeof(text), file);
	fclose(file);
	end = strrchr(text, ')');
	return end ? end[2] : 0;
}

static UNUSED void until_state(pid_t tid, char state)
{
	while (scene_state(tid) != state)
		sched_yield();
}

/* A field of /proc/PID/status, as text without leading blanks; empty if absent. */
static UNUSED const char *status_field(pid_t tid, const char *name)
{
	static __thread char text[512];
	char path[64];
	size_t length = strlen(name);
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	file = fopen(path, "r");
	MUST(file != NULL);
	while (fgets(text, sizeof(text), file)) {
		if (strncmp(text, name, length) == 0 && text[length] == ':') {
			char *value = text + length + 1;
			value += strspn(value, " \t");
			value[strcspn(value, "\n")] = 0;
			fclose(file);
			return value;
		}
	}
	fclose(file);
	return "";
}

/* Bytes that differ with place and seed, for contents that have to come back. */
static UNUSED void fill_pattern(void *memory, size_t length, unsigned seed)
{
	unsigned char *bytes = memory;

	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)((i * 2654435761u + seed * 40503u) >> 11);
}

static UNUSED int pattern_intact(const void *memory, size_t length, unsigned seed)
{
	const unsigned char *bytes = memory;

	for (size_t i = 0; i < length; i++)
		if (bytes[i] != (unsigned char)((i * 2654435761u + seed * 40503u) >> 11))
			return 0;
	return 1;
}

#endif
