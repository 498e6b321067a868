//! Stopping every thread of a process.
//!
//! A signal that is on its way when a thread is interrupted makes a stop of its own first, and the
//! signal is lost if the tracer dies during that stop. Therefore INTERRUPT follows SEIZE at once. A
//! stop by a signal is answered before anything else is done: the stop is asked for again, and the
//! thread goes on with the signal. After each further thread the threads that were seized before
//! are looked at.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::kernel::{Sys, proc};

/// How long a thread may take to stop if the caller sets no limit of its own. A thread in state D
/// does not stop before its wait ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A thread that has stopped as asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped {
    pub tid: HostPid,
    /// The signal of the group-stop it was in.
    pub group_stop: Option<i32>,
}

/// The threads seized so far. They are let go if this is dropped before [`all`] succeeds.
struct Seizure {
    pid: HostPid,
    stopped: Vec<Stopped>,
    /// Threads that are seized and interrupted but have not stopped yet.
    awaited: Vec<HostPid>,
    /// The threads that were ever seized.
    known: HashSet<HostPid>,
    begun: Instant,
    patience: Duration,
}

/// Seizes and stops all threads of `pid`, until no new one appears. The leader comes first.
pub(super) fn all(pid: HostPid, patience: Duration) -> Result<Vec<Stopped>> {
    let begun = Instant::now();
    let (stopped, awaited, known) = (Vec::new(), Vec::new(), HashSet::new());
    let mut seizure = Seizure { pid, stopped, awaited, known, begun, patience };
    seizure.take_leader()?;
    while !seizure.pass()? {
        if seizure.is_late() {
            return Err(seizure.too_slow());
        }
    }
    let mut stopped = std::mem::take(&mut seizure.stopped);
    stopped.sort_unstable_by_key(|thread| (thread.tid != pid, thread.tid));
    Ok(stopped)
}

/// Refuses a process that can never be seized, and says why.
fn refuse(pid: HostPid) -> Result<()> {
    let status = proc::status(pid, pid)?;
    let (reason, remedy) = if status.tracer != HostPid::NONE {
        (format!("it is traced by {} already", status.tracer), "detach that debugger")
    } else if matches!(status.state, 'Z' | 'X') && status.threads > 1 {
        ("its main thread has exited while others live on".to_owned(), "")
    } else if matches!(status.state, 'Z' | 'X') {
        ("it has exited".to_owned(), "")
    } else {
        return Ok(());
    };
    Err(refused(pid, reason, remedy))
}

fn refused(pid: HostPid, reason: impl Into<String>, remedy: &str) -> Error {
    Error::refused(Refusal {
        place: format!("pid {pid}"),
        object: "process".to_owned(),
        reason: reason.into(),
        remedy: remedy.to_owned(),
    })
}

impl Seizure {
    /// Seizes the leader, before any other thread, so that a process which cannot be seized is
    /// refused before anything of it is touched.
    fn take_leader(&mut self) -> Result<()> {
        match self.take(self.pid) {
            Ok(true) => Ok(()),
            Ok(false) => refuse(self.pid).and(Err(proc::gone(self.pid))),
            Err(error) => refuse(self.pid).and(Err(error)),
        }
    }

    /// Seizes the threads that are listed now. True if all threads of the process are stopped then.
    fn pass(&mut self) -> Result<bool> {
        for tid in proc::threads(self.pid)? {
            if !self.known.contains(&tid) && self.take(tid)? {
                self.sweep()?;
            }
        }
        self.settle()?;
        // One listing may not show all threads: new ones appear, and threads that exit can hide
        // others. The count decides, since stopped threads make no new ones.
        Ok(proc::status(self.pid, self.pid)?.threads == self.stopped.len())
    }

    /// Seizes one thread; false if the thread has ended or is ending.
    fn take(&mut self, tid: HostPid) -> Result<bool> {
        let seized =
            ptrace::seize(tid, ptrace::O_TRACESYSGOOD).and_then(|()| ptrace::interrupt(tid));
        match seized {
            Ok(()) => {
                self.awaited.push(tid);
                self.known.insert(tid);
            }
            Err(Errno::ESRCH) => return Ok(false),
            Err(Errno::EPERM) if tid != self.pid && is_exiting(self.pid, tid) => return Ok(false),
            Err(errno) => return Err(self.denied(tid, errno)),
        }
        Ok(true)
    }

    fn denied(&self, tid: HostPid, errno: Errno) -> Error {
        Error::sys(format_args!("seize thread {tid}"), errno)
            .context(format!("pid {}", self.pid))
            .remedy("tracing it needs CAP_SYS_PTRACE over it, and a kernel thread cannot be traced")
    }

    /// Waits until all seized threads have stopped or are gone.
    fn settle(&mut self) -> Result<()> {
        let mut rounds = 0u32;
        loop {
            self.sweep()?;
            if self.awaited.is_empty() {
                return Ok(());
            }
            if self.is_late() {
                return Err(self.too_slow());
            }
            pause(rounds);
            rounds += 1;
        }
    }

    /// Looks once at each thread that has not stopped yet.
    fn sweep(&mut self) -> Result<()> {
        let mut waiting = Vec::new();
        for tid in std::mem::take(&mut self.awaited) {
            match look(tid).doing(|| format!("pid {}: stop thread {tid}", self.pid))? {
                Seen::Waiting => waiting.push(tid),
                Seen::Gone if tid == self.pid => return Err(proc::gone(tid)),
                Seen::Gone => {
                    self.known.remove(&tid);
                }
                Seen::Stopped(stopped) => self.stopped.push(stopped),
            }
        }
        self.awaited = waiting;
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.begun.elapsed() > self.patience
    }

    fn too_slow(&self) -> Error {
        let tid = self.awaited.first().copied().unwrap_or(self.pid);
        let state = proc::status(self.pid, tid).map_or('?', |status| status.state);
        let text = format!(
            "pid {}: thread {tid} (state {state}) did not stop within {:.1} s",
            self.pid,
            self.begun.elapsed().as_secs_f64()
        );
        Error::new(Kind::TimedOut, text)
    }
}

impl Drop for Seizure {
    fn drop(&mut self) {
        for thread in &self.stopped {
            // If the thread has been killed meanwhile, there is nothing to let go.
            let _ = ptrace::detach(thread.tid, 0);
        }
    }
}

/// Waits a little before the next look. The first looks follow at once, because most threads stop
/// within microseconds. Then the processor is yielded to a thread that may be waiting for it, and
/// in the end the engine sleeps.
fn pause(rounds: u32) {
    match rounds {
        0..32 => std::hint::spin_loop(),
        32..36 => std::thread::yield_now(),
        36..256 => std::thread::sleep(Duration::from_micros(50)),
        _ => std::thread::sleep(Duration::from_millis(1)),
    }
}

fn is_exiting(pid: HostPid, tid: HostPid) -> bool {
    proc::status(pid, tid).map_or(true, |status| matches!(status.state, 'Z' | 'X'))
}

enum Seen {
    Waiting,
    Gone,
    Stopped(Stopped),
}

fn look(tid: HostPid) -> Sys<Seen> {
    match ptrace::try_wait(tid) {
        Ok(None) => Ok(Seen::Waiting),
        Ok(Some(WaitStatus::Stopped(stop))) if stop.is_interrupt() => {
            Ok(Seen::Stopped(Stopped { tid, group_stop: stop.group_stop() }))
        }
        Ok(Some(WaitStatus::Stopped(stop))) => pass_on(tid, stop),
        Ok(Some(WaitStatus::Exited(_) | WaitStatus::Killed { .. })) | Err(Errno::ECHILD) => {
            Ok(Seen::Gone)
        }
        Err(errno) => Err(errno),
    }
}

/// Answers a stop that is not the one asked for: the signal is delivered, and the stop is asked for
/// again.
fn pass_on(tid: HostPid, stop: Stop) -> Sys<Seen> {
    let signal = if let Stop::Signal(signal) = stop { signal } else { 0 };
    match ptrace::interrupt(tid).and_then(|()| ptrace::cont(tid, signal)) {
        // If the thread was killed meanwhile, the next look reports that.
        Ok(()) | Err(Errno::ESRCH) => Ok(Seen::Waiting),
        Err(errno) => Err(errno),
    }
}

/// Lets a stopped thread run for a moment and stops it again.
pub(super) fn let_run(pid: HostPid, tid: HostPid, moment: Duration) -> Result<Stopped> {
    let doing = || format!("pid {pid}: stop thread {tid} again");
    ptrace::cont(tid, 0).doing(doing)?;
    std::thread::sleep(moment);
    ptrace::interrupt(tid).doing(doing)?;
    let deadline = Instant::now() + PATIENCE;
    for rounds in 0.. {
        match look(tid).doing(doing)? {
            Seen::Stopped(stopped) => return Ok(stopped),
            Seen::Gone => break,
            Seen::Waiting if Instant::now() > deadline => break,
            Seen::Waiting => pause(rounds),
        }
    }
    Err(Error::new(Kind::TaskDied, "it is gone").context(doing()))
}
