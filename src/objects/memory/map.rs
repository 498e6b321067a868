//! Rebuild of the layout: every VMA is mapped at its place, empty.
//!
//! VMAs get their final protection at once, except that private ones with pages to fill are made
//! writable first. So the kernel accounts for their memory as it did before the dump, when the program
//! wrote to them and then protected them. Others are not made writable: since the kernel merges only
//! VMAs that are accounted for alike, they would not be merged as they were.
//! Advice on huge pages comes before the pages, which it shapes; all other advice, locks and guards
//! come after them ([`finish`](super::finish)).

use std::os::fd::{AsFd, OwnedFd};

use super::bits::{flags, status};
use super::calls::Calls;
use super::shared::SharedObjects;
use super::{runs, vdso};
use crate::args;
use crate::error::Result;
use crate::images::proto::{MmEntry, VmaEntry};
use crate::images::snapshot::Pagemap;
use crate::kernel::remote::{RemoteAddr, RemoteFd};
use crate::tracee::blank::Blank;

/// Opens a file of the image for mapping: its id and `O_RDONLY`, `O_WRONLY` or `O_RDWR`.
pub type OpenFile<'a> = dyn FnMut(u32, u32) -> Result<OwnedFd> + 'a;

/// Files a blank holds at a time while it maps them.
const FILES_AT_A_TIME: usize = 64;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
/// `MAP_LOCKED` would fill the memory with zero pages now; locks are put on later.
const NOT_YET: u32 = flags::LOCKED | flags::LOCKED_ON_FAULT;

/// How many bytes of each VMA will be filled with pages of the image.
pub fn bytes_to_fill(vmas: &[VmaEntry], pagemap: &Pagemap) -> Vec<u64> {
    let mut all = vec![0; vmas.len()];
    for (index, run) in runs::by_vma(pagemap, vmas) {
        all[index] += run.len;
    }
    all
}

/// Whether a VMA in which so many bytes are filled is mapped writable, although its final protection
/// forbids writing.
pub fn writable_first(vma: &VmaEntry, bytes: u64) -> bool {
    runs::is_private(vma)
        && vma.status & status::VDSO == 0
        && bytes > 0
        && vma.prot & libc::PROT_WRITE.cast_unsigned() == 0
}

/// Whether a VMA in which so many bytes are filled gets huge pages: that is worth it if most of its
/// pages exist.
pub fn huge_first(vma: &VmaEntry, bytes: u64) -> bool {
    vma.madv.unwrap_or(0) & (1 << libc::MADV_HUGEPAGE) != 0 && bytes > (vma.end - vma.start) / 2
}

/// Maps all VMAs of `mm`, and the vDSO.
pub fn map(
    blank: &mut Blank,
    mm: &MmEntry,
    pagemap: &Pagemap,
    open: &mut OpenFile<'_>,
    shared: &SharedObjects,
) -> Result<()> {
    if let Some(block) = vdso::block_of(&mm.vmas)? {
        blank.map_vdso(RemoteAddr(block.start))?;
    }
    map_some(blank, mm, pagemap, open, shared, |_| true)
}

/// Maps those VMAs whose index is wanted.
pub fn map_some(
    blank: &mut Blank,
    mm: &MmEntry,
    pagemap: &Pagemap,
    open: &mut OpenFile<'_>,
    shared: &SharedObjects,
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    let all = mm.vmas.iter().zip(bytes_to_fill(&mm.vmas, pagemap)).enumerate();
    let (backed, plain): (Vec<Wanted>, Vec<Wanted>) = all
        .filter(|(index, (vma, _))| by_mmap(vma) && wanted(*index))
        .map(|(_, one)| one)
        .partition(|(vma, _)| backing(vma).is_some());
    let mut calls = Calls::new(blank);
    for one in plain {
        add(&mut calls, one, None)?;
    }
    map_files(&mut calls, &backed, open, shared)
}

/// A VMA to map, and how many bytes of it will be filled.
type Wanted<'a> = (&'a VmaEntry, u64);

/// Maps the VMAs that have files behind them. The blank gets the files in groups, maps them and closes
/// them.
fn map_files(
    calls: &mut Calls<'_>,
    wanted: &[Wanted<'_>],
    open: &mut OpenFile<'_>,
    shared: &SharedObjects,
) -> Result<()> {
    let mut rest = wanted;
    while !rest.is_empty() {
        let (group, files) = split_group(rest);
        rest = &rest[group.len()..];
        let opened: Vec<OwnedFd> = files
            .iter()
            .map(|file| match file {
                Backing::File { id, access } => open(*id, *access),
                Backing::Shared(shmid) => shared.open(*shmid),
            })
            .collect::<Result<_>>()?;
        let borrowed: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
        let numbers = calls.receive(&borrowed)?;
        for (vma, bytes) in group {
            let index = files.iter().position(|file| Some(*file) == backing(vma));
            add(calls, (vma, *bytes), index.map(|index| numbers[index]))?;
        }
        for number in numbers {
            calls.must("close of a mapped file", libc::SYS_close, args![number])?;
        }
    }
    calls.flush()
}

/// The first VMAs that together need no more files than a blank holds at a time, and these files.
fn split_group<'w, 'v>(wanted: &'w [Wanted<'v>]) -> (&'w [Wanted<'v>], Vec<Backing>) {
    let mut files = Vec::new();
    for (count, (vma, _)) in wanted.iter().enumerate() {
        let Some(file) = backing(vma).filter(|file| !files.contains(file)) else { continue };
        if files.len() == FILES_AT_A_TIME {
            return (&wanted[..count], files);
        }
        files.push(file);
    }
    (wanted, files)
}

/// Adds the calls for one VMA.
fn add(calls: &mut Calls<'_>, (vma, bytes): Wanted<'_>, fd: Option<RemoteFd>) -> Result<()> {
    let (start, len) = (vma.start, vma.end - vma.start);
    let write = if writable_first(vma, bytes) { libc::PROT_WRITE } else { 0 };
    let mut how = vma.flags & !NOT_YET | MAP_FIXED_NOREPLACE;
    if fd.is_some() {
        how &= !flags::ANONYMOUS;
    }
    calls.must(
        format!("mmap {start:x}-{:x}", vma.end),
        libc::SYS_mmap,
        args![
            start,
            len,
            vma.prot | write.cast_unsigned(),
            how,
            fd.unwrap_or(RemoteFd(-1)),
            vma.pgoff
        ],
    )?;
    let advice = vma.madv.unwrap_or(0);
    let huge = if huge_first(vma, bytes) { 1 << libc::MADV_HUGEPAGE } else { 0 };
    for bit in [libc::MADV_HUGEPAGE, libc::MADV_NOHUGEPAGE] {
        if advice & (huge | 1 << libc::MADV_NOHUGEPAGE) & (1 << bit) != 0 {
            calls.must_on(vma, &format!("madvise {bit}"), libc::SYS_madvise, bit)?;
        }
    }
    Ok(())
}

/// Whether `mmap` makes this VMA: it does not make the kernel's own, and guards are no VMAs.
fn by_mmap(vma: &VmaEntry) -> bool {
    vma.status & status::REGULAR != 0 && vma.status & (status::VDSO | status::VVAR) == 0
}

/// What a VMA maps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backing {
    /// A file of the image, opened with this access mode.
    File { id: u32, access: u32 },
    /// Shared anonymous memory that the image names by number alone.
    Shared(u64),
}

fn backing(vma: &VmaEntry) -> Option<Backing> {
    if vma.status & (status::FILE_PRIVATE | status::FILE_SHARED) != 0 {
        let id = u32::try_from(vma.shmid).expect("validated: the id of a file");
        return Some(Backing::File { id, access: access(vma) });
    }
    (vma.status & status::ANON_SHARED != 0).then_some(Backing::Shared(vma.shmid))
}

/// How the file has to be opened. Old images do not say how it was opened, but the VMA tells what it
/// needs.
fn access(vma: &VmaEntry) -> u32 {
    let writes =
        vma.status & status::FILE_SHARED != 0 && vma.prot & libc::PROT_WRITE.cast_unsigned() != 0;
    let guess = if writes { libc::O_RDWR } else { libc::O_RDONLY };
    vma.fdflags.unwrap_or(guess.cast_unsigned())
}
