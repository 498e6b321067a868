//! What can be read of a stopped process without its help.

use super::status::Status;
use super::{comm, credentials, posix_timers, rlimits};
use crate::error::{Context, Refusals, Result};
use crate::images::proto::{PosixTimerEntry, TaskRlimitsEntry};
use crate::kernel::proc::{self, Stat};
use crate::tracee::dumpee::FrozenTask;

/// Facts about a process.
pub struct Outside {
    /// Flags of the task, as CRIU stores them.
    pub flags: u32,
    /// The text of `/proc/PID/personality`.
    pub personality: String,
    pub limits: TaskRlimitsEntry,
    /// Timers without their times.
    pub timers: Vec<PosixTimerEntry>,
}

/// Facts about one thread.
pub struct Thread {
    pub status: Status,
    pub comm: Vec<u8>,
}

impl Outside {
    /// Reads all of it but the timers, which are [known](timers) already.
    pub fn read(task: &FrozenTask, timers: Vec<PosixTimerEntry>) -> Result<Self> {
        let file = |name: &str| text(&format!("/proc/{}/{name}", task.pid));
        Ok(Self {
            flags: Stat::of(task.stat()?)?.flags,
            personality: file("personality")?,
            limits: rlimits::parse(&file("limits")?)?,
            timers,
        })
    }
}

/// Facts about each thread, in the order of the frozen threads.
pub fn threads(task: &FrozenTask, refusals: &mut Refusals) -> Result<Vec<Thread>> {
    (0..task.threads.len()).map(|index| Thread::read(task, index, refusals)).collect()
}

/// The POSIX timers of a process, without their times.
pub fn timers(task: &FrozenTask, refusals: &mut Refusals) -> Result<Vec<PosixTimerEntry>> {
    let timers = posix_timers::parse(&text(&format!("/proc/{}/timers", task.pid))?)?;
    posix_timers::refuse(task.pid, &timers, refusals);
    Ok(timers)
}

impl Thread {
    fn read(task: &FrozenTask, index: usize, refusals: &mut Refusals) -> Result<Self> {
        let tid = task.threads[index].tid;
        let place = format!("/proc/{}/task/{tid}", task.pid);
        let file = task.status(index)?;
        let comm = match comm::in_status(file) {
            Some(comm) => comm.to_vec(),
            None => comm::parse(&bytes(&format!("{place}/comm"))?).to_vec(),
        };
        let status = Status::parse(&String::from_utf8_lossy(file))?;
        if status.shadow_stack {
            let reason = "it can only be rebuilt by code running in the process";
            refusals.refuse(format!("thread {tid}"), "shadow stack", reason, "");
        }
        if credentials::labels_exist() {
            let label = proc::text(&format!("{place}/attr/current")).unwrap_or_default();
            credentials::refuse_label(tid, &label, refusals);
        }
        Ok(Self { status, comm })
    }
}

fn text(path: &str) -> Result<String> {
    bytes(path).map(proc::lossy)
}

fn bytes(path: &str) -> Result<Vec<u8>> {
    proc::contents(path).doing(|| format!("read {path}"))
}
