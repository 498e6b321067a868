//! Address spaces: their layout, the pages that hold something, and how both come back.
//!
//! Dump: [`capture`] describes a frozen process's layout, [`PrivatePages`] streams its pages into
//! the image, [`SharedMemory`] those of memfds and shared anonymous memory.
//! Both: [`validate()`] and [`validate_shared`].
//! Restore: [`check_stored`]; then for each address space [`map()`] (the layout, empty) and [`fill()`]
//! (the pages), which is [`Phase::Memory`]; [`take`] takes the other phases. A child that shared pages
//! with its parent ([`may_share`]) is cloned when the parent's memory is filled, and [`inherit()`]
//! changes what differs.
//!
//! Labels given by `PR_SET_VMA_ANON_NAME` are lost: the image format has no field for them.

pub mod bits;
mod calls;
mod capture;
mod classify;
mod early;
mod fill;
mod finish;
mod hole;
mod inherit;
mod map;
pub mod mm;
mod pages;
mod queue;
pub mod runs;
mod shared;
mod smaps;
mod stored;
#[cfg(test)]
mod tests;
mod validate;
mod vdso;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use crate::error::{Context, Refusals, Result};
use crate::images::dir::Creation;
use crate::images::pages::PageFile;
use crate::images::proto::{MmEntry, VmaEntry};
use crate::images::snapshot::{Pagemap, TaskImage};
use crate::kernel::pid::HostPid;
use crate::objects::phases::{Phase, Turn};
use crate::objects::pids;
use crate::tracee::blank::{Blank, Delivery};
use crate::tracee::dumpee::FrozenTask;

pub use self::capture::{AddFile, MappedFiles};
pub use self::early::Early;
pub use self::fill::{Copying, Filled};
pub use self::hole::find as find_helper_hole;
pub use self::inherit::{PageReader, Saved, inherit, may_share};
pub use self::map::{OpenFile, map};
pub use self::pages::Writing;
pub use self::shared::{SharedMemory, SharedObjects, fill_from as fill_shared};
pub use self::stored::check as check_stored;
pub use self::validate::{validate, validate_shared};

/// What can be known of an address space without asking the dumpee itself.
#[derive(Clone, Debug)]
pub struct Layout {
    vmas: Vec<VmaEntry>,
    exe_file_id: u32,
    /// Bytes that are probably the process's own.
    own: u64,
}

/// What the kernel shows of an address space.
#[derive(Debug)]
pub struct Shown(Vec<smaps::Mapping>);

/// Looks at the address space of a stopped process; any thread may do so.
pub fn look(pid: HostPid) -> Result<Shown> {
    capture::look(pid).map(Shown)
}

/// Reads what will be needed of the engine's own memory, so that nobody has to wait for it later.
pub fn prepare() -> Result<()> {
    vdso::Vdso::own().map(drop)
}

/// Describes the layout of a frozen process; `add_file` gives ids to the files it maps.
pub fn capture(
    task: &FrozenTask,
    shown: &Shown,
    known: &mut MappedFiles,
    add_file: &mut AddFile<'_>,
    refusals: &mut Refusals,
) -> Result<Layout> {
    let pid = task.pid;
    let path = format!("/proc/{pid}/exe");
    let exe = File::options().read(true).custom_flags(libc::O_PATH).open(&path);
    let exe = exe.doing(|| format!("open {path}"))?;
    let head = std::fs::read_link(&path).ok().and_then(|name| capture::head(pid, &shown.0, &name));
    let exe_file_id = add_file(exe.into(), head, &format!("pid {pid} exe"), refusals)?;
    let (vmas, own) = capture::vmas(pid, &shown.0, known, add_file, refusals)?;
    Ok(Layout { vmas, exe_file_id, own })
}

impl Layout {
    /// The message, of which the dumpee itself has told some.
    pub fn mm(&self, task: &FrozenTask, told: MmEntry) -> Result<MmEntry> {
        mm::capture(task.pid, task.stat()?, told, self.exe_file_id, self.vmas.clone())
    }
}

/// The private pages of a frozen process, seen from any thread of the engine.
#[derive(Debug)]
pub struct PrivatePages<'a> {
    pid: HostPid,
    memory: &'a File,
    stack_pointers: Vec<u64>,
    layout: Arc<Layout>,
    early: Option<Early<'a>>,
}

impl<'a> PrivatePages<'a> {
    /// The pages of `task`, which has this layout; some may have been copied `early`.
    pub fn new(task: &'a FrozenTask, layout: Arc<Layout>, early: Option<Early<'a>>) -> Self {
        let stack_pointers = stack_pointers(task);
        Self { pid: task.pid, memory: task.memory(), stack_pointers, layout, early }
    }

    /// The process.
    pub fn pid(&self) -> HostPid {
        self.pid
    }

    /// How many bytes they probably are.
    pub fn guess(&self) -> u64 {
        self.layout.own
    }

    /// The number of the pages file, if an early copy has begun it.
    pub fn pages_id(&self) -> Option<u32> {
        self.early.as_ref().map(Early::pages_id)
    }

    /// Begins to write them to `pages-{pages_id}.img`, or goes on with an early copy.
    pub fn begin(self, creation: &'a Creation, pages_id: u32) -> Result<(Pagemap, Writing<'a>)> {
        let Self { pid, memory, stack_pointers, layout, early } = self;
        let begun = match early.and_then(|early| early.confirmed(&layout.vmas)) {
            Some(begun) => begun,
            None => {
                let source = pages::Source { pid, memory, stack_pointers: &stack_pointers };
                Writing::begin(source, &layout.vmas, creation, pages_id)?
            }
        };
        validate::validate_pages(pids::tree(pid), &begun.0, &layout.vmas)?;
        Ok(begun)
    }
}

/// The stack pointers of all threads.
fn stack_pointers(task: &FrozenTask) -> Vec<u64> {
    task.threads.iter().map(|thread| thread.regs.rsp).collect()
}

/// Fills the mapped VMAs, except for what it leaves to `copier`, and gives them their final protection.
pub fn fill(
    blank: &mut Blank,
    mm: &MmEntry,
    pagemap: &Pagemap,
    pages: &Arc<PageFile>,
    copier: &mut dyn FnMut(Copying) -> Result<()>,
) -> Result<Filled> {
    let filled = fill::fill(blank, mm, pagemap, pages, |_| true, copier)?;
    finish::protect(blank, mm, pagemap, |_| true).map(|()| filled)
}

/// Takes a phase that comes when the pages are there, in one process; `open` opens mapped files.
pub fn take(
    phase: Phase,
    image: &TaskImage,
    open: &mut OpenFile<'_>,
    turn: &mut Turn<'_>,
) -> Result<()> {
    match (phase, &image.mm, &image.pagemap) {
        (Phase::Places, Some(mm), _) => {
            let exe = open(mm.exe_file_id, libc::O_RDONLY.cast_unsigned())?;
            set_mm(turn.delivery(), mm, &exe)
        }
        (Phase::Advice, Some(mm), Some(pagemap)) => finish::finish(turn.blank()?, mm, pagemap),
        _ => Ok(()),
    }
}

/// Gives the address space its recorded places, auxiliary vector and executable. `exe` must be opened for
/// reading, not with `O_PATH`.
fn set_mm(delivery: &mut Delivery<'_>, mm: &MmEntry, exe: &OwnedFd) -> Result<()> {
    let numbers = delivery.receive(&[exe.as_fd()])?;
    mm::set(delivery.batch(), mm, numbers[0]);
    Ok(())
}
