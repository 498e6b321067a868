//! Makes every open file of an image once, in the engine, and takes the steps of all kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::context::{RestoreCx, RestoreOptions, SharedFile};
use super::kind::{Blanks, FileId};
use super::registry::kind_of;
use super::{ATTRIBUTES, AllMade, KINDS, ghost, link, owners};
use crate::error::{Context, Error, Result};
use crate::images::pid::TreePid;
use crate::images::proto::FileEntry;
use crate::images::proto::PstreeEntry;
use crate::images::snapshot::Snapshot;
use crate::objects::phases::{Phase, Turn};

/// Every open file of an image.
#[derive(Debug)]
pub struct OpenFiles<'s> {
    pub(super) cx: RestoreCx<'s>,
    made: AllMade,
    /// The first of the processes that have a table, for each table.
    pub(super) fillers: BTreeSet<TreePid>,
    /// The last field, so that the limit is put back when all descriptors are closed.
    _limit: DescriptorLimit,
}

impl<'s> OpenFiles<'s> {
    /// Nothing is made yet.
    pub fn new(snapshot: &'s Snapshot, options: RestoreOptions) -> Result<Self> {
        Ok(Self {
            cx: RestoreCx::new(snapshot, options),
            made: AllMade::default(),
            fillers: fillers(snapshot),
            _limit: DescriptorLimit::raise()?,
        })
    }

    /// Takes the steps of a phase that are taken once for the whole tree.
    pub fn run(&mut self, phase: Phase, blanks: &mut Blanks) -> Result<()> {
        match phase {
            Phase::Inodes => self.cx.remapped = ghost::make_all(self.cx.snapshot)?,
            Phase::Owners => owners::put_back(&self.cx)?,
            _ => {}
        }
        let held = if phase == Phase::Open { self.held() } else { BTreeMap::new() };
        for kind in KINDS {
            (kind.step)(phase, &mut self.made, &mut self.cx, blanks)?;
            if phase == Phase::Open {
                for file in held.get(&(kind.file_type as i32)).into_iter().flatten() {
                    if let Some(opened) = (kind.open)(file, &mut self.made, &self.cx)? {
                        self.cx.put(file.id, opened);
                    }
                }
                (kind.opened)(&mut self.made);
            }
        }
        for attribute in ATTRIBUTES {
            (attribute.step)(phase, &mut self.cx, blanks)?;
        }
        Ok(())
    }

    /// Takes the steps of all kinds in one process. Those of [`Phase::EmptyTable`] are taken only for
    /// a process whose table is to be filled.
    pub(super) fn run_in(&self, phase: Phase, turn: &mut Turn<'_>) -> Result<()> {
        for kind in KINDS {
            (kind.step_in)(phase, &self.made, &self.cx, turn)?;
        }
        for attribute in ATTRIBUTES {
            (attribute.step_in)(phase, &self.cx, turn)?;
        }
        Ok(())
    }

    /// The files that are in any descriptor table, by the kinds they are of.
    fn held(&self) -> BTreeMap<i32, Vec<&'s FileEntry>> {
        let tables = self.cx.snapshot.descriptor_tables.values();
        let ids: BTreeSet<FileId> = tables.flatten().map(|entry| entry.id).collect();
        let mut held: BTreeMap<i32, Vec<&FileEntry>> = BTreeMap::new();
        for file in ids.iter().filter_map(|id| self.cx.snapshot.files.get(id)) {
            held.entry(file.r#type).or_default().push(file);
        }
        held
    }

    #[cfg(test)]
    pub(super) fn made(snapshot: &'s Snapshot, options: RestoreOptions) -> Result<Self> {
        let mut files = Self::new(snapshot, options)?;
        files.run(Phase::Inodes, &mut Blanks::new())?;
        files.run(Phase::Open, &mut Blanks::new()).map(|()| files)
    }

    /// The engine's descriptor of an open file.
    pub(super) fn fd(&self, id: FileId) -> Result<BorrowedFd<'_>> {
        self.cx.fd(id)
    }

    /// Opens a file that is mapped, executed, or somebody's directory, with these flags.
    pub fn open_for_map(&self, id: FileId, flags: u32) -> Result<OwnedFd> {
        let opened = self
            .cx
            .snapshot
            .files
            .get(&id)
            .and_then(|file| (kind_of(file)?.open_to_map)(file, &self.made, &self.cx, flags));
        opened.unwrap_or_else(|| {
            Err(Error::image("files.img", format!("file {id} cannot be mapped")))
        })
    }

    /// Files that are to be filled with shared memory of the images; they are there since
    /// [`Phase::SharedMemory`].
    pub fn take_shared(&mut self) -> Vec<SharedFile> {
        std::mem::take(&mut self.cx.shared)
    }

    /// Open files that no process of the tree has and that the caller gets; they are there since
    /// [`Phase::Open`].
    pub fn take_for_caller(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.cx.for_caller)
    }

    /// Keys of descriptors that the caller brought and that no object of the images asked for.
    pub fn unasked(&self) -> Vec<&OsStr> {
        self.cx.unasked()
    }

    /// Removes links that the dump made for the restore, when nothing can fail any more.
    pub fn finish(self) -> Result<()> {
        link::remove_all(self.cx.snapshot, &self.cx.remapped)
    }
}

/// The first process of each descriptor table.
fn fillers(snapshot: &Snapshot) -> BTreeSet<TreePid> {
    let mut seen = BTreeSet::new();
    let pids = snapshot.tree.iter().map(PstreeEntry::tree_pid);
    let is_first = |pid: &TreePid| {
        let ids = snapshot.tasks.get(pid).and_then(|task| task.ids);
        ids.is_some_and(|ids| seen.insert(ids.files_id))
    };
    pids.filter(is_first).collect()
}

/// The soft limit of descriptors, raised to the hard one while the engine has all those of a tree.
#[derive(Debug)]
pub struct DescriptorLimit(u64, u64);

impl DescriptorLimit {
    pub(super) fn raise() -> Result<Self> {
        let what = || "raise the limit of descriptors";
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(what)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(what)?;
        Ok(Self(soft, hard))
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.0, self.1);
    }
}
