/* state: users=root,user privilege=root criu=both dump-options=--link-remap without=leave_running(each dump leaves a link to the file),self_dump(a service reads no configuration file) */
/* A file that was opened by a name which it has no more, while another name leads to it. */
#include "scene.h"

int main(void)
{
	char text[PATH_MAX], expected[PATH_MAX + 16], called[PATH_MAX] = "", byte = 0;
	struct stat before, after, other;
	int fd, again;

	fd = TRY(open(scene_path("name"), O_RDWR | O_CREAT, 0640));
	MUST(write(fd, "contents", 8) == 8);
	again = TRY(open(scene_path("name"), O_RDONLY));
	snprintf(text, sizeof(text), "%s", scene_path("name"));
	MUST(link(text, scene_path("other")) == 0 && unlink(text) == 0);
	MUST(fstat(fd, &before) == 0);
	await_go();
	MUST(fstat(fd, &after) == 0);
	CHECK(stat(scene_path("other"), &other) == 0, "%s", strerror(errno));
	CHECK(after.st_ino == before.st_ino && after.st_dev == before.st_dev, "another file");
	CHECK(after.st_ino == other.st_ino, "the other name leads to another file");
	CHECK(after.st_nlink == 1, "it has %d names", (int)after.st_nlink);
	CHECK(lseek(fd, 0, SEEK_CUR) == 8, "position %ld", (long)lseek(fd, 0, SEEK_CUR));
	CHECK(write(fd, "!", 1) == 1, "%s", strerror(errno));
	CHECK(pread(again, &byte, 1, 8) == 1 && byte == '!', "the two differ: %d", byte);
	CHECK(access(scene_path("name"), F_OK) == -1, "it has its old name back");
	snprintf(text, sizeof(text), "/proc/self/fd/%d", fd);
	snprintf(expected, sizeof(expected), "%s (deleted)", scene_path("name"));
	MUST(readlink(text, called, sizeof(called) - 1) > 0);
	CHECK(strcmp(called, expected) == 0, "it is called %s", called);
	return verdict();
}
