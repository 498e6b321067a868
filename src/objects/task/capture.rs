//! From a stopped process to its `core-*.img`.

use super::ATTRIBUTES;
use super::asking::Asking;
use super::attribute::Seen;
use super::draft::{Draft, ThreadDraft};
use super::status::Status;
use crate::error::{Context, Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{CoreEntry, MmEntry, TaskExtrasEntry};
use crate::images::snapshot::Snapshot;
use crate::tracee::dumpee::{FrozenTask, Injection};

/// What was captured of a process.
#[derive(Clone, Debug)]
pub struct Captured {
    /// core-PID.img
    pub leader: CoreEntry,
    /// core-TID.img of every thread but the leader, in the order of the frozen threads.
    pub threads: Vec<(TreePid, CoreEntry)>,
    /// What the process told about its address space.
    pub mm: MmEntry,
    /// What CRIU's format has no field for; none if there is nothing of the kind.
    pub extras: Option<TaskExtrasEntry>,
}

/// Captures a process; what is stored for the tree as a whole goes to `all`.
///
/// The session that comes with the answer is leaving the process, and has to be finished before
/// anybody looks at the memory. What can be read from outside is read while the process is busy
/// for us.
pub fn capture_process<'a>(
    task: &'a FrozenTask,
    all: &mut Snapshot,
    refusals: &mut Refusals,
) -> Result<(Captured, Injection<'a>)> {
    let mut draft = Draft::of(task);
    for attribute in ATTRIBUTES {
        attribute.look(task, &mut draft, refusals)?;
    }
    let asking = Asking::begin(task, &draft)?;
    for attribute in ATTRIBUTES {
        attribute.read(task, &mut draft)?;
    }
    let asked = asking.ask()?;
    for (index, thread) in draft.threads.iter_mut().enumerate() {
        read_thread(task, index, thread, refusals)
            .doing(|| format!("thread {}", task.threads[index].tid))?;
    }
    let mut session = asked.answers(&mut draft, refusals)?;
    for attribute in ATTRIBUTES {
        attribute.settle(task, &mut draft, all)?;
    }
    session.begin_finish()?;
    Ok((draft.finish(), session))
}

fn read_thread(
    task: &FrozenTask,
    index: usize,
    thread: &mut ThreadDraft,
    refusals: &mut Refusals,
) -> Result<()> {
    let text = task.status(index)?;
    let status = Status::parse(&String::from_utf8_lossy(text))?;
    let seen = Seen { pid: task.pid, frozen: &task.threads[index], text, status };
    ATTRIBUTES.iter().try_for_each(|attribute| attribute.read_thread(&seen, thread, refusals))
}
