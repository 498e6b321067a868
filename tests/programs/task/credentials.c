/* state: users=root,user privilege=none criu=both also=set_user_id without=self_dump(the program is another user when it asks) */
/*
 * User and group ids, groups, capabilities, securebits and the like, of the process and of a
 * thread that differs from it. As root it gives things up; as anybody else it keeps what it has.
 */
#include "scene.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/prctl.h>

static const char *const fields[] = {
	"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

struct facts {
	char text[FIELDS][512];
	int securebits, keepcaps, dumpable, death_signal;
};

static volatile int leaves, settled;
static struct facts thread_before, thread_after;

static void take(struct facts *facts)
{
	for (size_t i = 0; i < FIELDS; i++)
		snprintf(facts->text[i], sizeof(facts->text[i]), "%s", status_field(gettid(), fields[i]));
	facts->securebits = prctl(PR_GET_SECUREBITS);
	facts->keepcaps = prctl(PR_GET_KEEPCAPS);
	facts->dumpable = prctl(PR_GET_DUMPABLE);
	prctl(PR_GET_PDEATHSIG, &facts->death_signal);
}

static void compare(const struct facts *before, const struct facts *after, const char *who)
{
	for (size_t i = 0; i < FIELDS; i++)
		CHECK(strcmp(before->text[i], after->text[i]) == 0, "%s: %s was %s, is %s", who, fields[i],
		      before->text[i], after->text[i]);
	CHECK(before->securebits == after->securebits, "%s: %#x, %#x", who, before->securebits,
	      after->securebits);
	CHECK(before->keepcaps == after->keepcaps, "%s: %d, %d", who, before->keepcaps, after->keepcaps);
	CHECK(before->dumpable == after->dumpable, "%s: %d, %d", who, before->dumpable, after->dumpable);
	CHECK(before->death_signal == after->death_signal, "%s: %d, %d", who, before->death_signal,
	      after->death_signal);
}

static void set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
	};

	MUST(syscall(SYS_capset, &header, data) == 0);
}

#define BIT(cap) (1ull << (cap))

/* The raw calls change one thread only. */
static void become(int uid, int gid, uint64_t permitted, uint64_t inheritable, int ambient, int bits)
{
	gid_t groups[] = { 7, 12, 30000, gid };

	MUST(syscall(SYS_setgroups, 4, groups) == 0);
	MUST(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) == 0);
	MUST(syscall(SYS_setresgid, gid, gid + 1, gid + 2) == 0);
	MUST(syscall(SYS_setresuid, uid, uid + 1, uid + 2) == 0);
	syscall(SYS_setfsgid, gid + 3);
	syscall(SYS_setfsuid, uid + 3);
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT) == 0);
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE) == 0);
	set_caps(permitted | BIT(CAP_SETPCAP), permitted | BIT(CAP_SETPCAP), inheritable);
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, ambient, 0, 0) == 0);
	MUST(prctl(PR_SET_SECUREBITS, bits) == 0);
	set_caps(permitted & ~BIT(CAP_KILL), permitted, inheritable);
}

static void *other(void *root)
{
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (root)
		become(2000, 2100, BIT(CAP_NET_RAW) | BIT(CAP_KILL) | BIT(CAP_SYS_NICE),
		       BIT(CAP_NET_RAW) | BIT(CAP_SYS_NICE), CAP_SYS_NICE, SECBIT_NOROOT);
	else
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	/* Nothing that kills: it comes when `criu restore` ends. */
	prctl(PR_SET_PDEATHSIG, SIGURG);
	settled = 1;
	while (settled < 2)
		sched_yield();
	take(&thread_before);
	settled = 3;
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	take(&thread_after);
	return NULL;
}

int main(void)
{
	struct facts before, after;
	int root = getuid() == 0;
	pthread_t thread;

	scene_begin();
	MUST(pthread_create(&thread, NULL, other, root ? &root : NULL) == 0);
	while (!settled)
		sched_yield();
	if (root)
		become(3000, 3100, BIT(CAP_CHOWN) | BIT(CAP_KILL) | BIT(CAP_NET_ADMIN),
		       BIT(CAP_CHOWN) | BIT(CAP_NET_ADMIN), CAP_CHOWN,
		       SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS);
	/* Changes of credentials take this away, so it comes last. */
	MUST(prctl(PR_SET_DUMPABLE, 1) == 0);
	prctl(PR_SET_PDEATHSIG, SIGWINCH);
	settled = 2;
	while (settled < 3)
		sched_yield();
	take(&before);
	say_ready();
	scene_wait();
	take(&after);
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	compare(&before, &after, "process");
	compare(&thread_before, &thread_after, "thread");
	return verdict();
}
