/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Pipes of which one end is closed. */
#include "scene.h"

int main(void)
{
	int orphaned[2], widowed[2];
	char text[8];

	MUST(pipe(orphaned) == 0);
	MUST(write(orphaned[1], "left", 4) == 4);
	close(orphaned[1]);
	MUST(pipe(widowed) == 0);
	close(widowed[0]);
	await_go();
	CHECK(read(orphaned[0], text, 8) == 4 && memcmp(text, "left", 4) == 0, "what a closed writer left");
	CHECK(read(orphaned[0], text, 8) == 0, "a pipe without writers does not end");
	signal(SIGPIPE, SIG_IGN);
	CHECK(write(widowed[1], "x", 1) == -1 && errno == EPIPE, "a pipe without readers takes bytes");
	return verdict();
}
