//! Stopping every thread of a process.
//!
//! A signal that is on its way when a thread is interrupted makes a stop of its own first, and
//! is lost if the tracer dies in that stop. So INTERRUPT follows SEIZE at once, such stops are
//! answered before anything else is done (with the signal, after asking for the stop again), and
//! the threads already seized are looked at after each further one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::kernel::{Sys, proc};

/// How long a thread may take to stop where the caller sets no limit of its own: one in state D
/// does not stop before its wait ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A thread that has stopped as asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped {
    pub tid: i32,
    /// The signal of the group-stop it was in.
    pub group_stop: Option<i32>,
}

/// Threads seized so far. Dropped before [`all`] succeeds, it lets them go.
struct Seizure {
    pid: i32,
    stopped: Vec<Stopped>,
    /// Seized and interrupted, not stopped yet.
    awaited: Vec<i32>,
    /// All of these.
    known: HashSet<i32>,
    begun: Instant,
    patience: Duration,
}

/// Seizes and stops all threads of `pid`, until no new one appears. The leader comes first.
pub(super) fn all(pid: i32, patience: Duration) -> Result<Vec<Stopped>> {
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

/// Names what can never be seized.
fn refuse(pid: i32) -> Result<()> {
    let status = proc::status(pid, pid)?;
    let (reason, remedy) = if status.tracer != 0 {
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

fn refused(pid: i32, reason: impl Into<String>, remedy: &str) -> Error {
    Error::refused(Refusal {
        place: format!("pid {pid}"),
        object: "process".to_owned(),
        reason: reason.into(),
        remedy: remedy.to_owned(),
    })
}

impl Seizure {
    /// Before any other thread: what cannot be seized is named before anything is touched.
    fn take_leader(&mut self) -> Result<()> {
        match self.take(self.pid) {
            Ok(true) => Ok(()),
            Ok(false) => refuse(self.pid).and(Err(proc::gone(self.pid))),
            Err(error) => refuse(self.pid).and(Err(error)),
        }
    }

    /// Seizes the threads that are listed now; true when all that the process has are stopped.
    fn pass(&mut self) -> Result<bool> {
        for tid in proc::threads(self.pid)? {
            if !self.known.contains(&tid) && self.take(tid)? {
                self.sweep()?;
            }
        }
        self.settle()?;
        // One listing may not show all of them: new ones come, and those that exit can hide others.
        // The count settles it, since what is stopped makes no more.
        Ok(proc::status(self.pid, self.pid)?.threads == self.stopped.len())
    }

    /// Seizes one thread; false if it is gone or going.
    fn take(&mut self, tid: i32) -> Result<bool> {
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

    fn denied(&self, tid: i32, errno: Errno) -> Error {
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
            // It may have been killed meanwhile: then there is nothing to let go.
            let _ = ptrace::detach(thread.tid, 0);
        }
    }
}

/// Looks again at once first: most threads stop within microseconds. One that waits for this very
/// processor gets it then, and in the end the thread sleeps.
fn pause(rounds: u32) {
    match rounds {
        0..32 => std::hint::spin_loop(),
        32..36 => std::thread::yield_now(),
        36..256 => std::thread::sleep(Duration::from_micros(50)),
        _ => std::thread::sleep(Duration::from_millis(1)),
    }
}

fn is_exiting(pid: i32, tid: i32) -> bool {
    proc::status(pid, tid).map_or(true, |status| matches!(status.state, 'Z' | 'X'))
}

enum Seen {
    Waiting,
    Gone,
    Stopped(Stopped),
}

fn look(tid: i32) -> Sys<Seen> {
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

/// Answers another stop: the signal goes where it was going, and the wanted stop follows.
fn pass_on(tid: i32, stop: Stop) -> Sys<Seen> {
    let signal = if let Stop::Signal(signal) = stop { signal } else { 0 };
    match ptrace::interrupt(tid).and_then(|()| ptrace::cont(tid, signal)) {
        // Killed meanwhile: the next look reports it.
        Ok(()) | Err(Errno::ESRCH) => Ok(Seen::Waiting),
        Err(errno) => Err(errno),
    }
}

/// Lets a stopped thread run for a moment and stops it again.
pub(super) fn let_run(pid: i32, tid: i32, moment: Duration) -> Result<Stopped> {
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
