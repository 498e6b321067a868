/*
 * A pipe to the outside is another pipe after the restore; statistics are shown in the log; the
 * processor is compared. A child with a pipe as output is dumped and restored by its parent.
 */
#include "test.h"

/* Tells its pid over and over, until it cannot. */
static void talk(int out)
{
	setsid();
	dup2(out, 1);
	dup2(open("/dev/null", O_RDWR), 0);
	dup2(0, 2);
	close_range(3, ~0U, 0);
	for (;;) {
		int pid = getpid();

		if (write(1, &pid, sizeof(pid)) != sizeof(pid))
			_exit(7);
		usleep(1000);
	}
}

static int hear(int in)
{
	int pid = -1;

	CHECK_EQ(read(in, &pid, sizeof(pid)), (long)sizeof(pid));
	return pid;
}

static int mentions(const char *path, const char *name, const char *words)
{
	char full[512], text[65536];
	FILE *file;
	size_t len;

	snprintf(full, sizeof(full), "%s/%s", path, name);
	file = fopen(full, "r");
	CHECK(file != NULL);
	len = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[len] = 0;
	return strstr(text, words) != NULL;
}

static void options(const char *path, const char *log)
{
	fresh_options(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	criu_set_log_file(log);
	criu_set_display_stats(true);
	criu_set_cpu_cap(4);
}

int main(void)
{
	char images[256], key[64];
	struct stat stat;
	int old[2], new[2], pid;

	close(make_images(images));
	CHECK_EQ(pipe(old), 0);
	pid = fork();
	if (!pid)
		talk(old[1]);
	close(old[1]);
	CHECK_EQ(hear(old[0]), pid);

	options(images, "dump.log");
	criu_set_pid(pid);
	CHECK_EQ(criu_dump(), 0);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	CHECK(mentions(images, "dump.log", "\nMemory pages written: "));

	CHECK_EQ(fstat(old[0], &stat), 0);
	snprintf(key, sizeof(key), "pipe:[%lu]", (unsigned long)stat.st_ino);
	close(old[0]);
	CHECK_EQ(pipe(new), 0);
	options(images, "restore.log");
	CHECK_EQ(criu_add_inherit_fd(new[1], key), 0);
	CHECK_EQ(criu_restore_child(), pid);
	close(new[1]);
	CHECK(mentions(images, "restore.log", "\nPages restored: "));
	CHECK_EQ(hear(new[0]), pid);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	close(new[0]);
	remove_images(images);
	passed("objects from outside");
	return 0;
}
