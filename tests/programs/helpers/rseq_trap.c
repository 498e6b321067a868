/*
 * A restartable sequence that covers all low addresses, where the restore has its own code in every
 * process: whoever is interrupted there goes on in the handler, which notes the rights it has at the
 * first time. What makes it active is in a file that others can write.
 */
#include "scene.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/rseq.h>

struct trapped {
	volatile int times;
	unsigned user;
	struct __user_cap_header_struct header;
	struct __user_cap_data_struct data[2];
} trapped = { .header = { _LINUX_CAPABILITY_VERSION_3, 0 } };

extern char handler[];

/* The handler ends as the restore's own code does, so that it goes on. */
__asm__(".pushsection .text\n"
	".long 0x53053053\n"
	"handler:\n"
	"	incl	trapped(%rip)\n"
	"	cmpl	$1, trapped(%rip)\n"
	"	jne	1f\n"
	"	mov	$107, %eax\n" /* geteuid */
	"	syscall\n"
	"	mov	%eax, trapped+4(%rip)\n"
	"	lea	trapped+8(%rip), %rdi\n"
	"	lea	trapped+16(%rip), %rsi\n"
	"	mov	$125, %eax\n" /* capget */
	"	syscall\n"
	"1:	mov	$186, %eax\n" /* gettid */
	"	syscall\n"
	"	mov	%eax, %esi\n"
	"	mov	$39, %eax\n" /* getpid */
	"	syscall\n"
	"	mov	%eax, %edi\n"
	"	mov	$5, %edx\n" /* SIGTRAP */
	"	mov	$234, %eax\n" /* tgkill */
	"	syscall\n"
	"	ud2\n"
	".popsection\n");

static struct rseq_cs sequence __attribute__((aligned(32))) = {
	.start_ip = 0x10000,
	.post_commit_offset = 0x400000000000,
};

int main(void)
{
	int fd = TRY(open(scene_path("area"), O_RDWR | O_CREAT, 0666));
	struct rseq *area;

	MUST(ftruncate(fd, 4096) == 0);
	area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(area != MAP_FAILED);
	sequence.abort_ip = (uintptr_t)handler;
	/* The harness puts this into the area, behind the processor's numbers. */
	((uint64_t *)area)[8] = (uintptr_t)&sequence;
	if (__rseq_size) {
		char *own;

		__asm__("movq %%fs:0, %0" : "=r"(own));
		MUST(syscall(SYS_rseq, own + __rseq_offset, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0);
	}
	MUST(syscall(SYS_rseq, area, 32, 0, RSEQ_SIG) == 0);
	await_go();
	CHECK(trapped.times == 0 || trapped.user == geteuid(), "the handler ran as user %u", trapped.user);
	CHECK(trapped.data[0].permitted == 0 && trapped.data[1].permitted == 0, "it had %x %x",
	      trapped.data[0].permitted, trapped.data[1].permitted);
	return verdict();
}
