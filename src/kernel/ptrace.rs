//! ptrace and the wait calls that go with it, each wrapped once.
//!
//! Thin on purpose: a wrapper adds types and error numbers, no policy. ptrace belongs to the
//! *thread* that seized a tracee, so everything here has to be called from that one thread.
//! Signals are plain numbers, because real-time signals have no names.

use std::ffi::c_void;
use std::ptr;

use libc::{c_int, c_long, user_regs_struct};
use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;
use super::remote::RemoteAddr;

/// Bytes of a kernel signal set, as `PTRACE_*SIGMASK` and the `rt_sig*` calls take it.
pub const SIGSET_SIZE: usize = 8;
/// Bytes of a siginfo.
pub const SIGINFO_SIZE: usize = 128;
/// The regset of the extended processor state (XSAVE layout).
pub const NT_X86_XSTATE: c_long = 0x202;
/// The regset of the general registers.
pub const NT_PRSTATUS: c_long = 1;

/// The tracee cannot outlive its tracer.
pub const O_EXITKILL: i32 = libc::PTRACE_O_EXITKILL;
/// Stops at an exec are events, not a SIGTRAP.
pub const O_TRACEEXEC: i32 = libc::PTRACE_O_TRACEEXEC;
/// Syscall stops can be told from a SIGTRAP.
pub const O_TRACESYSGOOD: i32 = libc::PTRACE_O_TRACESYSGOOD;
/// Seccomp of the tracee is suspended while it is traced.
pub const O_SUSPEND_SECCOMP: i32 = libc::PTRACE_O_SUSPEND_SECCOMP;

/// What a wait reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// The thread or process exited with this code.
    Exited(i32),
    /// It was killed by a signal.
    Killed { signal: i32, core: bool },
    /// It is stopped and can be examined.
    Stopped(Stop),
}

/// Why a tracee is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A `PTRACE_EVENT_*`; `signal` is the stopping signal of a group-stop, else SIGTRAP.
    Event { event: i32, signal: i32 },
    /// Entry to or exit from a system call (needs [`O_TRACESYSGOOD`]).
    Syscall,
    /// About to receive this signal: continuing without it discards it.
    Signal(i32),
}

impl Stop {
    /// The stop that INTERRUPT makes, also the one of a thread in group-stop.
    pub fn is_interrupt(self) -> bool {
        matches!(self, Self::Event { event: libc::PTRACE_EVENT_STOP, .. })
    }

    /// The signal of the group-stop that this stop is, if it is one.
    pub fn group_stop(self) -> Option<i32> {
        match self {
            Self::Event { event: libc::PTRACE_EVENT_STOP, signal } if is_stop_signal(signal) => {
                Some(signal)
            }
            _ => None,
        }
    }
}

fn is_stop_signal(signal: i32) -> bool {
    matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

impl WaitStatus {
    fn from_raw(raw: c_int) -> Self {
        if libc::WIFEXITED(raw) {
            Self::Exited(libc::WEXITSTATUS(raw))
        } else if libc::WIFSIGNALED(raw) {
            Self::Killed { signal: libc::WTERMSIG(raw), core: libc::WCOREDUMP(raw) }
        } else {
            Self::Stopped(Self::stop(raw))
        }
    }

    fn stop(raw: c_int) -> Stop {
        let signal = libc::WSTOPSIG(raw);
        match raw >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            0 => Stop::Signal(signal),
            event => Stop::Event { event, signal: signal & 0x7f },
        }
    }
}

/// Waits for the thread `tid` (never for "any child": the host has children of its own).
pub fn wait(tid: HostPid) -> Sys<WaitStatus> {
    loop {
        if let Some(status) = wait_with(tid, 0)? {
            return Ok(status);
        }
    }
}

/// The same without blocking: `None` if there is nothing to report.
pub fn try_wait(tid: HostPid) -> Sys<Option<WaitStatus>> {
    wait_with(tid, libc::WNOHANG)
}

fn wait_with(tid: HostPid, flags: c_int) -> Sys<Option<WaitStatus>> {
    let mut raw = 0;
    loop {
        // SAFETY: `raw` is a valid place for one int.
        match Errno::result(unsafe {
            libc::waitpid(tid.number(), &raw mut raw, libc::__WALL | flags)
        }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(WaitStatus::from_raw(raw))),
        }
    }
}

/// A request whose operands are plain numbers.
fn plain(request: libc::c_uint, tid: HostPid, addr: c_long, data: c_long) -> Sys<c_long> {
    // SAFETY: the requests passed here take numbers, no pointers into our memory.
    Errno::result(unsafe { libc::ptrace(request, tid.number(), addr, data) })
}

/// A request that reads or writes a value of ours.
fn with<T: ?Sized>(request: libc::c_uint, tid: HostPid, addr: c_long, data: *mut T) -> Sys<c_long> {
    // SAFETY: every caller passes a pointer to a live object of the type and size which this
    // request transfers.
    Errno::result(unsafe { libc::ptrace(request, tid.number(), addr, data.cast::<c_void>()) })
}

/// Becomes the tracer of `tid`, without stopping it.
pub fn seize(tid: HostPid, options: i32) -> Sys<()> {
    plain(libc::PTRACE_SEIZE, tid, 0, options.into()).map(drop)
}

/// Asks a seized thread to stop.
pub fn interrupt(tid: HostPid) -> Sys<()> {
    plain(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Replaces the options given to [`seize`].
pub fn set_options(tid: HostPid, options: i32) -> Sys<()> {
    plain(libc::PTRACE_SETOPTIONS, tid, 0, options.into()).map(drop)
}

/// Lets a stopped thread run, with `signal` delivered first (0 for none).
pub fn cont(tid: HostPid, signal: i32) -> Sys<()> {
    plain(libc::PTRACE_CONT, tid, 0, signal.into()).map(drop)
}

/// The same up to the next entry to or exit from a system call.
pub fn cont_to_syscall(tid: HostPid, signal: i32) -> Sys<()> {
    plain(libc::PTRACE_SYSCALL, tid, 0, signal.into()).map(drop)
}

/// Lets a stopped thread go for good, with `signal` delivered first (0 for none).
pub fn detach(tid: HostPid, signal: i32) -> Sys<()> {
    plain(libc::PTRACE_DETACH, tid, 0, signal.into()).map(drop)
}

/// The number that goes with the last event: new pid, exit status.
pub fn event_message(tid: HostPid) -> Sys<u64> {
    let mut message = 0u64;
    with(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message)?;
    Ok(message)
}

/// All-zero registers, to be filled in.
pub fn zero_regs() -> user_regs_struct {
    // SAFETY: a structure of integers; all-zero is a value of it.
    unsafe { std::mem::zeroed() }
}

/// The general registers.
pub fn getregs(tid: HostPid) -> Sys<user_regs_struct> {
    let mut regs = zero_regs();
    with(libc::PTRACE_GETREGS, tid, 0, &raw mut regs)?;
    Ok(regs)
}

/// Sets the general registers.
pub fn setregs(tid: HostPid, regs: &user_regs_struct) -> Sys<()> {
    with(libc::PTRACE_SETREGS, tid, 0, ptr::from_ref(regs).cast_mut()).map(drop)
}

/// A register set.
pub fn getregset(tid: HostPid, note: c_long) -> Sys<Vec<u8>> {
    // On the stack, which is warm: one is read of every thread.
    const MAX: usize = 16384;
    let mut bytes = [0u8; MAX];
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: MAX };
    with(libc::PTRACE_GETREGSET as _, tid, note, &raw mut iov)?;
    Ok(bytes[..iov.iov_len].to_vec())
}

/// Sets a register set.
pub fn setregset(tid: HostPid, note: c_long, bytes: &[u8]) -> Sys<()> {
    let base = bytes.as_ptr().cast_mut().cast();
    let mut iov = libc::iovec { iov_base: base, iov_len: bytes.len() };
    with(libc::PTRACE_SETREGSET as _, tid, note, &raw mut iov).map(drop)
}

/// The extended processor state, XSAVE layout (11008 bytes on a machine with AMX).
pub fn get_xstate(tid: HostPid) -> Sys<Vec<u8>> {
    getregset(tid, NT_X86_XSTATE)
}

/// Sets the extended processor state.
pub fn set_xstate(tid: HostPid, bytes: &[u8]) -> Sys<()> {
    setregset(tid, NT_X86_XSTATE, bytes)
}

/// The mask of blocked signals. Of a thread inside ppoll, sigsuspend and the like it is the mask
/// that the call will put back.
pub fn get_sigmask(tid: HostPid) -> Sys<u64> {
    let mut mask = 0u64;
    with(libc::PTRACE_GETSIGMASK, tid, SIGSET_SIZE as c_long, &raw mut mask)?;
    Ok(mask)
}

/// Sets the mask of blocked signals.
pub fn set_sigmask(tid: HostPid, mask: u64) -> Sys<()> {
    let mut mask = mask;
    with(libc::PTRACE_SETSIGMASK, tid, SIGSET_SIZE as c_long, &raw mut mask).map(drop)
}

/// What is known of the signal that a signal stop is about.
pub fn get_siginfo(tid: HostPid) -> Sys<[u8; SIGINFO_SIZE]> {
    let mut info = [0u8; SIGINFO_SIZE];
    with(libc::PTRACE_GETSIGINFO, tid, 0, &raw mut info)?;
    Ok(info)
}

/// The `si_code` of a siginfo: who sent it.
pub fn siginfo_code(info: &[u8; SIGINFO_SIZE]) -> i32 {
    i32::from_le_bytes(info[8..12].try_into().expect("four bytes"))
}

/// The signal of a siginfo.
pub fn siginfo_signal(info: &[u8; SIGINFO_SIZE]) -> i32 {
    i32::from_le_bytes(info[..4].try_into().expect("four bytes"))
}

/// Writes whole words (`bytes` is a multiple of 8) to a tracee's memory, whatever its protection.
pub fn poke(tid: HostPid, addr: RemoteAddr, bytes: &[u8]) -> Sys<()> {
    for (at, word) in (addr.0..).step_by(8).zip(bytes.chunks_exact(8)) {
        let word = i64::from_le_bytes(word.try_into().expect("eight bytes"));
        plain(libc::PTRACE_POKEDATA, tid, at.cast_signed(), word)?;
    }
    Ok(())
}

/// Which queue of pending signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Signals sent to this thread.
    Private,
    /// Signals sent to the process.
    Shared,
}

/// The pending signals of a queue, oldest first, left where they are.
pub fn peek_siginfo(tid: HostPid, queue: Queue) -> Sys<Vec<[u8; SIGINFO_SIZE]>> {
    const AT_ONCE: usize = 32;
    let mut all = Vec::new();
    loop {
        let mut some = [[0u8; SIGINFO_SIZE]; AT_ONCE];
        let args = libc::ptrace_peeksiginfo_args {
            off: all.len() as u64,
            flags: match queue {
                Queue::Private => 0,
                Queue::Shared => libc::PTRACE_PEEKSIGINFO_SHARED,
            },
            nr: AT_ONCE as i32,
        };
        let args_at = (&raw const args) as c_long;
        let got = with(libc::PTRACE_PEEKSIGINFO, tid, args_at, &raw mut some)? as usize;
        all.extend_from_slice(&some[..got]);
        if got < AT_ONCE {
            return Ok(all);
        }
    }
}

/// A thread's registration of restartable sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RseqConfig {
    /// Where the thread's `struct rseq` is.
    pub pointer: u64,
    /// Its registered size.
    pub size: u32,
    /// The signature before abort handlers.
    pub signature: u32,
    /// Flags of the registration.
    pub flags: u32,
}

/// The rseq registration of a thread; `None` if it has none.
pub fn rseq_configuration(tid: HostPid) -> Sys<Option<RseqConfig>> {
    #[repr(C)]
    struct Raw {
        pointer: u64,
        size: u32,
        signature: u32,
        flags: u32,
        pad: u32,
    }
    let mut raw = Raw { pointer: 0, size: 0, signature: 0, flags: 0, pad: 0 };
    let len = size_of::<Raw>() as c_long;
    with(libc::PTRACE_GET_RSEQ_CONFIGURATION, tid, len, &raw mut raw)?;
    let config = RseqConfig {
        pointer: raw.pointer,
        size: raw.size,
        signature: raw.signature,
        flags: raw.flags,
    };
    Ok((config.pointer != 0).then_some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(WaitStatus::from_raw(3 << 8), WaitStatus::Exited(3));
        assert_eq!(WaitStatus::from_raw(9), WaitStatus::Killed { signal: 9, core: false });
        assert_eq!(WaitStatus::from_raw(0x857f), WaitStatus::Stopped(Stop::Syscall));
        assert_eq!(WaitStatus::from_raw(0x0a7f), WaitStatus::Stopped(Stop::Signal(10)));
        let WaitStatus::Stopped(stop) = WaitStatus::from_raw(0x80_137f) else { panic!("a stop") };
        assert!(stop.is_interrupt());
        assert_eq!(stop.group_stop(), Some(libc::SIGSTOP));
        let WaitStatus::Stopped(stop) = WaitStatus::from_raw(0x80_057f) else { panic!("a stop") };
        assert_eq!(stop.group_stop(), None);
    }
}
