/* state: users=root,user privilege=none criu=dump(it does not restore the personality) args=first,"second argument" */
/*
 * What a process is to others: comm, command line, environment, auxiliary vector, executable,
 * working directory, umask, personality, ids. All read through /proc, as others read them.
 */
#include "scene.h"

#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>

static char before[5][16384], after[5][16384];
static long lengths[5];
static const char *const names[5] = { "comm", "cmdline", "environ", "auxv", "personality" };

static long slurp(const char *name, char *text)
{
	char path[64];
	long length;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	fd = TRY(open(path, O_RDONLY));
	length = TRY(read(fd, text, sizeof(before[0])));
	close(fd);
	return length;
}

int main(int argc, char **argv)
{
	char exe[2][PATH_MAX] = { "" }, cwd[2][PATH_MAX] = { "" };
	pid_t ids[2][4];
	unsigned long random;

	MUST(mkdir(scene_path("deep"), 0777) == 0 || errno == EEXIST);
	MUST(chdir(scene_path("deep")) == 0);
	umask(037);
	MUST(prctl(PR_SET_NAME, "odd (na)me\t") == 0);
	MUST(personality(ADDR_NO_RANDOMIZE | personality(0xffffffff)) >= 0);
	memcpy(&random, (void *)getauxval(AT_RANDOM), sizeof(random));
	for (int i = 0; i < 5; i++)
		lengths[i] = slurp(names[i], before[i]);
	MUST(readlink("/proc/self/exe", exe[0], PATH_MAX) > 0);
	MUST(getcwd(cwd[0], PATH_MAX) != NULL);
	ids[0][0] = getpid(), ids[0][1] = getpgid(0), ids[0][2] = getsid(0), ids[0][3] = gettid();

	await_go();

	for (int i = 0; i < 5; i++) {
		long length = slurp(names[i], after[i]);
		CHECK(length == lengths[i] && memcmp(before[i], after[i], length) == 0,
		      "/proc/self/%s differs: %ld bytes, %ld bytes; %s", names[i], lengths[i], length, after[i]);
	}
	MUST(readlink("/proc/self/exe", exe[1], PATH_MAX) > 0);
	MUST(getcwd(cwd[1], PATH_MAX) != NULL);
	ids[1][0] = getpid(), ids[1][1] = getpgid(0), ids[1][2] = getsid(0), ids[1][3] = gettid();
	CHECK(strcmp(exe[0], exe[1]) == 0, "exe was %s, is %s", exe[0], exe[1]);
	CHECK(strcmp(cwd[0], cwd[1]) == 0, "cwd was %s, is %s", cwd[0], cwd[1]);
	CHECK(memcmp(ids[0], ids[1], sizeof(ids[0])) == 0, "the ids differ");
	CHECK(umask(0) == 037, "the umask differs");
	CHECK(memcmp(&random, (void *)getauxval(AT_RANDOM), sizeof(random)) == 0, "AT_RANDOM differs");
	CHECK(argc == 3 && strcmp(argv[2], "second argument") == 0, "arguments");
	return verdict();
}
