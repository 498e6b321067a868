/* Starts a program without any capability: powerless PROGRAM ARGS... */
#include "scene.h"

#include <linux/securebits.h>
#include <sys/prctl.h>

int main(int argc UNUSED, char **argv)
{
	/* The program's user id alone gives it nothing. */
	MUST(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT) == 0);
	execv(argv[1], argv + 1);
	return 99;
}
