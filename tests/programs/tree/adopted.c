/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A process whose parent has ended: the root, a subreaper, has taken it over. */
#include "kin.h"

static int go_pipe[2];

static int adopted(pid_t middle)
{
	struct place own;

	scene_begin();
	while (getppid() == middle)
		sched_yield();
	own = here();
	MUST(write(go_pipe[1], &own.pid, sizeof(own.pid)) == sizeof(own.pid));
	close(go_pipe[0]);
	close(go_pipe[1]);
	scene_wait();
	same_place(own, "adopted process");
	return verdict();
}

int main(void)
{
	struct place own = here();
	pid_t middle, orphan;
	int status;

	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	MUST(pipe(go_pipe) == 0);
	middle = TRY(fork());
	if (middle == 0) {
		middle = getpid();
		if (fork() == 0)
			_exit(adopted(middle));
		_exit(0);
	}
	MUST(waitpid(middle, NULL, 0) == middle);
	MUST(read(go_pipe[0], &orphan, sizeof(orphan)) == sizeof(orphan));
	close(go_pipe[0]);
	close(go_pipe[1]);
	await_go();
	same_place_of_root(own);
	child_verdict(orphan);
	CHECK(prctl(PR_GET_CHILD_SUBREAPER, &status) == 0 && status == 1, "the root is no subreaper");
	no_child_is_left();
	return verdict();
}
