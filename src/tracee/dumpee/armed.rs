//! The states of a thread while it runs system calls for us, as types.
//!
//! ```text
//!   original --arm--> Healable --start--> Running --park--> Healable --disarm--> original
//! ```
//!
//! In the original state a thread has its own registers and signal mask and needs nobody. A
//! [`Healable`] thread is stopped, and the code that it would execute next restores it. A
//! [`Running`] thread is in a stub that ends in the heal code.
//!
//! The order in which registers and mask are changed matters: the mask is changed only while the
//! registers lead to the heal code. Otherwise a death of the engine in between would leave all
//! signals blocked for ever.

use std::time::{Duration, Instant};

use libc::user_regs_struct;
use nix::errno::Errno;

use super::FrozenThread;
use super::code;
use crate::error::{Error, Kind, Result};
use crate::kernel::Sys;
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::kernel::remote::RemoteAddr;

/// How the end of a stub is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Park {
    /// The thread sends itself a signal which the program does not notice.
    Signal(i32),
    /// Every entry to and exit from a system call is a stop, which is slower but always possible.
    Calls,
}

impl Park {
    /// The signal number for the stub.
    pub fn signal(self) -> u64 {
        match self {
            Self::Signal(signal) => signal.cast_unsigned().into(),
            Self::Calls => 0,
        }
    }

    fn mask(self) -> u64 {
        match self {
            Self::Signal(signal) => !(1 << (signal - 1)),
            Self::Calls => u64::MAX,
        }
    }

    fn resume(self, tid: HostPid, signal: i32) -> Sys<()> {
        match self {
            Self::Signal(_) => ptrace::cont(tid, signal),
            Self::Calls => ptrace::cont_to_syscall(tid, signal),
        }
    }
}

/// Where the code stands in the dumpee, and which heal code suits it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    pub base: RemoteAddr,
    /// Whether the thread has a seccomp filter, which may forbid every system call of the heal code
    /// but `rt_sigreturn`.
    pub filtered: bool,
}

/// Which heal code a thread falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heal {
    /// Unmaps the scratch first.
    Mapped,
    /// Unmaps nothing.
    Unmapped,
    /// Moves registers plainly, because the saved vector state has been dropped.
    Moves,
}

impl Code {
    fn at(self, place: u32) -> u64 {
        self.base.0 + u64::from(place)
    }

    fn heal(self, heal: Heal) -> u64 {
        let places = code::places();
        self.at(match heal {
            Heal::Moves => places.moves,
            _ if self.filtered => places.bare,
            Heal::Mapped => places.mapped,
            Heal::Unmapped => places.unmapped,
        })
    }

    /// Where plain moves end for a thread that is in a system call.
    pub fn via_rcx(self) -> u64 {
        self.at(code::places().via_rcx)
    }
}

/// What a thread is made to run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stub {
    /// Map the scratch; afterwards r13 says where it is.
    Boot { addr: u64, len: u64 },
    /// Run the entries of a batch.
    Entries { addr: u64, count: usize },
    /// Unmap the scratch and drop the pages of the vector state.
    Fin,
}

/// A stopped thread that restores itself if the engine dies.
#[derive(Debug)]
#[must_use = "the thread has to be given its registers back"]
pub(super) struct Healable {
    tid: HostPid,
    original: user_regs_struct,
    mask: u64,
    code: Code,
    block: RemoteAddr,
    park: Park,
}

/// A thread inside a stub.
#[derive(Debug)]
#[must_use = "the thread has to be stopped again"]
pub(super) struct Running(Healable);

impl Healable {
    /// Takes over a thread that has its own registers. Its block must be in memory already.
    pub fn arm(thread: &FrozenThread, code: Code, block: RemoteAddr, park: Park) -> Result<Self> {
        let (tid, original, mask) = (thread.tid, thread.regs, thread.sigmask);
        let this = Self { tid, original, mask, code, block, park };
        this.hold(Heal::Unmapped)?;
        ptrace::set_sigmask(tid, park.mask()).map_err(|errno| this.failed(errno))?;
        reached();
        Ok(this)
    }

    fn doing(&self) -> String {
        format!("make thread {} run system calls", self.tid)
    }

    /// ESRCH means that the thread is not stopped any more, which only its death can cause.
    fn failed(&self, errno: Errno) -> Error {
        let error = Error::sys(self.doing(), errno);
        if errno == Errno::ESRCH { error.with_kind(Kind::TaskDied) } else { error }
    }

    /// Makes `heal` what the thread would execute next.
    pub fn hold(&self, heal: Heal) -> Result<()> {
        self.set(self.code.heal(heal), |_| {})?;
        reached();
        Ok(())
    }

    fn set(&self, rip: u64, change: impl FnOnce(&mut user_regs_struct)) -> Result<()> {
        let mut regs = self.original;
        regs.rip = rip;
        regs.r15 = self.block.0;
        // Otherwise the kernel would restart a system call and set `rip` two bytes back.
        regs.orig_rax = u64::MAX;
        change(&mut regs);
        ptrace::setregs(self.tid, &regs).map_err(|errno| self.failed(errno))
    }

    /// Starts a stub, at whose end the thread is stopped. Without a tracer it goes on into `heal`.
    pub fn start(self, stub: Stub, heal: Heal) -> Result<Running> {
        let places = code::places();
        let heal = self.code.heal(heal);
        match stub {
            Stub::Boot { addr, len } => self.set(self.code.at(places.boot), |regs| {
                regs.rax = libc::SYS_mmap.cast_unsigned();
                (regs.rdi, regs.rsi) = (addr, len);
                regs.rdx = (libc::PROT_READ | libc::PROT_WRITE) as u64;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
                (regs.r10, regs.r8, regs.r9) = (flags as u64, u64::MAX, 0);
                (regs.rbx, regs.r12) = (addr, heal);
            })?,
            Stub::Entries { addr, count } => self.set(self.code.at(places.run), |regs| {
                (regs.rbx, regs.rbp, regs.r12) = (addr, count as u64, heal);
            })?,
            Stub::Fin => self.set(self.code.at(places.fin), |regs| regs.r12 = heal)?,
        }
        reached();
        self.park.resume(self.tid, 0).map_err(|errno| self.failed(errno))?;
        reached();
        Ok(Running(self))
    }

    /// The result that the boot stub left.
    pub fn boot_result(&self) -> Result<u64> {
        Ok(ptrace::getregs(self.tid).map_err(|errno| self.failed(errno))?.r13)
    }

    /// Gives the thread its own mask and registers back.
    pub fn disarm(self, heal: Heal) -> Result<()> {
        self.hold(heal)?;
        if self.park == Park::Calls {
            self.leave_syscall_stop()?;
        }
        ptrace::set_sigmask(self.tid, self.mask).map_err(|errno| self.failed(errno))?;
        reached();
        ptrace::setregs(self.tid, &self.original).map_err(|errno| self.failed(errno))?;
        reached();
        Ok(())
    }

    /// Moves the thread from the exit stop of a system call to the stop of an INTERRUPT. Only when
    /// a thread leaves the latter does the kernel look whether an interrupted call has to be
    /// restarted.
    fn leave_syscall_stop(&self) -> Result<()> {
        ptrace::interrupt(self.tid).map_err(|errno| self.failed(errno))?;
        loop {
            ptrace::cont(self.tid, 0).map_err(|errno| self.failed(errno))?;
            match wait_stop(self.tid).map_err(|errno| self.failed(errno))? {
                WaitStatus::Stopped(stop) if stop.is_interrupt() => return Ok(()),
                WaitStatus::Stopped(_) => {}
                status => return Err(self.died(status)),
            }
        }
    }

    fn died(&self, status: WaitStatus) -> Error {
        Error::new(Kind::TaskDied, format!("it died: {status:?}")).context(self.doing())
    }
}

impl Running {
    /// Waits for the end of the stub. A SIGSTOP from outside is delivered, so that it takes effect
    /// when the thread is let go, even if the engine dies before.
    pub fn park(self) -> Result<Healable> {
        let thread = self.0;
        loop {
            let status = wait_stop(thread.tid).map_err(|errno| thread.failed(errno))?;
            let signal = match status {
                WaitStatus::Stopped(Stop::Signal(libc::SIGSTOP)) => libc::SIGSTOP,
                WaitStatus::Stopped(stop) if stop.is_interrupt() => 0,
                WaitStatus::Stopped(stop) if thread.expects(stop) => {
                    if thread.is_parked()? {
                        reached();
                        return Ok(thread);
                    }
                    0
                }
                status => return Err(thread.died(status)),
            };
            thread.park.resume(thread.tid, signal).map_err(|errno| thread.failed(errno))?;
        }
    }
}

impl Healable {
    fn expects(&self, stop: Stop) -> bool {
        match self.park {
            Park::Signal(signal) => stop == Stop::Signal(signal),
            Park::Calls => stop == Stop::Syscall,
        }
    }

    /// Whether a stop is the one at the end of the stub. The same signal may come earlier from
    /// outside, which shows in `rip`. A stop at the entry to the last call is not the end, because
    /// the call has still to be made.
    fn is_parked(&self) -> Result<bool> {
        const AT_ENTRY: u64 = (-(libc::ENOSYS as i64)).cast_unsigned();
        let regs = ptrace::getregs(self.tid).map_err(|errno| self.failed(errno))?;
        Ok(regs.rip == self.code.at(code::places().parked) && regs.rax != AT_ENTRY)
    }
}

/// Waits for a stop that is microseconds away. To sleep at once would put this CPU to rest, and
/// waking it takes longer than most batches. The loop does not yield either, because on a busy
/// machine that gives away a whole time slice.
fn wait_stop(tid: HostPid) -> Sys<WaitStatus> {
    const SPIN: Duration = Duration::from_micros(50);
    let begun = Instant::now();
    while begun.elapsed() < SPIN {
        if let Some(status) = ptrace::try_wait(tid)? {
            return Ok(status);
        }
    }
    ptrace::wait(tid)
}

/// Marks that a thread has reached a new state. Tests let the engine die here.
fn reached() {
    #[cfg(test)]
    super::tests::reached();
}
