/*
 * Regular files, directories and the usual devices: offsets, flags, close-on-exec, descriptors
 * that share a position by dup, fork and threads, and files that have no name any more.
 */
#include "scene.h"

#include <sys/mman.h>

static int offset_fd, shared_fd, unlinked_fd;

static int child(void *unused UNUSED)
{
	char byte;

	child_await_go();
	/* The position is that of the description, which parent and child share. */
	CHECK(lseek(shared_fd, 0, SEEK_CUR) == 40, "position %ld", (long)lseek(shared_fd, 0, SEEK_CUR));
	CHECK(lseek(shared_fd, 50, SEEK_SET) == 50, "lseek: %s", strerror(errno));
	CHECK(pread(unlinked_fd, &byte, 1, 5) == 1 && byte == 'f', "an unlinked file in a child");
	return verdict();
}

static int own_table(void *unused UNUSED)
{
	close(shared_fd);
	shared_fd = open("/dev/null", O_RDWR);
	child_await_go();
	CHECK(fcntl(shared_fd, F_GETFL) == (O_RDWR | 0100000), "flags %#o", fcntl(shared_fd, F_GETFL));
	return verdict();
}

static void same_file(int fd, dev_t device, ino_t inode, const char *what)
{
	struct stat now;

	CHECK(fstat(fd, &now) == 0, "%s: %s", what, strerror(errno));
	CHECK(now.st_dev == device && now.st_ino == inode, "%s: another file", what);
}

int main(void)
{
	int append_fd, read_fd, path_fd, dir_fd, high_fd, copy_fd, cloexec_fd, null_fd, zero_fd, random_fd, fresh_fd,
		renamed_fd, replaced_fd;
	struct stat before, again;
	char text[64] = "", link[PATH_MAX] = "", expected[PATH_MAX];
	pid_t first, second;

	offset_fd = TRY(open(scene_path("plain"), O_RDWR | O_CREAT, 0640));
	MUST(write(offset_fd, "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuv", 68) == 68);
	MUST(lseek(offset_fd, 11, SEEK_SET) == 11);
	append_fd = TRY(open(scene_path("plain"), O_WRONLY | O_APPEND));
	read_fd = TRY(open(scene_path("plain"), O_RDONLY | O_NONBLOCK | O_NOATIME));
	shared_fd = TRY(open(scene_path("plain"), O_RDWR));
	MUST(lseek(shared_fd, 40, SEEK_SET) == 40);
	copy_fd = TRY(dup(shared_fd));
	high_fd = TRY(dup2(shared_fd, 700));
	cloexec_fd = TRY(fcntl(shared_fd, F_DUPFD_CLOEXEC, 300));
	path_fd = TRY(open(scene_path("plain"), O_PATH));
	dir_fd = TRY(open(scene_path(""), O_RDONLY | O_DIRECTORY));
	null_fd = TRY(open("/dev/null", O_WRONLY));
	zero_fd = TRY(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	random_fd = TRY(open("/dev/urandom", O_RDONLY));
	unlinked_fd = TRY(open(scene_path("unlinked"), O_RDWR | O_CREAT, 0604));
	MUST(write(unlinked_fd, "abcdefghij", 10) == 10);
	fresh_fd = TRY(open(scene_path("unlinked"), O_RDONLY));
	MUST(fstat(unlinked_fd, &before) == 0);
	MUST(unlink(scene_path("unlinked")) == 0);
	replaced_fd = TRY(open(scene_path("replaced"), O_RDWR | O_CREAT, 0600));
	MUST(write(replaced_fd, "old", 3) == 3);
	MUST(unlink(scene_path("replaced")) == 0);
	/* Another file has taken its name since. */
	close(TRY(open(scene_path("replaced"), O_RDWR | O_CREAT, 0600)));
	renamed_fd = TRY(open(scene_path("old name"), O_RDWR | O_CREAT, 0600));
	snprintf(expected, sizeof(expected), "%s", scene_path("old name"));
	MUST(rename(expected, scene_path("new name")) == 0);
	first = spawn(child, NULL);
	second = spawn(own_table, NULL);

	await_go();

	CHECK(lseek(offset_fd, 0, SEEK_CUR) == 11, "position %ld", (long)lseek(offset_fd, 0, SEEK_CUR));
	CHECK(read(offset_fd, text, 4) == 4 && memcmp(text, "bcde", 4) == 0, "read %.4s", text);
	CHECK(fcntl(append_fd, F_GETFL) == (O_WRONLY | O_APPEND | 0100000), "flags %#o", fcntl(append_fd, F_GETFL));
	CHECK(fcntl(read_fd, F_GETFL) == (O_RDONLY | O_NONBLOCK | O_NOATIME | 0100000), "flags %#o",
	      fcntl(read_fd, F_GETFL));
	CHECK(write(append_fd, "END", 3) == 3, "write: %s", strerror(errno));
	CHECK(pread(read_fd, text, 3, 68) == 3 && memcmp(text, "END", 3) == 0, "what was appended is not at the end");
	child_verdict(first);
	child_verdict(second);
	CHECK(lseek(shared_fd, 0, SEEK_CUR) == 50, "a child's lseek is not seen");
	CHECK(lseek(copy_fd, 1, SEEK_CUR) == 51 && lseek(high_fd, 0, SEEK_CUR) == 51 &&
		      lseek(cloexec_fd, 0, SEEK_CUR) == 51,
	      "duplicates have positions of their own");
	CHECK(fcntl(cloexec_fd, F_GETFD) == FD_CLOEXEC && cloexec_fd >= 300, "close-on-exec is lost");
	CHECK(fcntl(high_fd, F_GETFD) == 0 && high_fd == 700, "close-on-exec came up");
	CHECK((fcntl(path_fd, F_GETFL) & O_PATH) != 0, "O_PATH is lost");
	CHECK(read(path_fd, text, 1) == -1 && errno == EBADF, "an O_PATH descriptor reads");
	MUST(stat(scene_path("plain"), &again) == 0);
	same_file(path_fd, again.st_dev, again.st_ino, "O_PATH");
	MUST(stat(scene_path(""), &again) == 0);
	same_file(dir_fd, again.st_dev, again.st_ino, "directory");
	CHECK(faccessat(dir_fd, "plain", R_OK, 0) == 0, "below a directory: %s", strerror(errno));
	CHECK(write(null_fd, "x", 1) == 1, "/dev/null: %s", strerror(errno));
	CHECK(read(zero_fd, text, 2) == 2 && text[0] == 0, "/dev/zero: %s", strerror(errno));
	CHECK(fcntl(zero_fd, F_GETFD) == FD_CLOEXEC, "close-on-exec of /dev/zero");
	CHECK(read(random_fd, text, 2) == 2, "/dev/urandom: %s", strerror(errno));

	MUST(fstat(unlinked_fd, &again) == 0);
	CHECK(again.st_nlink == 0, "the unlinked file has %d names", (int)again.st_nlink);
	CHECK(again.st_size == 10 && again.st_mode == before.st_mode && again.st_uid == before.st_uid,
	      "the unlinked file has size %ld, mode %#o", (long)again.st_size, again.st_mode);
	CHECK(lseek(unlinked_fd, 0, SEEK_CUR) == 10, "position %ld", (long)lseek(unlinked_fd, 0, SEEK_CUR));
	same_file(fresh_fd, again.st_dev, again.st_ino, "two descriptions of an unlinked file");
	CHECK(read(fresh_fd, text, 10) == 10 && memcmp(text, "abcdefghij", 10) == 0, "%.10s", text);
	CHECK(write(fresh_fd, "x", 1) == -1, "a read-only description writes");
	snprintf(text, sizeof(text), "/proc/self/fd/%d", unlinked_fd);
	MUST(readlink(text, link, sizeof(link) - 1) > 0);
	snprintf(expected, sizeof(expected), "%s (deleted)", scene_path("unlinked"));
	CHECK(strcmp(link, expected) == 0, "it is called %s, not %s", link, expected);
	CHECK(stat(scene_path("unlinked"), &again) == -1, "the unlinked file has its name back");
	CHECK(pread(replaced_fd, text, 8, 0) == 3 && memcmp(text, "old", 3) == 0, "a replaced file");
	CHECK(stat(scene_path("replaced"), &again) == 0 && again.st_size == 0, "who has its name now is touched");
	MUST(stat(scene_path("new name"), &again) == 0);
	same_file(renamed_fd, again.st_dev, again.st_ino, "a renamed file");
	return verdict();
}
