/*
 * Starts a program the way a test wants it: in a session of its own, nothing open but stdio, every
 * signal at its default. A shell without job control ignores SIGINT and SIGQUIT for what it runs in
 * the background, nohup(1) ignores SIGHUP, and a program inherits that.
 *
 *   launch PROGRAM ARGS...      a new session, no terminal
 *   launch -t PROGRAM ARGS...   a new session whose terminal is standard input
 *   launch -j PROGRAM ARGS...   the same, and PROGRAM is a foreground job of it: this process
 *                               plays the shell, waits for the job and exits as it did
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int play_shell(char **argv)
{
	int status;
	pid_t pid;

	signal(SIGTTOU, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		tcsetpgrp(0, getpid());
		signal(SIGTTOU, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) != pid)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void default_signals(void)
{
	int number;

	/* Those that have no other action than the default are refused, which changes nothing. */
	for (number = 1; number <= SIGRTMAX; number++)
		signal(number, SIG_DFL);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 && argv[1][0] == '-' ? argv[1] : "";

	argv += mode[0] ? 2 : 1;
	default_signals();
	setsid();
	close_range(3, ~0u, 0);
	if (mode[0] && ioctl(0, TIOCSCTTY, 0) < 0) {
		perror("TIOCSCTTY");
		return 126;
	}
	if (strcmp(mode, "-j") == 0)
		return play_shell(argv);
	execvp(argv[0], argv);
	perror(argv[0]);
	return 127;
}
