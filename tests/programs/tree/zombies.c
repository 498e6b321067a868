/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Zombies with their exit statuses. */
#include "kin.h"

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
	static const int statuses[4] = { 0, 77 << 8, SIGKILL, SIGTERM };
	pid_t zombies[4];
	int status;

	zombies[0] = spawn(exits, (void *)0);
	zombies[1] = spawn(exits, (void *)77);
	zombies[2] = spawn(dies, (void *)SIGKILL);
	zombies[3] = spawn(dies, (void *)SIGTERM);
	for (int i = 0; i < 4; i++)
		until_state(zombies[i], 'Z');
	await_go();
	for (int i = 0; i < 4; i++) {
		CHECK(scene_state(zombies[i]) == 'Z', "zombie %d is %c", i, scene_state(zombies[i]));
		CHECK(waitpid(zombies[i], &status, WNOHANG) == zombies[i] && status == statuses[i],
		      "zombie %d: status %#x", i, status);
	}
	no_child_is_left();
	return verdict();
}
