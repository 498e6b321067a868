/* state: users=root,user privilege=none criu=both also=set_user_id,leave_running,self_dump,by_rpc */
/* A pipe between two processes: what is in it, and that it ends when the only writer has gone. */
#include "scene.h"

static int between[2];

static int child(void *unused UNUSED)
{
	char text[16] = "";

	close(between[1]);
	child_await_go();
	/* Only the parent has the other end. */
	CHECK(read(between[0], text, 6) == 6 && memcmp(text, "before", 6) == 0, "read %.6s", text);
	CHECK(read(between[0], text, 6) == 5 && memcmp(text, "after", 5) == 0, "read %.6s", text);
	CHECK(read(between[0], text, 1) == 0, "the pipe does not end");
	return verdict();
}

int main(void)
{
	pid_t pid;

	MUST(pipe(between) == 0);
	MUST(write(between[1], "before", 6) == 6);
	pid = spawn(child, NULL);
	close(between[0]);
	await_go();
	MUST(write(between[1], "after", 5) == 5);
	close(between[1]);
	child_verdict(pid);
	return verdict();
}
