//! The in-memory form of a checkpoint: the messages of the image format, collected in one value.
//!
//! Capture fills it, [`write`](super::write) stores it, [`read`](super::read) loads and validates
//! it, rebuild consumes it. Page contents stream past it: it only knows where they are. Its fields
//! are the rows of the table of [`sections`](super::sections).

use super::payload::Payload;
use super::pid::TreePid;
use super::proto::*;

pub use super::sections::{Snapshot, TaskImage};

/// Values of `TaskCoreEntry.task_state`.
pub mod task_state {
    /// The process runs.
    pub const ALIVE: u32 = 1;
    /// It has ended, and its parent has not waited for it: a zombie.
    pub const DEAD: u32 = 2;
    /// It is stopped by a signal.
    pub const STOPPED: u32 = 3;
}

/// A pagemap-*.img: which pages stand, in order, in `pages-{pages_id}.img`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pagemap {
    /// Number of the pages file.
    pub pages_id: u32,
    /// Runs of pages, ascending.
    pub entries: Vec<PagemapEntry>,
}

/// A ghost-file-*.img: a file that had no name any more when it was dumped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GhostFile {
    /// Owner, mode, times.
    pub entry: GhostFileEntry,
    /// Runs of contents, ascending: offset and bytes.
    pub chunks: Vec<(u64, Payload)>,
}

impl CoreEntry {
    /// Whether it is a zombie's, which has nothing but its name and its exit status.
    pub fn is_zombie(&self) -> bool {
        self.tc.as_ref().is_some_and(|tc| tc.task_state == task_state::DEAD)
    }
}

impl PstreeEntry {
    /// Its pid, as a number of the tree.
    pub fn tree_pid(&self) -> TreePid {
        TreePid::new(self.pid)
    }

    /// The ids of its threads, as numbers of the tree.
    pub fn tree_tids(&self) -> impl Iterator<Item = TreePid> + '_ {
        self.threads.iter().copied().map(TreePid::new)
    }
}

impl Snapshot {
    /// Numbers of all pages files that pagemaps refer to.
    pub fn pages_ids(&self) -> std::collections::BTreeSet<u32> {
        let private = self.tasks.values().filter_map(|task| task.pagemap.as_ref());
        private.chain(self.shared_memory.values()).map(|pagemap| pagemap.pages_id).collect()
    }

    /// The path that the open file `id` is, if it is one.
    pub fn path_entry(&self, id: u32) -> Option<&RegFileEntry> {
        self.files.get(&id)?.reg.as_ref()
    }

    /// The descriptor table of the process `pid`.
    pub fn table_of(&self, pid: TreePid) -> Option<&[FdinfoEntry]> {
        let ids = self.tasks.get(&pid)?.ids.as_ref()?;
        self.descriptor_tables.get(&ids.files_id).map(Vec::as_slice)
    }

    /// The process that has the open file `id` and the lowest pid of all that have it: it is in this
    /// process's table that CRIU looks up the descriptors which a file refers to by their numbers.
    pub fn first_holder(&self, id: u32) -> Option<TreePid> {
        let has = |table: &[FdinfoEntry]| table.iter().any(|entry| entry.id == id);
        self.tasks.keys().copied().find(|pid| self.table_of(*pid).is_some_and(has))
    }

    /// The root of the tree.
    pub fn root(&self) -> &PstreeEntry {
        &self.tree[0]
    }
}
