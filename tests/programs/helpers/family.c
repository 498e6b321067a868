/*
 * Processes as they stand to each other: parents, sessions, process groups, zombies with their
 * exit statuses, stopped tasks, and processes that lost their parent or their group leader.
 */
#include "scene.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum { PLAIN, LEADER, GROUP, MEMBER, OTHER_MEMBER, ADOPTED, COUNT };

/* What every process says about itself, before and after, in memory of its own. */
struct place {
	pid_t pid, parent, group, session;
};

static struct place *places;
static int go_pipe[2];

static struct place here(void)
{
	return (struct place){ getpid(), getppid(), getpgid(0), getsid(0) };
}

static void compare(int which, const char *name)
{
	struct place was = places[which], is = here();

	CHECK(memcmp(&was, &is, sizeof(was)) == 0,
	      "%s: pid, parent, group, session were %d %d %d %d, are %d %d %d %d", name, was.pid, was.parent,
	      was.group, was.session, is.pid, is.parent, is.group, is.session);
}

static int plain(void *unused UNUSED)
{
	places[PLAIN] = here();
	child_await_go();
	compare(PLAIN, "plain child");
	return verdict();
}

static int session_leader(void *unused UNUSED)
{
	pid_t inner;

	MUST(setsid() == getpid());
	places[LEADER] = here();
	inner = spawn(plain, NULL);
	child_await_go();
	compare(LEADER, "session leader");
	child_verdict(inner);
	return verdict();
}

static int group_leader(void *unused UNUSED)
{
	MUST(setpgid(0, 0) == 0);
	places[GROUP] = here();
	child_ready();
	/* Ends when told; its group lives on without it. */
	raise(SIGSTOP);
	return 0;
}

static int member(void *which)
{
	int slot = (int)(intptr_t)which;

	MUST(setpgid(0, places[GROUP].pid) == 0);
	places[slot] = here();
	child_await_go();
	compare(slot, slot == MEMBER ? "member of a group" : "member of a dead leader's group");
	return verdict();
}

static int adopted(void)
{
	scene_begin();
	/* The parent ends: the root takes over, because it is a subreaper. */
	while (getppid() == places[COUNT].pid)
		sched_yield();
	places[ADOPTED] = here();
	MUST(write(go_pipe[1], "+", 1) == 1);
	close(go_pipe[0]);
	close(go_pipe[1]);
	scene_wait();
	compare(ADOPTED, "adopted process");
	return verdict();
}

static int stopped(void *how)
{
	child_ready();
	kill(getpid(), (int)(intptr_t)how);
	return 42;
}

static int exits(void *status)
{
	child_ready();
	return (int)(intptr_t)status;
}

static int dies(void *signal)
{
	child_ready();
	raise((int)(intptr_t)signal);
	return 0;
}

int main(void)
{
	pid_t leader, group, first, second, orphan, middle, stop_pid, zombies[4];
	struct place own;
	siginfo_t info;
	char byte;
	int status;

	places = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(places != MAP_FAILED);
	own = here();
	leader = spawn(session_leader, NULL);
	group = spawn(group_leader, NULL);
	until_state(group, 'T');
	first = spawn(member, (void *)MEMBER);
	second = spawn(member, (void *)OTHER_MEMBER);
	kill(group, SIGKILL);
	MUST(waitpid(group, NULL, 0) == group);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	MUST(pipe(go_pipe) == 0);
	middle = TRY(fork());
	if (middle == 0) {
		places[COUNT].pid = getpid();
		if (fork() == 0)
			_exit(adopted());
		_exit(0);
	}
	MUST(waitpid(middle, NULL, 0) == middle);
	MUST(read(go_pipe[0], &byte, 1) == 1);
	close(go_pipe[0]);
	close(go_pipe[1]);
	orphan = places[ADOPTED].pid;
	stop_pid = spawn(stopped, (void *)SIGSTOP);
	until_state(stop_pid, 'T');
	zombies[0] = spawn(exits, (void *)0);
	zombies[1] = spawn(exits, (void *)77);
	zombies[2] = spawn(dies, (void *)SIGKILL);
	zombies[3] = spawn(dies, (void *)SIGTERM);
	for (int i = 0; i < 4; i++)
		until_state(zombies[i], 'Z');

	await_go();

	struct place now = here();
	/* The parent of the root is whoever restored it. */
	now.parent = own.parent;
	CHECK(memcmp(&own, &now, sizeof(own)) == 0, "the root");
	child_verdict(leader);
	child_verdict(first);
	child_verdict(second);
	child_verdict(orphan);
	CHECK(prctl(PR_GET_CHILD_SUBREAPER, &status) == 0 && status == 1, "the root is no subreaper");
	CHECK(scene_state(stop_pid) == 'T', "the stopped child is %c", scene_state(stop_pid));
	CHECK(kill(stop_pid, SIGCONT) == 0, "SIGCONT: %s", strerror(errno));
	CHECK(waitpid(stop_pid, &status, 0) == stop_pid && WIFEXITED(status) && WEXITSTATUS(status) == 42,
	      "the stopped child ended with %#x", status);
	static const int statuses[4] = { 0, 77 << 8, SIGKILL, SIGTERM };
	for (int i = 0; i < 4; i++) {
		CHECK(scene_state(zombies[i]) == 'Z', "zombie %d is %c", i, scene_state(zombies[i]));
		CHECK(waitpid(zombies[i], &status, WNOHANG) == zombies[i] && status == statuses[i],
		      "zombie %d: status %#x", i, status);
	}
	CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == -1 && errno == ECHILD, "a child is left over");
	return verdict();
}
