/* A parent that sleeps in vfork, where nobody can stop it, until its child has ended. */
#include "scene.h"

int main(void)
{
	int status = -1;
	pid_t pid;

	scene_begin();
	pid = vfork();
	if (pid == 0) {
		until_state(getppid(), 'D');
		say_ready();
		scene_wait();
		_exit(0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the child ended with %#x", status);
	return verdict();
}
