/* state: users=root,user privilege=root criu=both */
/* Filters of system calls: one that all threads have, and one more that a single thread has. */
#include "scene.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>

static volatile int leaves, settled;

/* From now on this system call of this thread fails with this error. */
static void forbid(int number, int error)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, rules };

	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

static void *other(void *unused UNUSED)
{
	forbid(SYS_getpgid, 88);
	settled = 1;
	while (!leaves)
		syscall(SYS_futex, &leaves, 0, 0, NULL, NULL, 0);
	CHECK(syscall(SYS_getppid) == -1 && errno == 99, "thread: the common filter is lost");
	CHECK(syscall(SYS_getpgid, 0) == -1 && errno == 88, "thread: its own filter is lost");
	return NULL;
}

int main(void)
{
	int privileged = getuid() == 0;
	pthread_t thread;

	if (!privileged)
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	forbid(SYS_getppid, 99);
	MUST(pthread_create(&thread, NULL, other, NULL) == 0);
	while (!settled)
		sched_yield();
	await_go();
	CHECK(syscall(SYS_getppid) == -1 && errno == 99, "the filter is lost");
	CHECK(syscall(SYS_getpgid, 0) != -1, "the thread's filter is everybody's");
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == !privileged, "no_new_privs");
	CHECK(strcmp(status_field(getpid(), "Seccomp_filters"), "1") == 0, "%s filters",
	      status_field(getpid(), "Seccomp_filters"));
	leaves = 1;
	syscall(SYS_futex, &leaves, 1, 1, NULL, NULL, 0);
	pthread_join(thread, NULL);
	return verdict();
}
