/* What the programs about processes and their kin share. */
#ifndef KIN_H
#define KIN_H

#include "scene.h"

#include <sys/prctl.h>

/* What a process is to others, as it says itself. */
struct place {
	pid_t pid, parent, group, session;
};

static UNUSED struct place here(void)
{
	return (struct place){ getpid(), getppid(), getpgid(0), getsid(0) };
}

static UNUSED void same_place(struct place was, const char *name)
{
	struct place is = here();

	CHECK(memcmp(&was, &is, sizeof(was)) == 0,
	      "%s: pid, parent, group, session were %d %d %d %d, are %d %d %d %d", name, was.pid, was.parent,
	      was.group, was.session, is.pid, is.parent, is.group, is.session);
}

/* The parent of a root is whoever restored it. */
static UNUSED void same_place_of_root(struct place was)
{
	was.parent = getppid();
	same_place(was, "root");
}

static UNUSED void no_child_is_left(void)
{
	siginfo_t info;

	CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == -1 && errno == ECHILD, "a child is left over");
}

#endif
