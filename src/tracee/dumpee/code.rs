//! The code that a dumpee's threads run: stubs that make system calls, and what heals them.
//!
//! The engine may be killed at any instant, and then nobody controls the thread any more. So
//! whatever a thread would execute by itself has to end in code that restores the thread:
//!
//! * No breakpoint and no single step is used, because they kill an untraced program. At the end of
//!   a stub the thread sends itself a signal which the program ignores (`park`). Under a tracer
//!   that makes a stop. Without a tracer it does nothing, and the thread goes on into the heal code
//!   that r12 points to.
//! * The heal code first blocks all signals, while the stack pointer is still the program's own, so
//!   that no handler ever runs on a foreign stack.
//! * `rt_sigreturn` puts registers, signal mask and vector state back at once, out of a frame that
//!   was prepared before the first register was changed.
//! * `rt_sigreturn` clears the restart block. A thread that sleeps in a call with a restart block
//!   (nanosleep, poll, futex with a timeout) gets its registers back by plain moves instead and
//!   goes on with `restart_syscall`, exact to the millisecond. Signals are unblocked before the
//!   last moves, when all registers that carry no argument of a system call are the program's
//!   again.
//! * A signal that arrives during the session has to end the interrupted system call with EINTR if
//!   its handler was installed without SA_RESTART. `rt_sigpending` tells whether there is such a
//!   signal, and a second frame returns -EINTR.
//!
//! The code is the same for all threads and never changes. What differs from thread to thread is in
//! the thread's [`Block`], to which r15 points.

use std::arch::global_asm;
use std::mem::offset_of;
use std::sync::OnceLock;

use super::frame::Ucontext;
use crate::kernel::remote::RemoteAddr;

/// What the code needs to know of one thread.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct Block {
    /// [`FREE`] or [`IN_USE`].
    pub state: u64,
    /// The mapping for entries and data; its first word receives pending signals.
    pub scratch: u64,
    pub scratch_len: u64,
    /// The signal that `park` sends, or 0 if the exit from the call is the stop.
    pub signal: u64,
    pub all_signals: u64,
    pub own_mask: u64,
    /// Signals whose arrival ends the interrupted call with EINTR.
    pub restart_mask: u64,
    /// The frame to return through; 0 for plain moves.
    pub frame: u64,
    pub frame_eintr: u64,
    /// Pages that hold the vector state and are dropped at the end; 0 if there are none.
    pub page: u64,
    pub page_len: u64,
    /// Where plain moves end: `via_rcx` of the code, or [`Block::trampoline`].
    pub tail: u64,
    pub moves: Moves,
    pub trampoline: [u8; 16],
    pub ordinary: Ucontext,
    pub eintr: Ucontext,
    /// A scratch that an earlier session of this block has left mapped; 0 if there is none.
    pub inherited: u64,
    pub inherited_len: u64,
    pub fill: [u64; 2],
}

/// Registers for plain moves.
#[repr(C)]
#[derive(Clone, Default)]
pub(super) struct Moves {
    pub rbx: u64,
    pub rbp: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r10: u64,
    pub r8: u64,
    pub r9: u64,
    pub rcx: u64,
    pub r11: u64,
    pub rax: u64,
    pub rip: u64,
    /// Low byte: the overflow flag. Second byte: carry, parity, adjust, zero and sign.
    pub flags: u64,
    /// The direction flag.
    pub direction: u64,
}

/// The block is free for the next session.
pub(super) const FREE: u64 = 0;
/// A session has begun. If this is found when no session runs, the engine of that session was
/// killed.
pub(super) const IN_USE: u64 = 0x0065_7a6f_7246_7263;

/// Places in the code, as offsets from its start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Heal: unmap the scratch first.
    pub mapped: u32,
    /// Heal: there is no scratch to unmap.
    pub unmapped: u32,
    /// Heal with no system call but `rt_sigreturn`, for a program with a seccomp filter.
    pub bare: u32,
    /// Heal by plain moves, when the pages of the vector state are gone.
    pub moves: u32,
    /// The end of plain moves for a thread that is in a system call, which does not keep rcx.
    pub via_rcx: u32,
    /// Stub: map the scratch. The arguments are in their registers, rbx is the address that it must
    /// get.
    pub boot: u32,
    /// Stub: run rbp entries from rbx.
    pub run: u32,
    /// Stub: unmap the scratch, drop the page.
    pub fin: u32,
    /// Where a parked thread stands.
    pub parked: u32,
    pub end: u32,
}

global_asm!(
    r#"
    .pushsection .rodata.criu_dumpee, "a", @progbits
    .balign 64
    .hidden criu_dumpee_code
    .globl criu_dumpee_code
criu_dumpee_code:

.macro CRIU_BLOCK_SIGNALS which
    mov eax, 14
    mov edi, 2
    lea rsi, [r15 + \which]
    xor edx, edx
    mov r10d, 8
    syscall
.endm

.Lmapped:
    CRIU_BLOCK_SIGNALS {all_signals}
    mov rbx, [r15 + {scratch}]
    mov eax, 127
    mov rdi, rbx
    mov esi, 8
    syscall
    mov rax, [rbx]
    mov r14, [r15 + {frame}]
    test [r15 + {restart_mask}], rax
    cmovnz r14, [r15 + {frame_eintr}]
    mov eax, 11
    mov rdi, rbx
    mov rsi, [r15 + {scratch_len}]
    syscall
    jmp .Lhome
.Lunmapped:
    CRIU_BLOCK_SIGNALS {all_signals}
.Lbare:
    mov r14, [r15 + {frame}]
.Lhome:
    test r14, r14
    jz .Lplain
    mov rsp, r14
    mov eax, 15
    syscall
.Lmoves:
    CRIU_BLOCK_SIGNALS {all_signals}
.Lplain:
    mov rbx, [r15 + {rbx}]
    mov rbp, [r15 + {rbp}]
    mov r12, [r15 + {r12}]
    mov r13, [r15 + {r13}]
    mov r14, [r15 + {r14}]
    mov r8, [r15 + {r8}]
    mov r9, [r15 + {r9}]
    CRIU_BLOCK_SIGNALS {own_mask}
    cld
    test byte ptr [r15 + {direction}], 1
    jz 1f
    std
1:  mov eax, [r15 + {flags}]
    add al, 0x7f
    sahf
    mov rcx, [r15 + {rcx}]
    mov r11, [r15 + {r11}]
    mov rdi, [r15 + {rdi}]
    mov rsi, [r15 + {rsi}]
    mov rdx, [r15 + {rdx}]
    mov r10, [r15 + {r10}]
    mov rax, [r15 + {rax}]
    jmp [r15 + {tail}]
.Lvia_rcx:
    mov r15, [r15 + {r15}]
    jmp rcx

.Lboot:
    syscall
    mov r13, rax
    cmp rax, rbx
    je .Lpark
    lea r12, [rip + .Lunmapped]
    jmp .Lpark
.Lfin:
    mov eax, 11
    mov rdi, [r15 + {scratch}]
    mov rsi, [r15 + {scratch_len}]
    syscall
    lea r12, [rip + .Lunmapped]
    mov rdi, [r15 + {page}]
    test rdi, rdi
    jz .Lpark
    lea r12, [rip + .Lmoves]
    mov rsi, [r15 + {page_len}]
    mov edx, 4
    mov eax, 28
    syscall
    jmp .Lpark
1:  mov rax, [rbx]
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8, [rbx + 40]
    mov r9, [rbx + 48]
    syscall
    mov [rbx + 56], rax
    add rbx, 64
    dec rbp
.Lrun:
    test rbp, rbp
    jnz 1b
.Lpark:
    mov eax, 186
    syscall
    mov edi, eax
    mov esi, [r15 + {signal}]
    mov eax, 200
    syscall
.Lparked:
    jmp r12
.Lend:

    .balign 4
    .hidden criu_dumpee_places
    .globl criu_dumpee_places
criu_dumpee_places:
    .long .Lmapped - criu_dumpee_code
    .long .Lunmapped - criu_dumpee_code
    .long .Lbare - criu_dumpee_code
    .long .Lmoves - criu_dumpee_code
    .long .Lvia_rcx - criu_dumpee_code
    .long .Lboot - criu_dumpee_code
    .long .Lrun - criu_dumpee_code
    .long .Lfin - criu_dumpee_code
    .long .Lparked - criu_dumpee_code
    .long .Lend - criu_dumpee_code
    .popsection
    .purgem CRIU_BLOCK_SIGNALS
"#,
    all_signals = const offset_of!(Block, all_signals),
    own_mask = const offset_of!(Block, own_mask),
    scratch = const offset_of!(Block, scratch),
    scratch_len = const offset_of!(Block, scratch_len),
    signal = const offset_of!(Block, signal),
    restart_mask = const offset_of!(Block, restart_mask),
    frame = const offset_of!(Block, frame),
    frame_eintr = const offset_of!(Block, frame_eintr),
    page = const offset_of!(Block, page),
    page_len = const offset_of!(Block, page_len),
    tail = const offset_of!(Block, tail),
    direction = const offset_of!(Block, moves.direction),
    flags = const offset_of!(Block, moves.flags),
    rax = const offset_of!(Block, moves.rax),
    rbx = const offset_of!(Block, moves.rbx),
    rcx = const offset_of!(Block, moves.rcx),
    rdx = const offset_of!(Block, moves.rdx),
    rsi = const offset_of!(Block, moves.rsi),
    rdi = const offset_of!(Block, moves.rdi),
    rbp = const offset_of!(Block, moves.rbp),
    r8 = const offset_of!(Block, moves.r8),
    r9 = const offset_of!(Block, moves.r9),
    r10 = const offset_of!(Block, moves.r10),
    r11 = const offset_of!(Block, moves.r11),
    r12 = const offset_of!(Block, moves.r12),
    r13 = const offset_of!(Block, moves.r13),
    r14 = const offset_of!(Block, moves.r14),
    r15 = const offset_of!(Block, moves.r15),
);

unsafe extern "C" {
    static criu_dumpee_code: u8;
    static criu_dumpee_places: Places;
}

/// The places in the code.
pub(super) fn places() -> Places {
    // SAFETY: a constant of this program, defined above with this layout.
    unsafe { criu_dumpee_places }
}

/// The code itself, padded to a cache line.
pub(super) fn code() -> &'static [u8] {
    static CODE: OnceLock<Vec<u8>> = OnceLock::new();
    CODE.get_or_init(|| {
        let len = places().end as usize;
        // SAFETY: the assembler put `len` constant bytes there.
        let bytes = unsafe { std::slice::from_raw_parts(&raw const criu_dumpee_code, len) };
        let mut padded = bytes.to_vec();
        padded.resize((len + WINDOW).next_multiple_of(64), 0);
        padded
    })
}

/// How many bytes at an instruction pointer are compared to recognise our code.
pub(super) const WINDOW: usize = 16;

/// Whether a thread whose instruction pointer stands at `bytes` is in our code.
pub(super) fn is_ours(bytes: &[u8; WINDOW]) -> bool {
    /// The second instruction of the trampoline.
    const JUMP: std::ops::Range<usize> = 7..16;
    code().windows(WINDOW).any(|window| window == bytes && window[0] != 0)
        || *bytes == TRAMPOLINE
        || bytes[..JUMP.len()] == TRAMPOLINE[JUMP]
}

/// Where a block names scratches: offsets of address and length.
pub(super) const SCRATCHES_AT: [(usize, usize); 2] = [
    (offset_of!(Block, scratch), offset_of!(Block, scratch_len)),
    (offset_of!(Block, inherited), offset_of!(Block, inherited_len)),
];

/// Bytes of a block.
pub(super) const BLOCK_SIZE: usize = size_of::<Block>();

impl Block {
    /// A block of zeros, except for the mask of all signals.
    pub fn empty() -> Self {
        Self {
            state: FREE,
            scratch: 0,
            scratch_len: 0,
            signal: 0,
            all_signals: u64::MAX,
            own_mask: 0,
            restart_mask: 0,
            frame: 0,
            frame_eintr: 0,
            page: 0,
            page_len: 0,
            tail: 0,
            moves: Moves::default(),
            trampoline: TRAMPOLINE,
            ordinary: Ucontext::default(),
            eintr: Ucontext::default(),
            inherited: 0,
            inherited_len: 0,
            fill: [0; 2],
        }
    }

    /// The bytes as they stand in the dumpee.
    pub fn bytes(&self) -> &[u8] {
        let start = std::ptr::from_ref(self).cast::<u8>();
        // SAFETY: the whole of a live object whose fields are integers without gaps (below).
        unsafe { std::slice::from_raw_parts(start, BLOCK_SIZE) }
    }

    /// Where the trampoline of a block at `at` is.
    pub fn trampoline_at(at: RemoteAddr) -> u64 {
        at.0 + offset_of!(Block, trampoline) as u64
    }

    /// Where the ordinary frame of a block at `at` is, and the one that says -EINTR.
    pub fn frames_at(at: RemoteAddr) -> (u64, u64) {
        let place = |offset: usize| at.0 + offset as u64;
        (place(offset_of!(Block, ordinary)), place(offset_of!(Block, eintr)))
    }

    /// Where a block at `at` names the scratch that it has inherited.
    pub fn inherited_at(at: RemoteAddr) -> RemoteAddr {
        RemoteAddr(at.0 + offset_of!(Block, inherited) as u64)
    }

    /// Where the mask of interrupting signals of a block at `at` is.
    pub fn restart_mask_at(at: RemoteAddr) -> RemoteAddr {
        RemoteAddr(at.0 + offset_of!(Block, restart_mask) as u64)
    }
}

/// `mov r15, [rip + to moves.r15]; jmp [rip + to moves.rip]`: ends plain moves without a
/// register. Only in a block that can be executed.
const TRAMPOLINE: [u8; 16] = {
    const START: i32 = offset_of!(Block, trampoline) as i32;
    let r15 = (offset_of!(Block, moves.r15) as i32 - START - 7).to_le_bytes();
    let rip = (offset_of!(Block, moves.rip) as i32 - START - 13).to_le_bytes();
    [
        0x4c, 0x8b, 0x3d, r15[0], r15[1], r15[2], r15[3], //
        0xff, 0x25, rip[0], rip[1], rip[2], rip[3], 0xcc, 0xcc, 0xcc,
    ]
};

// No gaps, or `bytes` would show memory that nobody wrote.
const _: () = assert!(offset_of!(Block, moves) == 12 * 8);
const _: () = assert!(offset_of!(Block, trampoline) == 30 * 8);
const _: () = assert!(offset_of!(Block, ordinary) == 32 * 8);
const _: () = assert!(offset_of!(Block, eintr) == 32 * 8 + 304);
const _: () = assert!(offset_of!(Block, inherited) == 32 * 8 + 608);
const _: () = assert!(BLOCK_SIZE == 896);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_two_blocks_fit_into_the_usual_tail() {
        assert!(code().len() + 2 * BLOCK_SIZE <= 2752, "{} bytes of code", code().len());
    }

    #[test]
    fn our_code_is_recognised_at_every_instruction() {
        let at = |start: usize| is_ours(code()[start..][..WINDOW].try_into().unwrap());
        let places = places();
        for place in [places.mapped, places.bare, places.via_rcx, places.run, places.parked] {
            assert!(at(place as usize));
        }
        assert!(is_ours(&TRAMPOLINE));
        assert!(!is_ours(&[0; WINDOW]) && !is_ours(&[0x90; WINDOW]));
    }

    #[test]
    fn places_are_in_the_code() {
        let places = places();
        let code = code();
        let syscall = [0x0f, 0x05];
        let at = |place: u32| place as usize;
        assert_eq!(code[at(places.boot)..][..2], syscall);
        assert_eq!(code[at(places.parked) - 2..][..2], syscall);
        assert_eq!(code[at(places.moves) - 2..][..2], syscall);
    }
}
