//! A process as the images have it.

use std::iter;

use super::state;
use crate::error::{Error, Kind, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{
    CoreEntry, TaskCoreEntry, TaskExtrasEntry, ThreadCoreEntry, ThreadExtrasEntry, ThreadInfoX86,
    core_entry,
};
use crate::images::sections::SECTIONS;
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::pid::HostPid;
use crate::objects::pids;

/// A process of an image, with all its parts in place.
pub struct Recorded<'a> {
    /// The whole image.
    pub all: &'a Snapshot,
    /// Its pid.
    pub pid: TreePid,
    /// Its own files.
    pub image: &'a TaskImage,
    /// What it has as a whole.
    pub entry: &'a TaskCoreEntry,
    /// What CRIU's format has no field for.
    pub extras: Option<&'a TaskExtrasEntry>,
    /// The leader first; a zombie has none.
    pub threads: Vec<RecordedThread<'a>>,
}

/// A thread of an image, with all its parts in place.
pub struct RecordedThread<'a> {
    /// Its place among the threads of the process: 0 is the leader.
    pub index: usize,
    /// Its id.
    pub tid: TreePid,
    /// What any processor could have.
    pub entry: &'a ThreadCoreEntry,
    /// Its processor state.
    pub info: &'a ThreadInfoX86,
    /// What CRIU's format has no field for.
    pub extras: Option<&'a ThreadExtrasEntry>,
}

impl<'a> Recorded<'a> {
    /// A process of an image; one of which a part is missing is an error.
    pub fn of(all: &'a Snapshot, pid: TreePid) -> Result<Self> {
        let image = all.tasks.get(&pid).ok_or_else(|| {
            Error::new(Kind::Internal, format!("pid {pid} is not a process of the image"))
        })?;
        let file = SECTIONS.core.of(pid);
        let entry = image.core.tc.as_ref().ok_or_else(|| missing(&file, "the task"))?;
        state::validate(&file, entry)?;
        let extras = all.extras.iter().find(|extras| extras.pid == pid.number());
        let mut task = Self { all, pid, image, entry, extras, threads: Vec::new() };
        if !task.is_dead() {
            let others = image.threads.iter().map(|(tid, core)| (*tid, core));
            let cores = iter::once((pid, &image.core)).chain(others).enumerate();
            let threads = cores.map(|(index, (tid, core))| task.thread(index, tid, core));
            task.threads = threads.collect::<Result<_>>()?;
        }
        Ok(task)
    }

    fn thread(
        &self,
        index: usize,
        tid: TreePid,
        core: &'a CoreEntry,
    ) -> Result<RecordedThread<'a>> {
        let file = SECTIONS.core.of(tid);
        if core.mtype() != core_entry::March::X8664 {
            return Err(Error::image(file, "the task ran on another kind of processor"));
        }
        let (info, entry) = (core.thread_info.as_ref(), core.thread_core.as_ref());
        Ok(RecordedThread {
            index,
            tid,
            entry: entry.ok_or_else(|| missing(&file, "the thread"))?,
            info: info.ok_or_else(|| missing(&file, "the processor state"))?,
            extras: self
                .extras
                .and_then(|all| all.threads.iter().find(|one| one.tid == tid.number())),
        })
    }

    /// Whether it is a zombie.
    pub fn is_dead(&self) -> bool {
        self.image.core.is_zombie()
    }

    /// The name of the file that most of it is in, for messages.
    pub fn file(&self) -> String {
        SECTIONS.core.of(self.pid)
    }

    /// Its pid as the engine sees it.
    pub fn host_pid(&self) -> HostPid {
        pids::host(self.pid)
    }

    /// The error that a part is not there.
    pub fn missing(&self, what: &str) -> Error {
        missing(&self.file(), what)
    }
}

impl RecordedThread<'_> {
    /// The name of the file that it is in, for messages.
    pub fn file(&self) -> String {
        SECTIONS.core.of(self.tid)
    }

    /// Its id as the engine sees it.
    pub fn host_tid(&self) -> HostPid {
        pids::host(self.tid)
    }

    /// The error that a part is not there.
    pub fn missing(&self, what: &str) -> Error {
        missing(&self.file(), what)
    }
}

fn missing(file: &str, what: &str) -> Error {
    Error::image(file, format!("{what} is missing"))
        .remedy("images of CRIU before 4.0 are not read; dump again")
}
