//! The in-memory form of a checkpoint: the messages of the image format, collected in one value.
//!
//! Capture fills it, [`write`](super::write) stores it, [`read`](super::read) loads and validates
//! it, rebuild consumes it. Page contents stream past it: it only knows where they are.

use std::collections::BTreeMap;

use super::proto::*;

/// A whole checkpoint except the contents of pages and ghost files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// inventory.img
    pub inventory: InventoryEntry,
    /// pstree.img: parents stand before their children, the root first.
    pub tree: Vec<PstreeEntry>,
    /// What is known of each process, by pid (zombies have only a core).
    pub tasks: BTreeMap<u32, TaskImage>,
    /// fdinfo-ID.img, by the `files_id` of the tasks that share the table.
    pub descriptor_tables: BTreeMap<u32, Vec<FdinfoEntry>>,
    /// files.img: open file descriptions by id.
    pub files: BTreeMap<u32, FileEntry>,
    /// pipes-data.img: contents of pipes.
    pub pipe_data: Vec<(PipeDataEntry, Vec<u8>)>,
    /// fifo-data.img: contents of named pipes.
    pub fifo_data: Vec<(PipeDataEntry, Vec<u8>)>,
    /// sk-queues.img: datagrams waiting in sockets.
    pub socket_queues: Vec<(SkPacketEntry, Vec<u8>)>,
    /// tty-info.img
    pub tty_info: Vec<TtyInfoEntry>,
    /// tty-data.img
    pub tty_data: Vec<TtyDataEntry>,
    /// remap-fpath.img: files whose name is gone.
    pub remaps: Vec<RemapFilePathEntry>,
    /// ghost-file-ID.img by id.
    pub ghosts: BTreeMap<u32, GhostFile>,
    /// memfd.img
    pub memfd_inodes: Vec<MemfdInodeEntry>,
    /// pagemap-shmem-ID.img by shmid: contents of shared memory and memfds.
    pub shared_memory: BTreeMap<u64, Pagemap>,
    /// cgroup.img
    pub cgroup: Option<CgroupEntry>,
    /// seccomp.img
    pub seccomp: Option<SeccompEntry>,
    /// timens-ID.img: clocks by time namespace; 0 stands for that of the dumping engine.
    pub timens: BTreeMap<u32, TimensEntry>,
    /// utsns-ID.img
    pub utsns: BTreeMap<u32, UtsnsEntry>,
    /// ipcns-var-ID.img
    pub ipc_vars: BTreeMap<u32, IpcVarEntry>,
    /// `task-extras`: what CRIU's format has no field for.
    pub extras: Vec<TaskExtrasEntry>,
    /// cpuinfo.img
    pub cpuinfo: Option<CpuinfoEntry>,
    /// filelocks.img
    pub file_locks: Vec<FileLockEntry>,
}

/// One process: its leader's core, its threads, its memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskImage {
    /// core-PID.img
    pub core: CoreEntry,
    /// core-TID.img of every thread but the leader, in the order of pstree.img.
    pub threads: Vec<(u32, CoreEntry)>,
    /// ids-PID.img; a zombie has none.
    pub ids: Option<TaskKobjIdsEntry>,
    /// mm-PID.img; a zombie has none.
    pub mm: Option<MmEntry>,
    /// fs-PID.img; a zombie has none.
    pub fs: Option<FsEntry>,
    /// pagemap-PID.img; a zombie has none.
    pub pagemap: Option<Pagemap>,
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
    /// Runs of contents: offset and bytes.
    pub chunks: Vec<(u64, Vec<u8>)>,
}

impl Snapshot {
    /// Numbers of all pages files that pagemaps refer to.
    pub fn pages_ids(&self) -> std::collections::BTreeSet<u32> {
        let private = self.tasks.values().filter_map(|task| task.pagemap.as_ref());
        private.chain(self.shared_memory.values()).map(|pagemap| pagemap.pages_id).collect()
    }

    /// The root of the tree.
    pub fn root(&self) -> &PstreeEntry {
        &self.tree[0]
    }
}
