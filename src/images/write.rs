//! Stores a [`Snapshot`] as image files.

use prost::Message;

use super::codec::Encoder;
use super::dir::{Committed, Creation, MANIFEST};
use super::manifest::Manifest;
use super::names::{self, magic};
use super::proto::{GhostChunkEntry, PagemapHead};
use super::snapshot::{GhostFile, Pagemap, Snapshot, TaskImage};
use crate::error::Result;

/// Writes everything but pages, which are there already, and makes the dump whole.
pub fn write(snapshot: &Snapshot, creation: Creation) -> Result<Committed> {
    let mut store = Store { creation: &creation, manifest: Manifest::default() };
    store.messages(names::PSTREE, magic::PSTREE, &snapshot.tree)?;
    for (&pid, task) in &snapshot.tasks {
        store.task(pid, task)?;
    }
    for (&id, table) in &snapshot.descriptor_tables {
        store.messages(&names::descriptors(id), magic::FDINFO, table)?;
    }
    store.messages(names::FILES, magic::FILES, snapshot.files.values())?;
    store.shared(snapshot)?;
    for (&id, ghost) in &snapshot.ghosts {
        store.ghost(id, ghost)?;
    }
    let mut inventory = Encoder::inventory();
    inventory.entry(&snapshot.inventory);
    let inventory = inventory.finish();
    let manifest = store.finish(snapshot, &inventory)?;
    creation.store(MANIFEST, manifest.as_bytes())?;
    creation.commit(&inventory)
}

struct Store<'a> {
    creation: &'a Creation,
    manifest: Manifest,
}

impl Store<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.manifest.add(name, bytes);
        self.creation.store(name, bytes)
    }

    fn messages<'m, M: Message + 'm>(
        &mut self,
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
        &mut self,
        name: &str,
        magic: u32,
        entries: impl IntoIterator<Item = &'m M>,
    ) -> Result<()> {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() { Ok(()) } else { self.messages(name, magic, entries) }
    }

    fn with_payload<M: Message>(
        &mut self,
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

    fn task(&mut self, pid: u32, task: &TaskImage) -> Result<()> {
        self.messages(&names::core(pid), magic::CORE, [&task.core])?;
        for (tid, core) in &task.threads {
            self.messages(&names::core(*tid), magic::CORE, [core])?;
        }
        self.some(&names::ids(pid), magic::IDS, &task.ids)?;
        self.some(&names::mm(pid), magic::MM, &task.mm)?;
        self.some(&names::fs(pid), magic::FS, &task.fs)?;
        match &task.pagemap {
            Some(pagemap) => self.pagemap(&names::pagemap(pid), pagemap),
            None => Ok(()),
        }
    }

    fn pagemap(&mut self, name: &str, pagemap: &Pagemap) -> Result<()> {
        let mut file = Encoder::new(magic::PAGEMAP);
        file.entry(&PagemapHead { pages_id: pagemap.pages_id });
        for entry in &pagemap.entries {
            file.entry(entry);
        }
        self.file(name, &file.finish())
    }

    fn shared(&mut self, snapshot: &Snapshot) -> Result<()> {
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
        for (&shmid, pagemap) in &snapshot.shared_memory {
            self.pagemap(&names::shared_pagemap(shmid), pagemap)?;
        }
        Ok(())
    }

    /// Contents follow the header in chunks, each behind an entry of its own.
    fn ghost(&mut self, id: u32, ghost: &GhostFile) -> Result<()> {
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

    fn finish(mut self, snapshot: &Snapshot, inventory: &[u8]) -> Result<String> {
        self.manifest.add(super::dir::INVENTORY, inventory);
        for pages_id in snapshot.pages_ids() {
            let name = names::pages(pages_id);
            let size = self.creation.size(&name)?;
            self.manifest.add_pages(&name, size, self.creation.checksum(&name, size));
        }
        Ok(self.manifest.to_text())
    }
}
