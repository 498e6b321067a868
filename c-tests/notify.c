/*
 * Notifications: the stages come in order with the root's pid, a user pointer comes along, a
 * refusal is the verb's result and leaves the dumpee running. Errors: errno as documented.
 */
#include "test.h"

static char images_path[256];

struct journal {
	char stages[1024];
	const char *refuse;
	int value;
	int pid;
};

static struct journal plain_journal;

static int note(struct journal *journal, const char *action, criu_notify_arg_t na)
{
	strcat(journal->stages, action);
	strcat(journal->stages, " ");
	if (criu_notify_pid(na))
		journal->pid = criu_notify_pid(na);
	/* Callbacks may use the library. */
	(void)criu_last_error();
	criu_set_log_level(CRIU_LOG_DEBUG);
	return journal->refuse && !strcmp(journal->refuse, action) ? journal->value : 0;
}

static int plain(char *action, criu_notify_arg_t na)
{
	return note(&plain_journal, action, na);
}

static int with_data(char *action, criu_notify_arg_t na, void *data)
{
	return note(data, action, na);
}

static pid_t victim(void)
{
	pid_t pid = fork();

	if (!pid) {
		quiet_streams();
		for (;;)
			pause();
	}
	usleep(50000);
	return pid;
}

int main(void)
{
	struct journal journal = { .pid = 0 };
	int images = make_images(images_path);
	pid_t pid = victim();

	fresh_options(images);
	criu_set_pid(pid);
	criu_set_leave_running(true);
	criu_set_notify_cb(plain);
	CHECK_EQ(criu_dump(), 0);
	CHECK(strstr(plain_journal.stages, "pre-dump ") != NULL);
	CHECK(strstr(plain_journal.stages, "post-dump ") > strstr(plain_journal.stages, "pre-dump "));

	for (int i = 0; i < 2; i++) {
		memset(&journal, 0, sizeof(journal));
		journal.refuse = i ? "post-dump" : "pre-dump";
		journal.value = i ? 5 : -77;
		criu_set_leave_running(false);
		criu_set_notify_cb_data(with_data, &journal);
		CHECK_EQ(criu_dump(), i ? -EBADE : -77);
		CHECK(strstr(criu_last_error(), journal.refuse) != NULL);
		CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
	}
	passed("notifications of a dump");

	/* The pid is taken: the dumpee runs. */
	memset(&journal, 0, sizeof(journal));
	CHECK_EQ(criu_dump(), 0);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	memset(&journal, 0, sizeof(journal));
	CHECK_EQ(criu_restore_child(), pid);
	CHECK_EQ(journal.pid, pid);
	CHECK(strstr(journal.stages, "pre-restore ") != NULL);
	CHECK(strstr(journal.stages, "post-restore ") != NULL);
	passed("notifications of a restore");

	CHECK_EQ(criu_restore_child(), -EBADE);
	CHECK_EQ(errno, EEXIST);
	CHECK(strlen(criu_last_error()) > 0);
	CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	CHECK_EQ(exit_code(pid), -SIGKILL);
	fresh_options(images);
	criu_set_pid(pid);
	CHECK_EQ(criu_dump(), -EBADE);
	CHECK_EQ(errno, ESRCH);
	passed("errno of failures");

	close(images);
	remove_images(images_path);
	return 0;
}
