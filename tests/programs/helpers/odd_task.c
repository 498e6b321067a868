/*
 * A process of two threads with unusual settings of every kind that belongs to a task: signal
 * actions, masks, alternate stacks, pending signals, timers, limits, scheduling, names. With an
 * argument "credentials" also those, with "filters" under two seccomp filters, with "alone" without
 * the second thread. Says "ready PID" when all of it stands, then waits; the first thread in pause(),
 * the second in a relative sleep.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call) do { if ((call) < 0) { perror(#call); exit(2); } } while (0)

static char leader_stack[65536], thread_stack[65536];

static void on_signal(int signo, siginfo_t *info, void *context)
{
	(void)signo; (void)info; (void)context;
}

static void *second(void *arg)
{
	stack_t sas = { .ss_sp = thread_stack, .ss_size = sizeof(thread_stack) };
	sigset_t mask;

	CHECK(sigaltstack(&sas, NULL));
	CHECK(prctl(PR_SET_NAME, "odd second"));
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGRTMIN + 5);
	CHECK(-pthread_sigmask(SIG_SETMASK, &mask, NULL));
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2));
	CHECK(setpriority(PRIO_PROCESS, gettid(), 7));
	CHECK(prctl(PR_SET_PDEATHSIG, SIGALRM));
	pthread_barrier_wait(arg);
	struct timespec left = { 100000, 0 };
	for (;;)
		nanosleep(&left, &left);
}

static void set_signals(void)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	stack_t sas = { .ss_sp = leader_stack, .ss_size = sizeof(leader_stack) };
	union sigval value = { .sival_int = 42 };
	sigset_t mask;

	CHECK(sigaltstack(&sas, NULL));
	sigemptyset(&act.sa_mask);
	sigaddset(&act.sa_mask, SIGINT);
	CHECK(sigaction(SIGUSR1, &act, NULL));
	CHECK(sigaction(SIGRTMIN + 5, &act, NULL));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, SIG_IGN);
	signal(SIGVTALRM, SIG_IGN);
	signal(SIGPROF, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGRTMIN + 5);
	CHECK(sigprocmask(SIG_SETMASK, &mask, NULL));
	CHECK(sigqueue(getpid(), SIGRTMIN + 5, value));
	value.sival_int = 43;
	CHECK(sigqueue(getpid(), SIGRTMIN + 5, value));
	CHECK(kill(getpid(), SIGUSR1));
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGTERM));
}

static void set_timers(void)
{
	struct itimerval real = { { 7, 250 }, { 3000, 5 } }, virt = { { 0, 0 }, { 4000, 0 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5, .sigev_value = { .sival_ptr = (void *)0x1234 } };
	struct itimerspec far = { { 11, 3 }, { 5000, 0 } }, none = { { 0, 0 }, { 0, 0 } };
	int dropped, id1 = 0, id2 = 0, id3 = 0;

	CHECK(setitimer(ITIMER_REAL, &real, NULL));
	CHECK(setitimer(ITIMER_VIRTUAL, &virt, NULL));
	CHECK(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &dropped));
	CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id1));
	CHECK(syscall(SYS_timer_delete, dropped));
	CHECK(syscall(SYS_timer_settime, id1, 0, &far, NULL));
	event.sigev_notify = SIGEV_NONE;
	CHECK(syscall(SYS_timer_create, CLOCK_BOOTTIME, &event, &id2));
	CHECK(syscall(SYS_timer_settime, id2, 0, &none, NULL));
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = SIGUSR1;
	event._sigev_un._tid = gettid();
	CHECK(syscall(SYS_timer_create, CLOCK_REALTIME, &event, &id3));
}

static void set_limits(void)
{
	struct rlimit core = { 0, 4096 }, files = { 100, 200 }, stack = { 1 << 20, RLIM_INFINITY };

	CHECK(setrlimit(RLIMIT_CORE, &core));
	CHECK(setrlimit(RLIMIT_NOFILE, &files));
	CHECK(setrlimit(RLIMIT_STACK, &stack));
}

static void set_credentials(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = {
		{ 1 << CAP_KILL, 1 << CAP_KILL | 1 << CAP_NET_RAW, 1 << CAP_NET_RAW }, { 0, 0, 0 } };
	gid_t groups[] = { 5, 70000, 1000 };

	CHECK(setgroups(3, groups));
	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
	CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS_LOCKED));
	CHECK(syscall(SYS_setresgid, 1001, 1002, 1003));
	CHECK(syscall(SYS_setresuid, 2001, 2002, 2003));
	CHECK(syscall(SYS_capset, &header, data));
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(prctl(PR_SET_DUMPABLE, 1));
}

/* Both allow everything; one of them logs what others would deny. */
static void set_filters(void)
{
	struct sock_filter allow[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog longer = { 2, allow }, shorter = { 1, allow + 1 };

	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &longer));
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		      SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG, &shorter));
}

int main(int argc, char **argv)
{
	struct sched_param batch = { 0 };
	pthread_barrier_t barrier;
	pthread_t thread;

	CHECK(prctl(PR_SET_NAME, "odd (leader)"));
	CHECK(setpriority(PRIO_PROCESS, 0, 3));
	CHECK(sched_setscheduler(0, SCHED_BATCH, &batch));
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	CHECK(prctl(PR_SET_PDEATHSIG, 0));
	CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	CHECK(personality(ADDR_NO_RANDOMIZE));
	if (argc < 2 || strcmp(argv[1], "alone")) {
		pthread_barrier_init(&barrier, NULL, 2);
		CHECK(-pthread_create(&thread, NULL, second, &barrier));
		pthread_barrier_wait(&barrier);
	}
	set_signals();
	set_timers();
	set_limits();
	if (argc > 1 && !strcmp(argv[1], "credentials"))
		set_credentials();
	if (argc > 1 && !strcmp(argv[1], "filters"))
		set_filters();
	CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	printf("ready %d\n", getpid());
	fflush(stdout);
	for (;;)
		pause();
}
