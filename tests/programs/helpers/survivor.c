/*
 * A program that notices when anything about it changes, for the tests of crash safety.
 *
 *   survivor STATE ROLES
 *
 * STATE is a file of 16 u64 that it keeps mapped: progress counters, one per role, so that a
 * test sees whether every thread still lives. It ends with status 1 and a message as soon as it
 * finds a fault. ROLES are letters:
 *
 *   s  a loop without system calls over all general registers, flags, red zone, vectors
 *   r  a blocking read of a sequence of bytes
 *   n  nanosleep: too short, or interrupted, is a fault
 *   f  futex wait with a timeout: likewise
 *   e  epoll_wait with a timeout: too short is a fault
 *   q  a sequence of queued real-time signals to the main thread: a lost or doubled one is a fault
 *   c  every signal whose default is to be ignored has a handler, which must never run
 *   b  the whole main stack is touched
 *
 * Always: a main thread that checks its signal mask, altstack, pending signals and a pattern in
 * 1 MiB of memory, and takes SIGALRM 1000 times a second on its altstack.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { MAIN, ALARM, QUEUED, SPIN, READ, NAP, FUTEX, EPOLL, FEED, SEND, READY = 15 };

static volatile uint64_t *progress;

static void fault(const char *what, long a, long b)
{
	dprintf(2, "survivor %d: %s (%ld, %ld, errno %d)\n", getpid(), what, a, b, errno);
	_exit(1);
}

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

/* ---- s: registers ---- */

#define SPINS 100000
struct spin_state {
	uint64_t in[16], out[16];       /* rax rbx rcx rdx rsi rdi rbp r8..r15, flags */
	uint64_t red_in[16], red_out[16];
	uint64_t rsp, rsp_out;
	uint8_t vec_in[32 * 64] __attribute__((aligned(64)));
	uint8_t vec_out[32 * 64] __attribute__((aligned(64)));
	uint64_t wide;
} spin_state;

void spin_loop(void);
__asm__(
"	.text\n"
"	.globl spin_loop\n"
"spin_loop:\n"
"	push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
"	lea spin_state(%rip), %rdi\n"
"	mov %rsp, 512(%rdi)\n"
"	cmpq $0, 528 + 4096 + 48(%rdi)\n"
"	je 1f\n"
"	.set i, 0\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
"	vmovdqu64 576 + 64*\\n(%rdi), %zmm\\n\n"
"	.endr\n"
"	jmp 2f\n"
"1:\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
"	vmovdqu 576 + 64*\\n(%rdi), %ymm\\n\n"
"	.endr\n"
"2:\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
"	mov 256 + 8*\\n(%rdi), %rax\n"
"	mov %rax, -128 + 8*\\n(%rsp)\n"
"	.endr\n"
"	mov 0(%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n"
"	mov 32(%rdi), %rsi\n mov 48(%rdi), %rbp\n mov 56(%rdi), %r8\n mov 64(%rdi), %r9\n"
"	mov 72(%rdi), %r10\n mov 80(%rdi), %r11\n mov 88(%rdi), %r12\n mov 96(%rdi), %r13\n"
"	mov 104(%rdi), %r14\n mov 112(%rdi), %r15\n"
"	lea -256(%rsp), %rsp\n"
"	pushq 120(%rdi)\n"
"	mov 40(%rdi), %rdi\n"
"	popfq\n"
"	lea 256(%rsp), %rsp\n"
"3:	lea -1(%rcx), %rcx\n"
"	jrcxz 4f\n"
"	jmp 3b\n"
"4:	lea -256(%rsp), %rsp\n"
"	pushfq\n"
"	cld\n"
"	push %rdi\n"
"	lea spin_state(%rip), %rdi\n"
"	mov %rax, 128(%rdi)\n mov %rbx, 136(%rdi)\n mov %rcx, 144(%rdi)\n mov %rdx, 152(%rdi)\n"
"	mov %rsi, 160(%rdi)\n mov %rbp, 176(%rdi)\n mov %r8, 184(%rdi)\n mov %r9, 192(%rdi)\n"
"	mov %r10, 200(%rdi)\n mov %r11, 208(%rdi)\n mov %r12, 216(%rdi)\n mov %r13, 224(%rdi)\n"
"	mov %r14, 232(%rdi)\n mov %r15, 240(%rdi)\n"
"	popq 168(%rdi)\n"
"	popq 248(%rdi)\n"
"	lea 256(%rsp), %rsp\n"
"	mov %rsp, 520(%rdi)\n"
"	mov 512(%rdi), %rsp\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
"	mov -128 + 8*\\n(%rsp), %rax\n"
"	mov %rax, 384 + 8*\\n(%rdi)\n"
"	.endr\n"
"	cmpq $0, 528 + 4096 + 48(%rdi)\n"
"	je 5f\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
"	vmovdqu64 %zmm\\n, 576 + 2048 + 64*\\n(%rdi)\n"
"	.endr\n"
"	jmp 6f\n"
"5:\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
"	vmovdqu %ymm\\n, 576 + 2048 + 64*\\n(%rdi)\n"
"	.endr\n"
"6:	vzeroupper\n"
"	pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
"	ret\n");
_Static_assert(__builtin_offsetof(struct spin_state, vec_in) == 576, "layout");
_Static_assert(__builtin_offsetof(struct spin_state, wide) == 528 + 4096 + 48, "layout");

static void check_mask(uint64_t want)
{
	uint64_t mask = 0;
	syscall(SYS_rt_sigprocmask, 0, NULL, &mask, 8);
	if (mask != want)
		fault("signal mask differs", mask, want);
}

#define RT_SIGNAL (SIGRTMIN + 1)
static uint64_t main_mask, other_mask;

static void spin(void)
{
	struct spin_state *s = &spin_state;
	uint64_t round = 1, x = 88172645463325252ull;

	s->wide = __builtin_cpu_supports("avx512f");
	size_t vec = s->wide ? 64 : 32, count = s->wide ? 32 : 16;
	for (;; round++) {
		for (int i = 0; i < 16; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			s->in[i] = x;
			s->red_in[i] = x * 3;
		}
		for (size_t i = 0; i < sizeof(s->vec_in); i++)
			s->vec_in[i] = (uint8_t)(x >> (i % 56)) ^ (uint8_t)i;
		s->in[2] = SPINS;
		s->in[15] = 0x202 | (x & 0xcd5); /* carry parity adjust zero sign direction overflow */
		memset(s->vec_out, 0, sizeof(s->vec_out));
		spin_loop();
		s->in[2] = 0;
		for (int i = 0; i < 15; i++)
			if (s->in[i] != s->out[i])
				fault("general register differs", i, s->out[i]);
		if ((s->in[15] ^ s->out[15]) & 0xcd5)
			fault("flags differ", s->in[15], s->out[15]);
		if (s->rsp != s->rsp_out)
			fault("stack pointer differs", s->rsp, s->rsp_out);
		if (memcmp(s->red_in, s->red_out, sizeof(s->red_in)))
			fault("red zone differs", 0, 0);
		for (size_t i = 0; i < count; i++)
			if (memcmp(s->vec_in + 64 * i, s->vec_out + 64 * i, vec))
				fault("vector register differs", i, round);
		check_mask(other_mask);
		progress[SPIN]++;
	}
}

/* ---- r: a blocking read ---- */

static int feed_pipe[2];

static void feed(void)
{
	uint8_t next = 0;

	for (;;) {
		struct timespec t = { 0, 1500000 };
		if (nanosleep(&t, NULL))
			fault("nanosleep of the feeder", 0, 0);
		if (write(feed_pipe[1], &next, 1) != 1)
			fault("write to the pipe", 0, 0);
		next++;
		check_mask(other_mask);
		progress[FEED]++;
	}
}

static void reader(void)
{
	uint8_t want = 0, got;

	for (;; want++) {
		long n = read(feed_pipe[0], &got, 1);
		if (n != 1 || got != want)
			fault("read from the pipe", n, got);
		check_mask(other_mask);
		progress[READ]++;
	}
}

/* ---- n, f, e: sleeps ---- */

static void nap(void)
{
	struct timespec t = { 0, 30000000 };

	for (;;) {
		uint64_t start = now_us();
		long ret = syscall(SYS_nanosleep, &t, NULL);
		uint64_t took = now_us() - start;
		if (ret || took < 30000 || took > 8000000)
			fault("nanosleep", ret, took);
		check_mask(other_mask);
		progress[NAP]++;
	}
}

static void futex_wait(void)
{
	static uint32_t word;
	struct timespec t = { 0, 25000000 };

	for (;;) {
		uint64_t start = now_us();
		long ret = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0);
		uint64_t took = now_us() - start;
		if (ret != -1 || errno != ETIMEDOUT || took < 25000 || took > 8000000)
			fault("futex wait", ret, took);
		check_mask(other_mask);
		progress[FUTEX]++;
	}
}

static void epoll_sleep(void)
{
	int ep = epoll_create1(0);
	struct epoll_event event;

	for (;;) {
		uint64_t start = now_us();
		int ret = epoll_wait(ep, &event, 1, 5);
		uint64_t took = now_us() - start;
		if ((ret && errno != EINTR) || (!ret && took < 5000))
			fault("epoll_wait", ret, took);
		check_mask(other_mask);
		progress[EPOLL]++;
	}
}

/* ---- the main thread ---- */

static char altstack[65536];
static volatile uint64_t next_queued;
static pthread_t main_thread;

static int on_altstack(void)
{
	char here;
	return &here >= altstack && &here < altstack + sizeof(altstack);
}

static void on_alarm(int sig)
{
	(void)sig;
	if (!on_altstack())
		fault("SIGALRM is not handled on the altstack", 0, 0);
	progress[ALARM]++;
}

static void on_queued(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	if ((uint64_t)info->si_value.sival_int != next_queued)
		fault("queued signal out of order", info->si_value.sival_int, next_queued);
	next_queued++;
	progress[QUEUED]++;
}

static void on_never(int sig)
{
	fault("a handler ran that nobody sent a signal to", sig, 0);
}

static void sender(void)
{
	int next = 0;

	for (;;) {
		union sigval value = { .sival_int = next };
		struct timespec t = { 0, 600000 };
		nanosleep(&t, NULL);
		if (pthread_sigqueue(main_thread, RT_SIGNAL, value) == 0)
			next++;
		progress[SEND]++;
	}
}

static void handle(int sig, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
	sigfillset(&action.sa_mask);
	sigaction(sig, &action, NULL);
}

static void check_pending(void)
{
	char text[4096];
	int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
	long n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	char *own = strstr(text, "SigPnd:"), *shared = strstr(text, "ShdPnd:");
	uint64_t want = 1ull << (SIGUSR2 - 1);
	if (!own || !(strtoull(own + 7, NULL, 16) & want))
		fault("the thread's pending signal is lost", 0, 0);
	if (!shared || !(strtoull(shared + 7, NULL, 16) & want))
		fault("the process's pending signal is lost", 0, 0);
}

static void check_altstack(void)
{
	stack_t now;
	sigaltstack(NULL, &now);
	if (now.ss_sp != altstack || now.ss_size != sizeof(altstack) || now.ss_flags)
		fault("altstack differs", (long)now.ss_sp, now.ss_flags);
}

#define PATTERN_WORDS (1 << 17)
static uint64_t *pattern;

static void check_pattern(unsigned part)
{
	for (unsigned i = part % 64; i < PATTERN_WORDS; i += 64)
		if (pattern[i] != i * 0x9e3779b97f4a7c15ull)
			fault("memory differs", i, pattern[i]);
}

static void *run(void *body)
{
	((void (*)(void))body)();
	return NULL;
}

static void start(void (*body)(void))
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, (void *)body))
		fault("pthread_create", 0, 0);
}

static void __attribute__((noinline)) touch_stack(void)
{
	char here;
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long low = 0, high;
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "[stack]"))
			sscanf(line, "%lx-%lx", &low, &high);
	fclose(maps);
	for (unsigned long at = low; at < (unsigned long)&here - 65536; at += 4096)
		*(volatile char *)at = 1;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (progress == MAP_FAILED)
		return 2;
	close(fd);
	pattern = malloc(PATTERN_WORDS * 8);
	for (unsigned i = 0; i < PATTERN_WORDS; i++)
		pattern[i] = i * 0x9e3779b97f4a7c15ull;
	main_thread = pthread_self();

	sigset_t set;
	sigfillset(&set);
	if (strchr(argv[2], 'c')) {
		handle(SIGURG, on_never, 0);
		handle(SIGWINCH, on_never, 0);
		handle(SIGCHLD, on_never, 0);
	}
	/* What can tell of a wrong delivery is not blocked in the other threads. */
	sigdelset(&set, SIGURG);
	sigdelset(&set, SIGWINCH);
	sigdelset(&set, SIGCHLD);
	sigdelset(&set, SIGTERM);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	syscall(SYS_rt_sigprocmask, 0, NULL, &other_mask, 8);
	if (pipe2(feed_pipe, O_CLOEXEC))
		return 2;
	if (strchr(argv[2], 's'))
		start(spin);
	if (strchr(argv[2], 'r')) {
		start(reader);
		start(feed);
	}
	if (strchr(argv[2], 'n'))
		start(nap);
	if (strchr(argv[2], 'f'))
		start(futex_wait);
	if (strchr(argv[2], 'e'))
		start(epoll_sleep);

	stack_t stack = { .ss_sp = altstack, .ss_size = sizeof(altstack) };
	sigaltstack(&stack, NULL);
	handle(SIGALRM, on_alarm, SA_RESTART | SA_ONSTACK);
	struct sigaction queued = { .sa_sigaction = on_queued,
				    .sa_flags = SA_SIGINFO | SA_RESTART };
	sigfillset(&queued.sa_mask);
	sigaction(RT_SIGNAL, &queued, NULL);
	pthread_kill(main_thread, SIGUSR2);
	kill(getpid(), SIGUSR2);
	if (strchr(argv[2], 'q'))
		start(sender);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	syscall(SYS_rt_sigprocmask, 0, NULL, &main_mask, 8);
	struct itimerval timer = { { 0, 1000 }, { 0, 1000 } };
	setitimer(ITIMER_REAL, &timer, NULL);
	if (strchr(argv[2], 'b'))
		touch_stack();
	progress[READY] = 1;
	for (unsigned round = 0;; round++) {
		pause();
		check_mask(main_mask);
		check_altstack();
		check_pattern(round);
		if (round % 16 == 0)
			check_pending();
		progress[MAIN]++;
	}
}
