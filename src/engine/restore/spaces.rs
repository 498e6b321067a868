//! Address spaces of the tree, in an order that keeps copy-on-write sharing.
//!
//! Pages are shared between a parent and its child only by cloning the child when the parent has
//! them already. So a process that may share is filled just before it clones, while nothing else
//! of it is there; all others are filled when the whole tree exists. Who was born of a filled
//! process inherits its memory, and is changed where its own differs.

use std::collections::{BTreeSet, HashMap};

use crate::engine::tree::Who;
use crate::error::{Context, Error, Kind, Result};
use crate::images::pages::PageFiles;
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::pid::HostPid;
use crate::objects::files::OpenFiles;
use crate::objects::memory::{self, Copying, Filled, PageReader, Saved, SharedObjects, runs};
use crate::objects::pids;
use crate::progress;
use crate::tracee::blank::Blank;

/// Fills the address spaces of the tree, and knows which are filled.
pub struct AddressSpaces<'a> {
    snapshot: &'a Snapshot,
    files: &'a PageFiles,
    shared: SharedObjects,
    filled: BTreeSet<HostPid>,
    /// The process whose memory a process was born with. One that is not listed was born with none.
    born_with: HashMap<Who, HostPid>,
    /// The last parent whose pages were compared with a child's.
    parent: Option<(HostPid, PageReader)>,
    /// The read buffer of the last address space, which the next one reuses.
    buffer: Vec<u8>,
    /// What was filled in all address spaces together.
    figures: Filled,
}

impl<'a> AddressSpaces<'a> {
    /// Makes what address spaces share.
    pub fn new(snapshot: &'a Snapshot, files: &'a PageFiles) -> Result<Self> {
        progress::expect(saved_bytes(snapshot));
        let shared = SharedObjects::create(snapshot, files)?;
        let (filled, born_with) = (BTreeSet::new(), HashMap::new());
        let (parent, buffer, figures) = (None, Vec::new(), Filled::default());
        Ok(Self { snapshot, files, shared, filled, born_with, parent, buffer, figures })
    }

    /// How many pages were put where so far.
    pub fn figures(&self) -> Filled {
        self.figures
    }

    /// Fills `by` if it and `child`, which it is about to clone, may share pages.
    pub fn before_clone(
        &mut self,
        files: &OpenFiles<'_>,
        by: Who,
        blank: &mut Blank,
        child: Who,
    ) -> Result<()> {
        if let (Who::Task(parent), Who::Task(pid)) = (by, child)
            && memory::may_share(self.image(HostPid::new(parent))?, self.image(HostPid::new(pid))?)
        {
            // The child is to get all of it.
            self.fill(files, blank, &mut Copying::finish)?;
        }
        let filled = match by {
            Who::Task(pid) if self.filled.contains(&HostPid::new(pid)) => Some(HostPid::new(pid)),
            _ => self.born_with.get(&by).copied(),
        };
        if let Some(source) = filled {
            self.born_with.insert(child, source);
        }
        Ok(())
    }

    /// Layout and contents of one process, unless it has them; `copier` may do its part later.
    ///
    /// Descriptor tables are still empty, so mapped files can be handed over at any number.
    pub fn fill(
        &mut self,
        files: &OpenFiles<'_>,
        blank: &mut Blank,
        copier: &mut dyn FnMut(Copying) -> Result<()>,
    ) -> Result<()> {
        let pid = blank.pid();
        if !self.filled.insert(pid) {
            return Ok(());
        }
        let source = self.born_with.get(&Who::Task(pid.number())).copied();
        let image = self.image(pid)?;
        let buffer = std::mem::take(&mut self.buffer);
        let Some(mut pages) = self.pages(image, buffer)? else { return Ok(()) };
        let Some(mut own) = saved(image, &mut pages) else { return Ok(()) };
        let mut open = |id, flags| files.open_for_map(id, flags);
        let filled = match source {
            None => {
                memory::map(blank, own.mm, own.pagemap, &mut open, &self.shared)?;
                memory::fill(blank, own.mm, own.pagemap, own.pages.file(), copier)?
            }
            Some(source) => {
                let nothing =
                    || Error::new(Kind::Internal, format!("pid {source} was filled with nothing"));
                let theirs = self.image(source)?;
                let mut pages = self.parents_pages(source, theirs)?.ok_or_else(nothing)?;
                let mut parent = saved(theirs, &mut pages).ok_or_else(nothing)?;
                let filled =
                    memory::inherit(blank, &mut parent, &mut own, &mut open, &self.shared)?;
                self.parent = Some((source, pages));
                filled
            }
        };
        self.figures += filled;
        self.buffer = pages.into_buffer();
        Ok(())
    }

    /// The pages of a parent, which is often the parent of the last call too.
    fn parents_pages(&mut self, pid: HostPid, image: &TaskImage) -> Result<Option<PageReader>> {
        match self.parent.take() {
            Some((last, pages)) if last == pid => Ok(Some(pages)),
            _ => self.pages(image, Vec::new()),
        }
    }

    fn image(&self, pid: HostPid) -> Result<&'a TaskImage> {
        let image = self.snapshot.tasks.get(&pids::tree(pid));
        image.ok_or_else(|| Error::new(Kind::Internal, format!("pid {pid} has no image")))
    }

    fn pages(&self, image: &TaskImage, buffer: Vec<u8>) -> Result<Option<PageReader>> {
        let pages = image.pagemap.as_ref().map(|pagemap| {
            let file = self.files.open(pagemap.pages_id).doing(|| "open the pages")?;
            Ok(PageReader::new(file, pagemap, buffer))
        });
        pages.transpose()
    }
}

fn saved<'i>(image: &'i TaskImage, pages: &'i mut PageReader) -> Option<Saved<'i>> {
    Some(Saved { mm: image.mm.as_ref()?, pagemap: image.pagemap.as_ref()?, pages })
}

/// What is in all pages files together.
fn saved_bytes(snapshot: &Snapshot) -> u64 {
    let private = snapshot.tasks.values().filter_map(|task| task.pagemap.as_ref());
    private.chain(snapshot.shared_memory.values()).map(runs::total).sum()
}
