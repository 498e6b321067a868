//! Names and magic numbers of the image files this project writes and reads.

/// One kind of image file: its second magic word.
pub mod magic {
    pub const INVENTORY: u32 = 0x5831_3116;
    pub const FDINFO: u32 = 0x5621_3732;
    pub const PAGEMAP: u32 = 0x5608_4025;
    pub const CORE: u32 = 0x5505_3847;
    pub const IDS: u32 = 0x5443_2030;
    pub const MM: u32 = 0x5749_2820;
    pub const PIPES_DATA: u32 = 0x5645_3709;
    pub const FIFO_DATA: u32 = 0x5933_3054;
    pub const PSTREE: u32 = 0x5027_3030;
    pub const SK_QUEUES: u32 = 0x5626_4026;
    pub const FS: u32 = 0x5140_3912;
    pub const REMAP_FPATH: u32 = 0x5913_3954;
    pub const GHOST_FILE: u32 = 0x5258_3605;
    pub const MEMFD_INODE: u32 = 0x4845_3499;
    pub const TTY_INFO: u32 = 0x5945_3036;
    pub const TTY_DATA: u32 = 0x5941_3026;
    pub const FILE_LOCKS: u32 = 0x5432_3616;
    pub const CGROUP: u32 = 0x5938_3330;
    pub const SECCOMP: u32 = 0x6441_3049;
    pub const FILES: u32 = 0x5630_3138;
    pub const TIMENS: u32 = 0x4311_4433;
    pub const UTSNS: u32 = 0x5447_3203;
    pub const IPC_VAR: u32 = 0x5311_5007;
    /// Ours: spells "LCTX".
    pub const TASK_EXTRAS: u32 = 0x5854_434c;
    pub const STATS: u32 = 0x5709_3306;
    pub const CPUINFO: u32 = 0x6140_4013;
}

pub const PSTREE: &str = "pstree.img";
pub const FILES: &str = "files.img";
pub const PIPES_DATA: &str = "pipes-data.img";
pub const FIFO_DATA: &str = "fifo-data.img";
pub const SK_QUEUES: &str = "sk-queues.img";
pub const TTY_INFO: &str = "tty-info.img";
pub const TTY_DATA: &str = "tty-data.img";
pub const REMAP_FPATH: &str = "remap-fpath.img";
pub const MEMFD: &str = "memfd.img";
pub const FILE_LOCKS: &str = "filelocks.img";
pub const CGROUP: &str = "cgroup.img";
pub const SECCOMP: &str = "seccomp.img";
pub const CPUINFO: &str = "cpuinfo.img";

/// The directory (mostly a symbolic link to it) with the dump before this one.
pub const PARENT: &str = "parent";

/// Ours, so without the ending by which other tools look for images they know.
pub const TASK_EXTRAS: &str = "task-extras";

pub fn core(id: u32) -> String {
    format!("core-{id}.img")
}
pub fn ids(pid: u32) -> String {
    format!("ids-{pid}.img")
}
pub fn mm(pid: u32) -> String {
    format!("mm-{pid}.img")
}
pub fn fs(pid: u32) -> String {
    format!("fs-{pid}.img")
}
pub fn pagemap(pid: u32) -> String {
    format!("pagemap-{pid}.img")
}
pub fn shared_pagemap(shmid: u64) -> String {
    format!("pagemap-shmem-{shmid}.img")
}
/// Raw pages.
pub fn pages(pages_id: u32) -> String {
    format!("pages-{pages_id}.img")
}
pub fn descriptors(files_id: u32) -> String {
    format!("fdinfo-{files_id}.img")
}
pub fn ghost(id: u32) -> String {
    format!("ghost-file-{id:x}.img")
}
pub fn timens(ns_id: u32) -> String {
    format!("timens-{ns_id}.img")
}
pub fn utsns(ns_id: u32) -> String {
    format!("utsns-{ns_id}.img")
}
pub fn ipc_vars(ns_id: u32) -> String {
    format!("ipcns-var-{ns_id}.img")
}
