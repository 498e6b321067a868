/* state: users=root privilege=root criu=both without=self_dump(the program does not see the service from its root) */
/* A root directory of its own. */
#include "scene.h"

int main(void)
{
	struct stat inside, outside, now;
	int ready;

	MUST(mkdir(scene_path("root"), 0755) == 0);
	MUST(mkdir(scene_path("root/below"), 0755) == 0);
	MUST(stat(scene_path("root"), &inside) == 0);
	MUST(stat("/", &outside) == 0);
	ready = TRY(open(scene_path("ready"), O_WRONLY | O_CLOEXEC));
	int verdict_file = TRY(open(scene_path("verdict"), O_WRONLY | O_APPEND | O_CREAT, 0666));
	MUST(chroot(scene_path("root")) == 0);
	MUST(chdir("/below") == 0);
	scene_begin();
	MUST(write(ready, "+", 1) == 1);
	close(ready);
	scene_wait();
	/* The verdict of a program in another root goes where it was opened. */
	dup2(verdict_file, 2);
	CHECK(stat("/", &now) == 0 && now.st_ino == inside.st_ino, "the root is inode %ld",
	      (long)now.st_ino);
	CHECK(stat("..", &now) == 0 && now.st_ino == inside.st_ino, "the parent is inode %ld",
	      (long)now.st_ino);
	CHECK(inside.st_ino != outside.st_ino, "no root of its own");
	return verdict();
}
