/* state: users=root,user privilege=none criu=no(it does not carry packets) also=set_user_id */
/* A pipe of packets, which are read one at a time. */
#include "scene.h"

int main(void)
{
	char text[128] = "";
	int packets[2];

	MUST(pipe2(packets, O_DIRECT) == 0);
	MUST(write(packets[1], "one", 3) == 3 && write(packets[1], "fourth", 6) == 6);
	MUST(write(packets[1], "x", 1) == 1);
	await_go();
	CHECK(fcntl(packets[1], F_GETFL) & O_DIRECT, "packet mode is lost");
	CHECK(read(packets[0], text, 100) == 3 && memcmp(text, "one", 3) == 0, "first packet: %.3s", text);
	CHECK(read(packets[0], text, 100) == 6 && memcmp(text, "fourth", 6) == 0, "second packet: %.6s", text);
	CHECK(read(packets[0], text, 100) == 1, "third packet");
	return verdict();
}
