/* state: users=root,user privilege=none criu=both also=set_user_id */
/* A FIFO, open for reading, for writing and both ways, with something in it. */
#include "scene.h"

int main(void)
{
	int reader, writer, both;
	char text[8];

	MUST(mkfifo(scene_path("fifo"), 0600) == 0);
	both = TRY(open(scene_path("fifo"), O_RDWR | O_NONBLOCK));
	reader = TRY(open(scene_path("fifo"), O_RDONLY | O_NONBLOCK));
	writer = TRY(open(scene_path("fifo"), O_WRONLY));
	MUST(write(writer, "queued", 6) == 6);
	await_go();
	CHECK(read(reader, text, 8) == 6 && memcmp(text, "queued", 6) == 0, "contents of a FIFO");
	CHECK(write(both, "again", 5) == 5 && read(reader, text, 8) == 5, "a FIFO open both ways");
	CHECK(read(reader, text, 8) == -1 && errno == EAGAIN, "an empty FIFO blocks or ends");
	return verdict();
}
