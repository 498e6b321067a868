//! Stores a [`Snapshot`] as image files.

use parking_lot::Mutex;
use prost::Message;

use super::codec::Encoder;
use super::dir::{Committed, Creation, MANIFEST};
use super::manifest::Manifest;
use super::names::{self, magic};
use super::proto::{GhostChunkEntry, PagemapHead};
use super::snapshot::{GhostFile, Pagemap, Snapshot, TaskImage};
use crate::error::Result;

/// Writes everything but pages, which are there already, and makes the dump whole.
pub fn write(snapshot: &Snapshot, creation: Creation) -> Result<()> {
    let store = Store::new(creation);
    for (&pid, task) in &snapshot.tasks {
        store.task(pid, task)?;
    }
    store.common(snapshot)?;
    store.finish(snapshot, snapshot.pages_ids()).map(drop)
}

/// A dump on its way into files; several threads may write to it.
#[derive(Debug)]
pub struct Store {
    creation: Creation,
    manifest: Mutex<Manifest>,
}

impl Store {
    /// Nothing is written yet but, at most, pages.
    pub fn new(creation: Creation) -> Self {
        Self { creation, manifest: Mutex::default() }
    }

    /// Where pages are written to.
    pub fn creation(&self) -> &Creation {
        &self.creation
    }

    /// Writes all that is a process's own.
    pub fn task(&self, pid: u32, task: &TaskImage) -> Result<()> {
        self.messages(&names::core(pid), magic::CORE, [&task.core])?;
        for (tid, core) in &task.threads {
            self.messages(&names::core(*tid), magic::CORE, [core])?;
        }
        self.some(&names::ids(pid), magic::IDS, &task.ids)?;
        self.some(&names::mm(pid), magic::MM, &task.mm)?;
        self.some(&names::fs(pid), magic::FS, &task.fs)?;
        task.pagemap.as_ref().map_or(Ok(()), |pagemap| self.pagemap(pid, pagemap))
    }

    /// Writes what is to be found in a process's pages file.
    pub fn pagemap(&self, pid: u32, pagemap: &Pagemap) -> Result<()> {
        self.pagemap_file(&names::pagemap(pid), pagemap)
    }

    /// Writes what the processes share but for the contents of memory, whatever stands in `snapshot`
    /// of their own.
    pub fn common(&self, snapshot: &Snapshot) -> Result<()> {
        self.messages(names::PSTREE, magic::PSTREE, &snapshot.tree)?;
        for (&id, table) in &snapshot.descriptor_tables {
            self.messages(&names::descriptors(id), magic::FDINFO, table)?;
        }
        self.messages(names::FILES, magic::FILES, snapshot.files.values())?;
        self.shared(snapshot)?;
        for (&id, ghost) in &snapshot.ghosts {
            self.ghost(id, ghost)?;
        }
        Ok(())
    }

    /// Writes where the contents of shared memory are and makes the dump whole; `pages` are the
    /// numbers of all pages files.
    pub fn finish(
        &self,
        snapshot: &Snapshot,
        pages: impl IntoIterator<Item = u32>,
    ) -> Result<Committed<'_>> {
        for (&shmid, pagemap) in &snapshot.shared_memory {
            self.pagemap_file(&names::shared_pagemap(shmid), pagemap)?;
        }
        let mut inventory = Encoder::inventory();
        inventory.entry(&snapshot.inventory);
        let inventory = inventory.finish();
        let mut manifest = self.manifest.lock();
        manifest.add(super::dir::INVENTORY, &inventory);
        for pages_id in pages {
            let name = names::pages(pages_id);
            let (size, crc) = self.creation.written(&name)?;
            manifest.add_pages(&name, size, crc);
        }
        self.creation.store(MANIFEST, manifest.to_text().as_bytes())?;
        self.creation.commit(&inventory)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.manifest.lock().add(name, bytes);
        self.creation.store(name, bytes)
    }

    fn messages<'m, M: Message + 'm>(
        &self,
        name: &str,
        magic: u32,
        entries: impl IntoIterator<Item = &'m M>,
    ) -> Result<()> {
        let mut file = Encoder::new(magic);
        for entry in entries {
            file.entry(entry);
        }
        self.file(name, &file.finish())
    }

    /// Files that CRIU leaves out when they would be empty.
    fn some<'m, M: Message + 'm>(
        &self,
        name: &str,
        magic: u32,
        entries: impl IntoIterator<Item = &'m M>,
    ) -> Result<()> {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() { Ok(()) } else { self.messages(name, magic, entries) }
    }

    fn with_payload<M: Message>(
        &self,
        name: &str,
        magic: u32,
        entries: &[(M, Vec<u8>)],
    ) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut file = Encoder::new(magic);
        for (entry, payload) in entries {
            file.entry(entry).payload(payload);
        }
        self.file(name, &file.finish())
    }

    fn pagemap_file(&self, name: &str, pagemap: &Pagemap) -> Result<()> {
        let mut file = Encoder::new(magic::PAGEMAP);
        file.entry(&PagemapHead { pages_id: pagemap.pages_id });
        for entry in &pagemap.entries {
            file.entry(entry);
        }
        self.file(name, &file.finish())
    }

    fn shared(&self, snapshot: &Snapshot) -> Result<()> {
        self.with_payload(names::PIPES_DATA, magic::PIPES_DATA, &snapshot.pipe_data)?;
        self.with_payload(names::FIFO_DATA, magic::FIFO_DATA, &snapshot.fifo_data)?;
        self.with_payload(names::SK_QUEUES, magic::SK_QUEUES, &snapshot.socket_queues)?;
        self.some(names::TTY_INFO, magic::TTY_INFO, &snapshot.tty_info)?;
        self.some(names::TTY_DATA, magic::TTY_DATA, &snapshot.tty_data)?;
        self.some(names::REMAP_FPATH, magic::REMAP_FPATH, &snapshot.remaps)?;
        self.some(names::MEMFD, magic::MEMFD_INODE, &snapshot.memfd_inodes)?;
        self.some(names::FILE_LOCKS, magic::FILE_LOCKS, &snapshot.file_locks)?;
        self.some(names::TASK_EXTRAS, magic::TASK_EXTRAS, &snapshot.extras)?;
        self.some(names::CGROUP, magic::CGROUP, &snapshot.cgroup)?;
        self.some(names::SECCOMP, magic::SECCOMP, &snapshot.seccomp)?;
        self.some(names::CPUINFO, magic::CPUINFO, &snapshot.cpuinfo)?;
        for (&id, entry) in &snapshot.timens {
            self.messages(&names::timens(id), magic::TIMENS, [entry])?;
        }
        for (&id, entry) in &snapshot.utsns {
            self.messages(&names::utsns(id), magic::UTSNS, [entry])?;
        }
        for (&id, entry) in &snapshot.ipc_vars {
            self.messages(&names::ipc_vars(id), magic::IPC_VAR, [entry])?;
        }
        Ok(())
    }

    /// Contents follow the header in chunks, each behind an entry of its own.
    fn ghost(&self, id: u32, ghost: &GhostFile) -> Result<()> {
        let mut file = Encoder::new(magic::GHOST_FILE);
        file.entry(&ghost.entry);
        if ghost.entry.chunks == Some(true) {
            for (off, bytes) in &ghost.chunks {
                file.entry(&GhostChunkEntry { len: bytes.len() as u64, off: *off }).payload(bytes);
            }
        } else if let Some((_, bytes)) = ghost.chunks.first() {
            file.payload(bytes);
        }
        self.file(&names::ghost(id), &file.finish())
    }
}
