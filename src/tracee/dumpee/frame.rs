//! The registers that a thread gets back if the engine dies: a signal frame, or plain moves.
//!
//! `rt_sigreturn` takes registers, signal mask and vector state out of a `ucontext`. It is
//! strict in some places and silently lossy in others:
//!
//! * an altstack of size 0 leaves the thread's altstack alone, while SS_DISABLE would remove it;
//! * a vector state without both magic numbers, or larger than the kernel expects, is accepted
//!   and resets the upper halves of the vector registers;
//! * the vector state has to be aligned to 64 and in the standard (not compacted) layout.

use libc::user_regs_struct;

use super::FrozenThread;
use super::code::Moves;
use super::thread::{Restart, issue_again};
use crate::kernel::xsave::Layout;

/// `struct ucontext` of x86-64.
#[repr(C)]
#[derive(Clone, Default)]
pub(super) struct Ucontext {
    flags: u64,
    link: u64,
    /// `stack_t`: all zero keeps the altstack.
    stack: [u64; 3],
    /// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags.
    general: [u64; 18],
    /// cs, gs, fs, ss, 16 bits each.
    segments: u64,
    /// err, trapno, oldmask, cr2: not read.
    fault: [u64; 4],
    fpstate: u64,
    reserved: [u64; 8],
    sigmask: u64,
}

const _: () = assert!(size_of::<Ucontext>() == 304);

/// UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS.
const UC_FLAGS: u64 = 7;

pub(super) const SYS_RESTART_SYSCALL: u64 = 219;
const MINUS_EINTR: u64 = (-4i64).cast_unsigned();

impl Ucontext {
    pub fn new(regs: &user_regs_struct, sigmask: u64, fpstate: u64) -> Self {
        Self {
            flags: UC_FLAGS,
            general: [
                regs.r8,
                regs.r9,
                regs.r10,
                regs.r11,
                regs.r12,
                regs.r13,
                regs.r14,
                regs.r15,
                regs.rdi,
                regs.rsi,
                regs.rbp,
                regs.rbx,
                regs.rdx,
                regs.rax,
                regs.rcx,
                regs.rsp,
                regs.rip,
                regs.eflags,
            ],
            segments: (regs.cs & 0xffff) | (regs.ss & 0xffff) << 48,
            fpstate,
            sigmask,
            ..Self::default()
        }
    }
}

/// The registers that a thread has to go on with when the heal code restores it. The original
/// registers would not do: the kernel restarts an interrupted call only if a tracer puts them back.
pub(super) fn healed(thread: &FrozenThread) -> user_regs_struct {
    match thread.restart() {
        Restart::None => thread.regs,
        Restart::Always | Restart::NoHandler | Restart::Hidden => issue_again(&thread.regs),
        Restart::Block => {
            let mut regs = issue_again(&thread.regs);
            regs.rax = SYS_RESTART_SYSCALL;
            regs
        }
    }
}

/// The same after a signal that ends the interrupted call.
pub(super) fn interrupted(thread: &FrozenThread) -> user_regs_struct {
    match thread.restart() {
        Restart::None => thread.regs,
        _ => user_regs_struct { rax: MINUS_EINTR, ..thread.regs },
    }
}

impl Moves {
    /// With `in_call` the thread makes a system call next, so that rcx can hold the address to go
    /// to.
    pub fn new(regs: &user_regs_struct, in_call: bool) -> Self {
        const OVERFLOW: u64 = 1 << 11;
        const DIRECTION: u64 = 1 << 10;
        Self {
            rbx: regs.rbx,
            rbp: regs.rbp,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rdi: regs.rdi,
            rsi: regs.rsi,
            rdx: regs.rdx,
            r10: regs.r10,
            r8: regs.r8,
            r9: regs.r9,
            rcx: if in_call { regs.rip } else { regs.rcx },
            r11: regs.r11,
            rax: regs.rax,
            rip: regs.rip,
            flags: u64::from(regs.eflags & OVERFLOW != 0) | (regs.eflags & 0xff) << 8,
            direction: u64::from(regs.eflags & DIRECTION != 0),
        }
    }
}

const XSTATE_BV: usize = 512;
/// Bytes of the smallest vector state.
pub(super) const LEGACY_AND_HEADER: usize = 576;
const SW_RESERVED: usize = 464;
/// Where our mark is in the part that is reserved for software, of which the kernel reads only the
/// first 20 bytes.
const MARK_AT: usize = 24;
const MARK: [u8; 8] = *b"criu-rs\0";
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

/// The vector state in the form that `rt_sigreturn` takes: the components in use with the two magic
/// numbers. None if `xstate` does not have the XSAVE layout.
pub(super) fn fpstate(xstate: &[u8]) -> Option<Vec<u8>> {
    let used = u64::from_le_bytes(xstate.get(XSTATE_BV..XSTATE_BV + 8)?.try_into().ok()?);
    let size = used_size(used);
    let mut state = xstate.get(..size)?.to_vec();
    let mut software = Vec::with_capacity(48);
    software.extend_from_slice(&MAGIC1.to_le_bytes());
    software.extend_from_slice(&(size as u32 + 4).to_le_bytes());
    software.extend_from_slice(&features_within(size).to_le_bytes());
    software.extend_from_slice(&(size as u32).to_le_bytes());
    software.resize(MARK_AT, 0);
    software.extend_from_slice(&MARK);
    software.resize(48, 0);
    state[SW_RESERVED..SW_RESERVED + 48].copy_from_slice(&software);
    state.extend_from_slice(&MAGIC2.to_le_bytes());
    Some(state)
}

/// How many bytes [`fpstate`] returns for this state.
pub(super) fn fpstate_len(xstate: &[u8]) -> usize {
    const MAGIC2_LEN: usize = 4;
    let used = xstate.get(XSTATE_BV..XSTATE_BV + 8);
    let size = used.map(|bytes| used_size(u64::from_le_bytes(bytes.try_into().expect("8 bytes"))));
    size.filter(|size| *size <= xstate.len()).map_or(0, |size| size + MAGIC2_LEN)
}

/// Whether these bytes begin a vector state made by [`fpstate`].
pub(super) fn is_fpstate(bytes: &[u8]) -> bool {
    bytes.get(SW_RESERVED + MARK_AT..SW_RESERVED + MARK_AT + MARK.len()) == Some(&MARK[..])
}

/// Whether tile registers are in use, which are 8 KiB of state.
pub(super) fn has_tiles(xstate: &[u8]) -> bool {
    xstate.get(XSTATE_BV + 2).is_some_and(|byte| byte & 0x6 != 0)
}

fn used_size(used: u64) -> usize {
    let components = Layout::host().components.iter();
    let ends = components.filter(|(bit, _)| used & (1 << bit) != 0).map(|(_, place)| place.end);
    ends.max().unwrap_or(0).max(LEGACY_AND_HEADER)
}

fn features_within(size: usize) -> u64 {
    let components = Layout::host().components.iter();
    let within = components.filter(|(_, place)| place.end <= size).map(|(bit, _)| 1u64 << bit);
    within.fold(3, |features, feature| features | feature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_state_is_cut_to_what_is_used() {
        let mut xstate = vec![7u8; 11008];
        xstate[XSTATE_BV..XSTATE_BV + 64].fill(0);
        xstate[XSTATE_BV] = 3;
        let state = fpstate(&xstate).unwrap();
        assert_eq!(state.len(), LEGACY_AND_HEADER + 4);
        assert_eq!(fpstate_len(&xstate), state.len());
        assert!(is_fpstate(&state) && !is_fpstate(&xstate));
        assert_eq!(state[SW_RESERVED..][..4], MAGIC1.to_le_bytes());
        assert_eq!(state[LEGACY_AND_HEADER..], MAGIC2.to_le_bytes());
        assert_eq!(fpstate(&xstate[..100]), None);
    }

    #[test]
    fn tiles_are_seen() {
        let mut xstate = vec![0u8; 11008];
        assert!(!has_tiles(&xstate));
        xstate[XSTATE_BV + 2] = 4;
        assert!(has_tiles(&xstate));
    }

    #[test]
    fn flags_for_plain_moves() {
        let mut regs = crate::kernel::ptrace::zero_regs();
        regs.eflags = 0x246 | 1 << 11;
        let moves = Moves::new(&regs, false);
        assert_eq!((moves.flags, moves.direction), (0x4601, 0));
    }
}
