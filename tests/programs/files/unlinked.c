/* state: users=root,user privilege=none criu=both also=set_user_id,leave_running,by_rpc */
/* A file that has no name any more, with two descriptions, one of which a child has too. */
#include "files.h"

static int unlinked_fd;

static int child(void *unused UNUSED)
{
	char byte;

	child_await_go();
	CHECK(pread(unlinked_fd, &byte, 1, 5) == 1 && byte == 'f', "an unlinked file in a child");
	return verdict();
}

int main(void)
{
	char text[64] = "", link[PATH_MAX] = "", expected[PATH_MAX];
	struct stat before, again;
	int fresh_fd;
	pid_t pid;

	unlinked_fd = TRY(open(scene_path("unlinked"), O_RDWR | O_CREAT, 0604));
	MUST(write(unlinked_fd, "abcdefghij", 10) == 10);
	fresh_fd = TRY(open(scene_path("unlinked"), O_RDONLY));
	MUST(fstat(unlinked_fd, &before) == 0);
	MUST(unlink(scene_path("unlinked")) == 0);
	pid = spawn(child, NULL);

	await_go();

	child_verdict(pid);
	MUST(fstat(unlinked_fd, &again) == 0);
	CHECK(again.st_nlink == 0, "the unlinked file has %d names", (int)again.st_nlink);
	CHECK(again.st_size == 10 && again.st_mode == before.st_mode && again.st_uid == before.st_uid,
	      "the unlinked file has size %ld, mode %#o", (long)again.st_size, again.st_mode);
	CHECK(lseek(unlinked_fd, 0, SEEK_CUR) == 10, "position %ld", (long)lseek(unlinked_fd, 0, SEEK_CUR));
	same_file(fresh_fd, &again, "two descriptions of an unlinked file");
	CHECK(read(fresh_fd, text, 10) == 10 && memcmp(text, "abcdefghij", 10) == 0, "%.10s", text);
	CHECK(write(fresh_fd, "x", 1) == -1, "a read-only description writes");
	snprintf(text, sizeof(text), "/proc/self/fd/%d", unlinked_fd);
	MUST(readlink(text, link, sizeof(link) - 1) > 0);
	snprintf(expected, sizeof(expected), "%s (deleted)", scene_path("unlinked"));
	CHECK(strcmp(link, expected) == 0, "it is called %s, not %s", link, expected);
	CHECK(stat(scene_path("unlinked"), &again) == -1, "the unlinked file has its name back");
	return verdict();
}
