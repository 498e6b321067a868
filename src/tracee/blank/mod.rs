//! A blank: a process under construction, into which a dumped one is written.
//!
//! [`Blank::spawn`] makes a process with the wanted pid that has nothing: no memory but a *helper
//! area* at an address which is free in every process of the dumped tree, no descriptor but one
//! end of a *service socket*, default signal actions, nothing pending. It runs no code of its own:
//! it is stopped for its whole life and driven by batches of system calls, which a stub in the
//! helper area executes. Further processes and threads are cloned from it the same way, so only
//! the first one costs an exec. [`Blank::launch`] takes the helper area away, sets the final
//! registers and lets go.
//!
//! Invariants:
//! * everything happens in the one thread that spawned the blank (ptrace demands it);
//! * until it is launched a blank dies with the engine (`PTRACE_O_EXITKILL`) and with its value;
//! * all signals are blocked except the *park signal*, by which a thread ends its batch: sent by
//!   the thread to itself it makes a signal stop and is then discarded. Neither a breakpoint nor
//!   a single step would do: the kernel forces their SIGTRAP, which resets the restored action of
//!   that signal if it is to be ignored.

mod amx;
mod clone;
mod descriptors;
mod elf;
mod finish;
mod holder;
mod run;
mod spawn;
mod stub;
#[cfg(test)]
pub(crate) mod support;
#[cfg(test)]
pub(crate) mod tests;
mod vdso;
mod zombie;

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::rc::Rc;

use libc::user_regs_struct;

use self::descriptors::ServiceFd;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteAddr;
use crate::kernel::{memory, ptrace, sys};

pub use self::clone::{CloneCall, CloneSpec, ThreadSpec};
pub use self::descriptors::Delivery;
pub use self::finish::{Armed, FinalState};
pub use self::holder::holder_of;
pub use self::spawn::SpawnSpec;

/// A process under construction; see the [module](self).
///
/// Dropping it kills the process and waits for its threads.
pub struct Blank {
    /// The leader first.
    threads: Vec<BlankThread>,
    helper: Rc<HelperArea>,
    service: Rc<ServiceFd>,
    /// Registers of a freshly executed program: what every batch starts from.
    registers: Rc<user_regs_struct>,
    /// The signal that ends batches; never one of the `reserved` signals.
    park: i32,
    reserved: u64,
    /// Set if somebody stopped the process from outside while it was being built.
    stopped_from_outside: Cell<bool>,
    seccomp_suspended: bool,
    memory: OnceCell<File>,
    /// Whether there are threads that still have to be killed and waited for.
    alive: bool,
}

struct BlankThread {
    tid: HostPid,
}

/// Where the stub and the entries stand; one value for all blanks that share an address space.
struct HelperArea {
    start: RemoteAddr,
    len: usize,
}

impl Blank {
    /// The pid.
    pub fn pid(&self) -> HostPid {
        self.threads[0].tid
    }

    /// The ids of all threads, the leader's first, in the order of their creation.
    pub fn thread_ids(&self) -> impl ExactSizeIterator<Item = HostPid> + '_ {
        self.threads.iter().map(|thread| thread.tid)
    }

    /// `/proc/PID/mem`, opened for reading and writing.
    pub fn memory(&self) -> Result<&File> {
        if let Some(file) = self.memory.get() {
            return Ok(file);
        }
        let pid = self.pid();
        let file = memory::open(pid).doing(|| format!("open /proc/{pid}/mem"))?;
        Ok(self.memory.get_or_init(|| file))
    }

    /// Start and length of the helper area. The rest of the address space is the caller's to fill.
    pub fn helper(&self) -> (RemoteAddr, usize) {
        (self.helper.start, self.helper.len)
    }

    /// Whether seccomp filters of the process do not apply to batches.
    ///
    /// False if the engine lacks CAP_SYS_ADMIN or is under seccomp itself.
    pub fn seccomp_suspended(&self) -> bool {
        self.seccomp_suspended
    }

    /// From now on none of these signals (bit n-1 for signal n) ends batches.
    ///
    /// This must be called before signals are made pending in the process: otherwise a restored
    /// signal could be mistaken for the park signal, or be lost with it.
    pub fn reserve_signals(&mut self, signals: u64) -> Result<()> {
        self.reserved |= signals;
        if self.reserved & bit(self.park) == 0 {
            return Ok(());
        }
        self.park = choose_park_signal(self.reserved).ok_or_else(|| {
            Error::new(Kind::Refused, "every signal is pending: none is left to end batches with")
        })?;
        for thread in &self.threads {
            ptrace::set_sigmask(thread.tid, self.mask())
                .doing(|| format!("set the signal mask of thread {}", thread.tid))?;
        }
        Ok(())
    }

    /// The mask under which batches run.
    fn mask(&self) -> u64 {
        !bit(self.park)
    }

    /// Kills the process and waits until its threads are gone.
    ///
    /// The other threads have to be waited for first, because the kernel does not report the end of
    /// the leader before theirs. If the engine is not the real parent, the zombie is left to the
    /// parent.
    fn kill(&mut self) {
        if !std::mem::take(&mut self.alive) {
            return;
        }
        let _ = sys::kill(self.pid(), libc::SIGKILL);
        for thread in self.threads.iter().rev() {
            while let Ok(ptrace::WaitStatus::Stopped(_)) = ptrace::wait(thread.tid) {}
        }
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for Blank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blank").field("threads", &self.thread_ids().collect::<Vec<_>>()).finish()
    }
}

/// The bit of a signal in the kernel's signal sets.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// A signal to end batches with. SIGTRAP is the first choice, because no program keeps it pending.
///
/// SIGCONT and the stop signals cannot be used: sending one of them removes others from the queues.
fn choose_park_signal(reserved: u64) -> Option<i32> {
    const NEVER: [i32; 6] =
        [libc::SIGKILL, libc::SIGSTOP, libc::SIGCONT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    [libc::SIGTRAP, libc::SIGURG]
        .into_iter()
        .chain(1..=64)
        .find(|signal| !NEVER.contains(signal) && reserved & bit(*signal) == 0)
}
