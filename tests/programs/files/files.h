/* What the programs about files share. */
#ifndef FILES_H
#define FILES_H

#include "scene.h"

static UNUSED void same_file(int fd, const struct stat *file, const char *what)
{
	struct stat now;

	CHECK(fstat(fd, &now) == 0, "%s: %s", what, strerror(errno));
	CHECK(now.st_dev == file->st_dev && now.st_ino == file->st_ino, "%s: another file", what);
}

#endif
