/*
 * Holds the objects that its arguments name, each of a kind that is not carried. Told to, it makes
 * sure that it still has them all.
 */
#include "scene.h"

#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>

#include <sched.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>

#include <sys/prctl.h>

#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

static int fds[64], count;
static int sysv = -1;

static void keep(int fd)
{
	MUST(fd >= 0);
	fds[count++] = fd;
}

static int listening(int domain, int type)
{
	struct sockaddr_in6 any = { .sin6_family = domain };
	int fd = TRY(socket(domain, type, 0));

	MUST(bind(fd, (void *)&any, domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(any)) == 0);
	if (type == SOCK_STREAM)
		MUST(listen(fd, 1) == 0);
	return fd;
}

/* Away from its data, as no kernel maps it. */
static void move_vdso(void)
{
	unsigned long start, end;
	char line[256];
	FILE *maps = fopen("/proc/self/maps", "r");

	MUST(maps);
	do
		MUST(fgets(line, sizeof(line), maps));
	while (!strstr(line, "[vdso]"));
	fclose(maps);
	MUST(sscanf(line, "%lx-%lx", &start, &end) == 2);
	void *room = mmap(NULL, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(room != MAP_FAILED);
	MUST(mremap((void *)start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, room) == room);
}

static void hold(const char *what)
{
	if (strcmp(what, "tcp") == 0) {
		keep(listening(AF_INET, SOCK_STREAM));
	} else if (strcmp(what, "tcp6") == 0) {
		keep(listening(AF_INET6, SOCK_STREAM));
	} else if (strcmp(what, "udp") == 0) {
		keep(listening(AF_INET, SOCK_DGRAM));
	} else if (strcmp(what, "netlink") == 0) {
		keep(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	} else if (strcmp(what, "packet") == 0) {
		keep(socket(AF_PACKET, SOCK_DGRAM, 0));
	} else if (strcmp(what, "unix") == 0) {
		struct sockaddr_un name = { .sun_family = AF_UNIX };
		snprintf(name.sun_path, sizeof(name.sun_path), "%s", scene_path("s"));
		keep(socket(AF_UNIX, SOCK_STREAM, 0));
		MUST(bind(fds[count - 1], (void *)&name, sizeof(name)) == 0 && listen(fds[count - 1], 1) == 0);
	} else if (strcmp(what, "socketpair") == 0) {
		int pair[2];
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
		keep(pair[0]);
		keep(pair[1]);
	} else if (strcmp(what, "inotify") == 0) {
		keep(inotify_init());
		MUST(inotify_add_watch(fds[count - 1], scene_path(""), IN_CREATE) >= 0);
	} else if (strcmp(what, "fanotify") == 0) {
		keep(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
	} else if (strcmp(what, "io_uring") == 0) {
		struct io_uring_params parameters = { 0 };
		keep(syscall(SYS_io_uring_setup, 4, &parameters));
	} else if (strcmp(what, "userfaultfd") == 0) {
		keep(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
	} else if (strcmp(what, "perf") == 0) {
		struct perf_event_attr attributes = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attributes),
						      .config = PERF_COUNT_SW_CPU_CLOCK };
		keep(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
	} else if (strcmp(what, "bpf") == 0) {
		union bpf_attr attributes = { .map_type = BPF_MAP_TYPE_ARRAY };
		attributes.key_size = 4;
		attributes.value_size = 4;
		attributes.max_entries = 1;
		keep(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes)));
	} else if (strcmp(what, "pidfd") == 0) {
		keep(syscall(SYS_pidfd_open, getpid(), 0));
	} else if (strcmp(what, "namespace") == 0) {
		keep(open("/proc/self/ns/net", O_RDONLY));
	} else if (strcmp(what, "proc") == 0) {
		keep(open("/proc/self/maps", O_RDONLY));
	} else if (strcmp(what, "lock") == 0) {
		keep(open(scene_path("locked"), O_RDWR | O_CREAT, 0600));
		MUST(flock(fds[count - 1], LOCK_EX) == 0);
	} else if (strcmp(what, "lease") == 0) {
		keep(open(scene_path("leased"), O_RDONLY | O_CREAT, 0600));
		MUST(fcntl(fds[count - 1], F_SETLEASE, F_RDLCK) == 0);
	} else if (strcmp(what, "sysv") == 0) {
		sysv = TRY(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
		MUST(shmat(sysv, NULL, 0) != (void *)-1);
		/* Gone when the last process lets go of it. */
		MUST(shmctl(sysv, IPC_RMID, NULL) == 0);
	} else if (strcmp(what, "hugetlb") == 0) {
		MUST(mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) !=
		     MAP_FAILED);
	} else if (strcmp(what, "moved_vdso") == 0) {
		move_vdso();
	} else if (strcmp(what, "netns") == 0) {
		MUST(unshare(CLONE_NEWNET) == 0);
	} else if (strcmp(what, "mntns") == 0) {
		MUST(unshare(CLONE_NEWNS) == 0);
	} else if (strcmp(what, "cgroupns") == 0) {
		MUST(unshare(CLONE_NEWCGROUP) == 0);
	} else if (strcmp(what, "userns") == 0) {
		MUST(unshare(CLONE_NEWUSER) == 0);
	} else if (strcmp(what, "seccomp") == 0) {
		struct rule { uint16_t code; uint8_t jt, jf; uint32_t k; } allow = { 6, 0, 0, SECCOMP_RET_ALLOW };
		struct { unsigned short length; struct rule *filter; } program = { 1, &allow };
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
	} else {
		errno = EINVAL;
		MUST(!"a known object");
	}
}

static char **words;

static int child(void *first)
{
	for (int i = (int)(intptr_t)first; words[i]; i++)
		hold(words[i]);
	child_await_go();
	for (int i = 0; i < count; i++)
		CHECK(fcntl(fds[i], F_GETFD) >= 0, "descriptor %d: %s", fds[i], strerror(errno));
	return verdict();
}

/* Objects before `--` are held by the root, those after it by a child. */
int main(int argc, char **argv)
{
	pid_t pid = 0;

	words = argv;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			pid = spawn(child, (void *)(intptr_t)(i + 1));
			break;
		}
		hold(argv[i]);
	}
	await_go();
	for (int i = 0; i < count; i++)
		CHECK(fcntl(fds[i], F_GETFD) >= 0, "descriptor %d: %s", fds[i], strerror(errno));
	if (pid)
		child_verdict(pid);
	return verdict();
}
