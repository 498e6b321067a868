//! The images of a process while they are gathered.

use super::Captured;
use crate::images::pid::TreePid;
use crate::images::proto::{
    CoreEntry, MmEntry, TaskCoreEntry, TaskExtrasEntry, TaskTimersEntry, ThreadCoreEntry,
    ThreadExtrasEntry, ThreadInfoX86, core_entry,
};
use crate::kernel::pid::HostPid;
use crate::objects::pids;
use crate::tracee::dumpee::FrozenTask;

/// The set of control groups that every task is in: they are not managed.
const CONTROL_GROUP_SET: u32 = 1;

/// What is known of a process: attributes write into it.
#[derive(Debug)]
pub struct Draft {
    /// Its pid.
    pub pid: HostPid,
    /// What it has as a whole.
    pub entry: TaskCoreEntry,
    /// What it said about its address space.
    pub mm: MmEntry,
    /// What CRIU's format has no field for; those of threads stand with the threads.
    pub extras: TaskExtrasEntry,
    /// The leader first.
    pub threads: Vec<ThreadDraft>,
}

/// What is known of a thread.
#[derive(Debug)]
pub struct ThreadDraft {
    /// Its id.
    pub tid: HostPid,
    /// What any processor could have.
    pub entry: ThreadCoreEntry,
    /// Its processor state.
    pub info: ThreadInfoX86,
    /// What CRIU's format has no field for.
    pub extras: ThreadExtrasEntry,
}

impl Draft {
    /// Nothing is known yet.
    pub fn of(task: &FrozenTask) -> Self {
        let threads = task.threads.iter().map(|thread| ThreadDraft::of(thread.tid)).collect();
        let extras =
            TaskExtrasEntry { pid: pids::tree(task.pid).number(), ..TaskExtrasEntry::default() };
        Self {
            pid: task.pid,
            entry: TaskCoreEntry::default(),
            mm: MmEntry::default(),
            extras,
            threads,
        }
    }

    /// All kinds of timers.
    pub fn timers(&mut self) -> &mut TaskTimersEntry {
        self.entry.timers.get_or_insert_default()
    }

    /// The images.
    pub fn finish(mut self) -> Captured {
        let mut extras = self.extras;
        let none = TaskExtrasEntry { pid: extras.pid, ..TaskExtrasEntry::default() };
        let mut cores = Vec::with_capacity(self.threads.len());
        for thread in self.threads {
            let (core, own) = thread.finish();
            extras.threads.extend(own);
            cores.push(core);
        }
        let mut threads = cores.into_iter();
        let (_, mut leader) = threads.next().unwrap_or_default();
        leader.tc = Some(std::mem::take(&mut self.entry));
        Captured {
            leader,
            threads: threads.collect(),
            mm: self.mm,
            extras: (extras != none).then_some(extras),
        }
    }
}

impl ThreadDraft {
    fn of(tid: HostPid) -> Self {
        Self {
            tid,
            entry: ThreadCoreEntry {
                cg_set: Some(CONTROL_GROUP_SET),
                ..ThreadCoreEntry::default()
            },
            info: ThreadInfoX86::default(),
            extras: ThreadExtrasEntry {
                tid: pids::tree(tid).number(),
                ..ThreadExtrasEntry::default()
            },
        }
    }

    fn finish(self) -> ((TreePid, CoreEntry), Option<ThreadExtrasEntry>) {
        let tid = pids::tree(self.tid);
        let none = ThreadExtrasEntry { tid: tid.number(), ..ThreadExtrasEntry::default() };
        let core = CoreEntry {
            mtype: core_entry::March::X8664.into(),
            thread_info: Some(self.info),
            thread_core: Some(self.entry),
            ..CoreEntry::default()
        };
        ((tid, core), (self.extras != none).then_some(self.extras))
    }
}
