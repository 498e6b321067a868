//! Rebuild of the pages: from the pages file into the mapped VMAs.
//!
//! Much anonymous memory is filled by `UFFDIO_COPY`, which saves the kernel zeroing each page first;
//! the rest by `process_vm_writev`. Both take the bytes from a buffer that stays in the processor's
//! cache: mapping and unmapping the pages of the image costs more than that copy. Memory that is
//! registered with a userfaultfd must not be touched in any other way: the access would wait until all
//! is copied.

use std::fs::File;
use std::sync::Arc;
use std::vec;

use nix::errno::Errno;

use crate::args;
use crate::error::{Context, Result};
use crate::images::pages::PageFile;
use crate::images::proto::{MmEntry, VmaEntry};
use crate::images::snapshot::Pagemap;
use crate::kernel::memory::{self, RemoteIovec};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::{RemoteAddr, RemoteFd};
use crate::kernel::uffd::Uffd;
use crate::kernel::{PAGE_SIZE, pidfd};
use crate::tracee::batch::Batch;
use crate::tracee::blank::Blank;

use super::bits::{flags, status};
use super::map::{bytes_to_fill, huge_first};
use super::queue::{self, Queue};
use super::runs::{self, Run};

/// With so many anonymous bytes to fill, a userfaultfd pays for its set-up.
const WORTH_A_UFFD: u64 = 512 << 10;

/// How many pages were restored, and in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Written.
    pub restored: u64,
    /// Compared with those of the parent, which the process may share.
    pub compared: u64,
    /// Found equal to those of the parent, and so left shared.
    pub shared: u64,
}

impl std::ops::AddAssign for Filled {
    fn add_assign(&mut self, more: Self) {
        self.restored += more.restored;
        self.compared += more.compared;
        self.shared += more.shared;
    }
}

/// Fills the wanted VMAs of `mm`, which are mapped and empty, from `pages`, the file that the
/// validated `pagemap` speaks of. What is better copied by a userfaultfd is given to `copier`.
pub fn fill(
    blank: &mut Blank,
    mm: &MmEntry,
    pagemap: &Pagemap,
    pages: &Arc<PageFile>,
    wanted: impl Fn(usize) -> bool,
    copier: &mut dyn FnMut(Copying) -> Result<()>,
) -> Result<Filled> {
    let plan = FillPlan::new(mm, pagemap, wanted);
    let uffd = if plan.copied >= WORTH_A_UFFD { uffd_of(blank)? } else { None };
    let copied = uffd.is_some();
    if let Some(uffd) = uffd {
        copier(Copying::begin(blank.pid(), uffd, &plan, pages)?)?;
    }
    write(blank, &plan, pages, copied)?;
    let bytes: u64 = plan.runs(|_| true).map(|run| run.len).sum();
    Ok(Filled { restored: bytes / PAGE_SIZE, ..Filled::default() })
}

struct FillPlan<'a> {
    vmas: &'a [VmaEntry],
    pagemap: &'a Pagemap,
    /// Bytes to fill in each VMA; none in one that is not wanted.
    bytes: Vec<u64>,
    /// Bytes that are better copied by userfaultfd.
    copied: u64,
    /// Bytes of all wanted VMAs.
    total: u64,
}

impl<'a> FillPlan<'a> {
    fn new(mm: &'a MmEntry, pagemap: &'a Pagemap, wanted: impl Fn(usize) -> bool) -> Self {
        let mut bytes = bytes_to_fill(&mm.vmas, pagemap);
        let unwanted = bytes.iter_mut().enumerate().filter(|(index, _)| !wanted(*index));
        unwanted.for_each(|(_, bytes)| *bytes = 0);
        let total = bytes.iter().sum();
        let mut plan = Self { vmas: &mm.vmas, pagemap, bytes, copied: 0, total };
        let copied = (0..plan.vmas.len()).filter(|index| plan.by_copy(*index));
        plan.copied = copied.map(|index| plan.bytes[index]).sum();
        plan
    }

    /// Whether a VMA is better copied by userfaultfd.
    fn by_copy(&self, index: usize) -> bool {
        let (vma, bytes) = (&self.vmas[index], self.bytes[index]);
        bytes > 0
            && vma.status & status::ANON_PRIVATE != 0
            && vma.status & status::VDSO == 0
            && vma.flags & flags::HUGETLB == 0
            && !huge_first(vma, bytes)
    }

    /// The runs of those wanted VMAs that are filled from the image. The vDSO comes from the kernel.
    fn runs(&self, wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = Run> {
        let filled = move |(index, _): &(usize, Run)| {
            let there = self.bytes[*index] > 0;
            there && self.vmas[*index].status & status::VDSO == 0 && wanted(*index)
        };
        runs::by_vma(self.pagemap, self.vmas).filter(filled).map(|(_, run)| run)
    }
}

/// Makes a userfaultfd for the memory of the blank, which only the engine keeps open; none if the
/// kernel does not allow it.
fn uffd_of(blank: &mut Blank) -> Result<Option<Uffd>> {
    let mut batch = Batch::new();
    let made = batch.call(libc::SYS_userfaultfd, args![libc::O_CLOEXEC]);
    let number = match blank.run(batch)?.ret(made) {
        Err(Errno::ENOSYS | Errno::EPERM) => return Ok(None),
        result => result.doing(|| "userfaultfd")?,
    };
    let number = RemoteFd(i32::try_from(number).expect("a descriptor"));
    let pid = blank.pid();
    let pidfd = pidfd::open(pid).doing(|| format!("pidfd_open {pid}"))?;
    let ours = pidfd::getfd(&pidfd, number).doing(|| format!("pidfd_getfd from {pid}"))?;
    let mut batch = Batch::new();
    batch.must("close of the userfaultfd", libc::SYS_close, args![number]);
    blank.run(batch)?;
    Uffd::adopt(ours).map(Some)
}

/// Copying of pages into memory that is registered with a userfaultfd; several threads may take part.
/// When it is dropped, the registrations end. Whoever touches a page that is not in the image before
/// that waits for it.
#[derive(Debug)]
pub struct Copying {
    pid: HostPid,
    uffd: Uffd,
    pages: Arc<PageFile>,
    queue: Queue<vec::IntoIter<Run>>,
    bytes: u64,
}

impl Copying {
    fn begin(pid: HostPid, uffd: Uffd, plan: &FillPlan<'_>, pages: &Arc<PageFile>) -> Result<Self> {
        for (index, vma) in plan.vmas.iter().enumerate() {
            if plan.by_copy(index) {
                uffd.register(vma.start, vma.end - vma.start)?;
            }
        }
        let pages = Arc::clone(pages);
        let runs: Vec<Run> = plan.runs(|index| plan.by_copy(index)).collect();
        Ok(Self { pid, uffd, pages, queue: Queue::new(runs), bytes: plan.copied })
    }

    /// The process.
    pub fn pid(&self) -> HostPid {
        self.pid
    }

    /// Whether it is worth a second thread.
    pub fn is_much(&self) -> bool {
        self.bytes >= queue::WORTH_A_THREAD
    }

    /// Copies everything, in several threads if it is much.
    pub fn finish(self) -> Result<()> {
        queue::share(self.bytes, || self.help())
    }

    /// Copies what no other thread has taken.
    pub fn help(&self) -> Result<()> {
        self.queue.drain(&mut vec![0; queue::bounce(self.bytes)], |offset, batch, bytes| {
            self.pages.read_exact_at(bytes, offset)?;
            queue::places(batch)
                .try_for_each(|(run, place)| self.uffd.copy(run.start, &bytes[place]))
        })
    }
}

/// Writes all VMAs but, if that is done, those that are better `copied`.
fn write(blank: &Blank, plan: &FillPlan<'_>, pages: &PageFile, copied: bool) -> Result<()> {
    let wanted = |index: usize| !(copied && plan.by_copy(index));
    let bytes = plan.total - if copied { plan.copied } else { 0 };
    if bytes == 0 {
        return Ok(());
    }
    let queue = Queue::new(plan.runs(wanted));
    let (pid, memory) = (blank.pid(), blank.memory()?);
    queue.share(bytes, |offset, batch, bytes| {
        pages.read_exact_at(bytes, offset)?;
        write_batch(pid, memory, batch, bytes)
    })
}

/// Writes the runs of a batch: all at once where their protection allows it, else one by one through
/// `/proc/PID/mem`, which disregards protection.
pub fn write_batch(pid: HostPid, mem: &File, batch: &[Run], bytes: &[u8]) -> Result<()> {
    let stretches: Vec<RemoteIovec> =
        batch.iter().map(|run| memory::remote_iovec(RemoteAddr(run.start), run.size())).collect();
    if memory::writev(pid, bytes, &stretches) == Ok(bytes.len()) {
        return Ok(());
    }
    for (run, place) in queue::places(batch) {
        memory::write_forced(mem, RemoteAddr(run.start), &bytes[place])
            .doing(|| format!("write {:x}-{:x} of pid {pid}", run.start, run.end()))?;
    }
    Ok(())
}
