//! Stores a [`Snapshot`] as image files.

use crc32fast::Hasher;
use parking_lot::Mutex;

use super::codec::Encoder;
use super::dir::{Committed, Creation, MANIFEST};
use super::forms::Format;
use super::manifest::Manifest;
use super::names;
use super::pid::TreePid;
use super::sections::{Row, SECTIONS};
use super::snapshot::{Pagemap, Snapshot, TaskImage};
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
    pub fn task(&self, pid: TreePid, task: &TaskImage) -> Result<()> {
        self.file(&SECTIONS.core, SECTIONS.core.of(pid), &task.core)?;
        for (tid, core) in &task.threads {
            self.file(&SECTIONS.core, SECTIONS.core.of(*tid), core)?;
        }
        task.store(self, pid)
    }

    /// Writes what is to be found in a process's pages file.
    pub fn pagemap(&self, pid: TreePid, pagemap: &Pagemap) -> Result<()> {
        self.file(&SECTIONS.pagemap, SECTIONS.pagemap.of(pid), pagemap)
    }

    /// Writes what the processes share but for the contents of memory, whatever stands in `snapshot`
    /// of their own.
    pub fn common(&self, snapshot: &Snapshot) -> Result<()> {
        snapshot.store(self, false)
    }

    /// Writes where the contents of shared memory are and makes the dump whole; `pages` are the
    /// numbers of all pages files.
    pub fn finish(
        &self,
        snapshot: &Snapshot,
        pages: impl IntoIterator<Item = u32>,
    ) -> Result<Committed<'_>> {
        snapshot.store(self, true)?;
        let mut inventory = Encoder::new(SECTIONS.inventory.magic);
        inventory.entry(&snapshot.inventory);
        let inventory = inventory.finish();
        let mut manifest = self.manifest.lock();
        manifest.add(SECTIONS.inventory.name(), &inventory);
        for pages_id in pages {
            let name = names::pages(pages_id);
            let (size, crc) = self.creation.written(&name)?;
            manifest.add_written(&name, size, crc);
        }
        self.creation.store(MANIFEST, manifest.to_text().as_bytes())?;
        self.creation.commit(&inventory)
    }

    /// Writes one file.
    pub(super) fn file<F: Format, I>(
        &self,
        row: &Row<F, I>,
        name: String,
        value: &F::Value,
    ) -> Result<()> {
        let file = self.creation.create(&name)?;
        let (mut size, mut hasher) = (0, Hasher::new());
        let mut out = |bytes: &[u8]| {
            size += bytes.len() as u64;
            hasher.update(bytes);
            self.creation.append(&file, &name, bytes)
        };
        let mut encoder = Encoder::to(&mut out, row.magic);
        F::encode(value, &mut encoder)?;
        encoder.flush()?;
        self.manifest.lock().add_written(&name, size, Some(hasher.finalize()));
        Ok(())
    }
}
