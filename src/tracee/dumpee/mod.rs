//! A dumpee: a process that must survive the engine. It is stopped, looked at, made to run system
//! calls, and let go.
//!
//! [`FrozenTask`] is a process with all its threads in ptrace stops. As long as the threads have
//! their own registers this is safe: if the engine dies they run on. [`Injection`] makes threads
//! run system calls in such a way that they heal by themselves if the engine dies at any instant;
//! `code.rs` explains how.
//!
//! * `seize` stops the threads, `thread` reads what they are, `release` below lets them go.
//! * `cave` finds room for code without a byte of the program changing, `code` is what goes
//!   there, `frame` the registers that a thread gets back.
//! * `armed` has the states of a thread as types, `site` chooses place and thread of a session,
//!   `inject` is the session.

mod armed;
mod cave;
mod code;
mod frame;
mod inject;
mod seize;
mod site;
#[cfg(test)]
mod tests;
mod thread;

use std::cell::RefCell;
use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use once_cell::unsync::OnceCell;

use crate::error::{Context, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::{memory, proc, ptrace, sys};

pub use inject::{Injection, RunningBatch, SCRATCH};
pub use thread::{FrozenThread, Restart};

/// A process whose threads are all stopped by the engine. Dropping this value lets it run on.
#[derive(Debug)]
pub struct FrozenTask {
    /// Its process id.
    pub pid: HostPid,
    /// Its threads, the leader first.
    pub threads: Vec<FrozenThread>,
    /// The stop signal, if the process was stopped (state T) before it was seized.
    pub group_stop: Option<i32>,
    memory: File,
    /// Its mappings as at the stop, for the first session.
    maps: RefCell<Option<Vec<proc::Mapping>>>,
    /// What [`status`](Self::status) has read of each thread.
    statuses: Vec<OnceCell<Vec<u8>>>,
    /// What [`stat`](Self::stat) has read.
    stat: OnceCell<String>,
    busy: inject::Busy,
}

impl FrozenTask {
    /// Stops all threads of `pid` and reads their registers.
    ///
    /// Everything that follows has to happen in the thread that calls this.
    pub fn seize(pid: HostPid) -> Result<Self> {
        Self::seize_within(pid, seize::PATIENCE)
    }

    /// The same with a limit of its own for the time that the threads may take to stop.
    pub fn seize_within(pid: HostPid, patience: Duration) -> Result<Self> {
        let stopped = seize::all(pid, patience)?;
        let group_stop = stopped.iter().find_map(|thread| thread.group_stop);
        let threads: Vec<FrozenThread> =
            stopped.iter().map(|thread| FrozenThread::unread(thread.tid)).collect();
        let statuses = vec![OnceCell::new(); threads.len()];
        // From here on the drop of `task` lets the threads go after a failure.
        let memory = File::open("/dev/null").doing(|| "open /dev/null")?;
        let (maps, stat, busy) = (RefCell::default(), OnceCell::new(), inject::Busy::default());
        let mut task = Self { pid, threads, group_stop, memory, maps, statuses, stat, busy };
        task.memory = memory::open(pid).doing(|| format!("open /proc/{pid}/mem"))?;
        task.read()?;
        Ok(task)
    }

    fn read(&mut self) -> Result<()> {
        let maps = proc::maps(self.pid)?;
        let healing = cave::vdso_tail(&self.memory, &maps);
        let mut unmoved = true;
        for thread in &mut self.threads {
            unmoved &= thread.read(self.pid, &healing)?;
        }
        *self.maps.get_mut() = Some(maps).filter(|_| unmoved);
        Ok(())
    }

    /// `/proc/PID/mem`, open for reading and writing.
    pub fn memory(&self) -> &File {
        &self.memory
    }

    /// The text of a thread's `/proc/PID/task/TID/status`. It is read once, because of a stopped
    /// thread only the state and the pending signals can change.
    pub fn status(&self, thread: usize) -> Result<&[u8]> {
        let text = self.statuses[thread].get_or_try_init(|| {
            let path = format!("/proc/{}/task/{}/status", self.pid, self.threads[thread].tid);
            proc::contents(&path).doing(|| format!("read {path}"))
        });
        text.map(Vec::as_slice)
    }

    /// The text of `/proc/PID/stat`, read once.
    pub fn stat(&self) -> Result<&str> {
        self.stat.get_or_try_init(|| proc::stat_text(self.pid)).map(String::as_str)
    }

    /// The siginfos queued for one thread, oldest first.
    pub fn pending(&self, thread: usize) -> Result<Vec<[u8; ptrace::SIGINFO_SIZE]>> {
        let tid = self.threads[thread].tid;
        ptrace::peek_siginfo(tid, ptrace::Queue::Private)
            .doing(|| format!("pid {}: pending signals of thread {tid}", self.pid))
    }

    /// The siginfos queued for the process, oldest first.
    pub fn shared_pending(&self) -> Result<Vec<[u8; ptrace::SIGINFO_SIZE]>> {
        ptrace::peek_siginfo(self.pid, ptrace::Queue::Shared)
            .doing(|| format!("pid {}: pending signals", self.pid))
    }

    /// Lets the process go on as if nothing had happened. It is stopped again if it was stopped
    /// before.
    pub fn release(mut self) -> Result<()> {
        self.detach_all()
    }

    /// Kills the process without waiting for its end, which takes longer the more memory the
    /// process has. This is only for an engine whose own process ends now: as long as the tracer
    /// lives and does not wait, the parent cannot reap the process.
    pub fn doom(mut self) -> Result<()> {
        sys::kill(self.pid, libc::SIGKILL).doing(|| format!("kill pid {}", self.pid))?;
        self.threads.clear();
        Ok(())
    }

    /// Kills the process and waits for its end, so that its parent can reap it. If this very
    /// process is the parent, only the other threads are waited for: the end of the leader is left
    /// to the host, which waits for its own child.
    pub fn kill(mut self) -> Result<()> {
        let pid = self.pid;
        let threads = std::mem::take(&mut self.threads);
        let ours = proc::status(pid, pid)?.parent == HostPid::own();
        sys::kill(pid, libc::SIGKILL).doing(|| format!("kill pid {pid}"))?;
        // The kernel reports the end of the leader only after that of the other threads.
        let reaped = threads.iter().rev().filter(|thread| !(ours && thread.tid == pid));
        for thread in reaped {
            thread::reap(thread.tid).doing(|| format!("pid {pid}: reap thread {}", thread.tid))?;
        }
        Ok(())
    }

    /// Lets the process go in state T (stopped), before it executes an instruction.
    pub fn leave_stopped(mut self) -> Result<()> {
        let pid = self.pid;
        if self.group_stop.is_none() {
            self.threads[0].settle().doing(|| format!("stop pid {pid}"))?;
            sys::kill(pid, libc::SIGSTOP).doing(|| format!("stop pid {pid}"))?;
            thread::enter_group_stop(pid)?;
        }
        self.detach_all()
    }

    fn detach_all(&mut self) -> Result<()> {
        let pid = self.pid;
        let mut result = Ok(());
        for mut thread in std::mem::take(&mut self.threads) {
            let detached = thread.settle().and_then(|()| ptrace::detach(thread.tid, 0));
            match detached {
                // Somebody else has killed the thread meanwhile, so there is nothing to let go.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => result = Err(errno),
            }
        }
        result.doing(|| format!("pid {pid}: detach"))
    }
}

impl Drop for FrozenTask {
    fn drop(&mut self) {
        // Nobody is left to report to; and a thread that cannot be detached is dead.
        let _ = self.detach_all();
    }
}
