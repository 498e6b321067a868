//! Pages shared copy-on-write between a parent and its child: only a clone can share them, so the
//! child is cloned from the filled parent and then made different where it was.
//!
//! The format stores the pages of each process in full. Pages with equal contents at the same place of
//! VMAs that coincide are left shared, whether they were shared before the dump or not: all that a
//! program could notice is how much memory is used.

use std::ops::Range;
use std::sync::Arc;

use crate::args;
use crate::error::Result;
use crate::images::pages::PageFile;
use crate::images::proto::{MmEntry, VmaEntry};
use crate::images::snapshot::{Pagemap, TaskImage};
use crate::kernel::PAGE_SIZE;
use crate::kernel::remote::RemoteAddr;
use crate::progress;
use crate::tracee::blank::Blank;

use super::bits::{flags, status};
use super::calls::Calls;
use super::fill::{Copying, Filled};
use super::map::{OpenFile, map_some};
use super::queue::{BOUNCE, MAX_STRETCHES};
use super::runs::{self, Run};
use super::shared::SharedObjects;
use super::{fill, finish, vdso};

const PAGE: usize = PAGE_SIZE as usize;

/// The memory of one process in the image.
#[derive(Debug)]
pub struct Saved<'a> {
    pub mm: &'a MmEntry,
    pub pagemap: &'a Pagemap,
    /// The pages file that the pagemap speaks of.
    pub pages: &'a mut PageReader,
}

/// Whether a child should be cloned from its filled parent.
pub fn may_share(parent: &TaskImage, child: &TaskImage) -> bool {
    let (Some(theirs), Some(ours)) = (&parent.mm, &child.mm) else { return false };
    let (Some(filled), Some(filling)) = (&parent.pagemap, &child.pagemap) else { return false };
    if theirs.exe_file_id != ours.exe_file_id {
        return false;
    }
    let with_pages = |mm: &MmEntry, pagemap: &Pagemap| {
        let mut indices: Vec<usize> =
            runs::by_vma(pagemap, &mm.vmas).map(|(index, _)| index).collect();
        indices.dedup();
        indices
    };
    let theirs_with_pages = with_pages(theirs, filled);
    let kept = kept(theirs, ours);
    let mut shared = with_pages(ours, filling).into_iter().filter_map(|index| kept[index]);
    shared.any(|index| theirs_with_pages.binary_search(&index).is_ok())
}

/// For each VMA of the child: the index of the parent's VMA that the clone keeps in its place.
fn kept(parent: &MmEntry, child: &MmEntry) -> Vec<Option<usize>> {
    let find = |vma: &VmaEntry| {
        let index =
            parent.vmas.partition_point(|other| !runs::is_guard(other) && other.start < vma.start);
        parent.vmas.get(index).filter(|other| coincide(other, vma)).map(|_| index)
    };
    child.vmas.iter().map(find).collect()
}

/// Whether a child can have the one VMA by inheriting the other.
fn coincide(one: &VmaEntry, other: &VmaEntry) -> bool {
    let what = status::CONTENTS | status::MEMFD;
    let inherited = |vma: &VmaEntry| {
        runs::is_private(vma) && vma.status & status::VDSO == 0 && vma.flags & flags::HUGETLB == 0
    };
    inherited(one)
        && inherited(other)
        && (one.start, one.end, one.pgoff) == (other.start, other.end, other.pgoff)
        && one.status & what == other.status & what
        && one.flags == other.flags
        && one.shmid == other.shmid
        && one.fdflags == other.fdflags
        && huge(one) == huge(other)
}

/// Advice on huge pages. It is given before the pages are filled, which it shapes, so a child cannot
/// change it.
fn huge(vma: &VmaEntry) -> u64 {
    vma.madv.unwrap_or(0) & (1 << libc::MADV_HUGEPAGE | 1 << libc::MADV_NOHUGEPAGE)
}

/// Makes the memory of a clone that of the child. The clone was made of the parent when that was
/// filled, but not yet finished.
pub fn inherit(
    blank: &mut Blank,
    parent: &mut Saved<'_>,
    child: &mut Saved<'_>,
    open: &mut OpenFile<'_>,
    shared: &SharedObjects,
) -> Result<Filled> {
    let kept = kept(parent.mm, child.mm);
    let fresh = |index: usize| kept[index].is_none();
    unmap(blank, parent.mm, &kept)?;
    replace_vdso(blank, parent.mm, child.mm)?;
    map_some(blank, child.mm, child.pagemap, open, shared, fresh)?;
    let (pages, at_once) = (child.pages.file(), &mut Copying::finish);
    let mut filled = fill::fill(blank, child.mm, child.pagemap, pages, fresh, at_once)?;
    finish::protect(blank, child.mm, child.pagemap, fresh)?;
    let (theirs, ours) = (by_vma(parent), by_vma(child));
    let mut all = Vec::new();
    for (index, source) in kept.iter().enumerate() {
        if let Some(source) = *source {
            let pieces = compare(&theirs[source], &ours[index]);
            let prot = (parent.mm.vmas[source].prot, child.mm.vmas[index].prot);
            adapt(blank, &child.mm.vmas[index], prot, &pieces)?;
            all.extend(pieces);
        }
    }
    let (theirs, ours) = (&mut *parent.pages, &mut *child.pages);
    let (bytes, runs) = (Vec::new(), Vec::new());
    let mut writer = Writer { blank, theirs, ours, filled: &mut filled, bytes, runs };
    all.into_iter().try_for_each(|piece| writer.write(piece))?;
    writer.flush()?;
    Ok(filled)
}

/// The runs of each VMA.
fn by_vma(saved: &Saved<'_>) -> Vec<Vec<Run>> {
    let mut all = vec![Vec::new(); saved.mm.vmas.len()];
    for (index, run) in runs::by_vma(saved.pagemap, &saved.mm.vmas) {
        all[index].push(run);
    }
    all
}

/// Unmaps those VMAs of the parent that the child does not keep.
fn unmap(blank: &mut Blank, parent: &MmEntry, kept: &[Option<usize>]) -> Result<()> {
    let mut stays = vec![false; parent.vmas.len()];
    kept.iter().flatten().for_each(|index| stays[*index] = true);
    let mut calls = Calls::new(blank);
    for (vma, stays) in parent.vmas.iter().zip(stays) {
        let ours = vma.status & status::REGULAR != 0;
        let kernels = vma.status & (status::VDSO | status::VVAR) != 0;
        if ours && !kernels && !stays {
            calls.must_on(vma, "munmap", libc::SYS_munmap, 0)?;
        }
    }
    calls.flush()
}

fn replace_vdso(blank: &mut Blank, parent: &MmEntry, child: &MmEntry) -> Result<()> {
    let (there, wanted) = (vdso::block_of(&parent.vmas)?, vdso::block_of(&child.vmas)?);
    if there == wanted {
        return Ok(());
    }
    if let Some(block) = there {
        let mut calls = Calls::new(blank);
        let len = block.data_len + block.code_len;
        calls.must("munmap of the vdso", libc::SYS_munmap, args![block.start, len])?;
        calls.flush()?;
    }
    match wanted {
        Some(block) => blank.map_vdso(RemoteAddr(block.start)),
        None => Ok(()),
    }
}

/// Drops the pages that the child does not have, and changes the protection from the parent's to the
/// child's.
fn adapt(blank: &mut Blank, vma: &VmaEntry, prot: (u32, u32), pieces: &[Piece]) -> Result<()> {
    let mut calls = Calls::new(blank);
    for gone in pieces.iter().filter(|piece| piece.ours.is_none()) {
        let what = format!("madvise MADV_DONTNEED {:x}", gone.start);
        let args = args![gone.start, gone.len, libc::MADV_DONTNEED];
        calls.must(what, libc::SYS_madvise, args)?;
    }
    if prot.0 != prot.1 {
        calls.must_on(vma, "mprotect", libc::SYS_mprotect, prot.1)?;
    }
    calls.flush()
}

/// A range of pages that the parent, the child, or both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    len: u64,
    /// Where the pages stand in the parent's file.
    theirs: Option<u64>,
    /// Where the pages stand in the child's file.
    ours: Option<u64>,
}

/// Cuts the runs of both at each other's borders.
fn compare(theirs: &[Run], ours: &[Run]) -> Vec<Piece> {
    let mut borders: Vec<u64> =
        theirs.iter().chain(ours).flat_map(|run| [run.start, run.end()]).collect();
    borders.sort_unstable();
    borders.dedup();
    let (mut left, mut right) = (theirs.iter().peekable(), ours.iter().peekable());
    let mut pieces = Vec::new();
    for pair in borders.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        while left.next_if(|run| run.end() <= start).is_some() {}
        while right.next_if(|run| run.end() <= start).is_some() {}
        let offset = |run: Option<&&Run>| run.and_then(|run| run.within(start, end));
        let (theirs, ours) = (offset(left.peek()), offset(right.peek()));
        if theirs.is_some() || ours.is_some() {
            let place = |run: Option<Run>| run.map(|run| run.offset);
            let (theirs, ours) = (place(theirs), place(ours));
            pieces.push(Piece { start, len: end - start, theirs, ours });
        }
    }
    pieces
}

/// A pages file that is read from its beginning to its end, in large pieces.
#[derive(Debug)]
pub struct PageReader {
    file: Arc<PageFile>,
    /// Where the part of the file begins that is in `bytes`.
    start: u64,
    bytes: Vec<u8>,
    /// Size of the file.
    size: u64,
}

impl PageReader {
    /// Reads the file of `pagemap`. `buffer` may come from another reader, which saves zeroing a new
    /// one.
    pub fn new(file: PageFile, pagemap: &Pagemap, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { file: Arc::new(file), start: 0, bytes: buffer, size: runs::total(pagemap) }
    }

    /// The file.
    pub fn file(&self) -> &Arc<PageFile> {
        &self.file
    }

    /// Its buffer, for the next reader.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Reads `len` bytes at `offset`; no more than [`BOUNCE`].
    fn at(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let have = self.start..self.start + self.bytes.len() as u64;
        if offset < have.start || have.end < offset + len as u64 {
            let more = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(BOUNCE);
            self.bytes.resize(more.clamp(len, BOUNCE), 0);
            self.start = offset;
            let read = self.file.read_exact_at(&mut self.bytes, offset);
            read.inspect_err(|_| self.bytes.clear())?;
        }
        let from = usize::try_from(offset - self.start).expect("within the buffer");
        Ok(&self.bytes[from..from + len])
    }
}

/// Compares the pages of a child with those of its parent and writes those that differ. Writes are
/// collected, since a call costs more than copying a page.
struct Writer<'a> {
    blank: &'a Blank,
    theirs: &'a mut PageReader,
    ours: &'a mut PageReader,
    filled: &'a mut Filled,
    /// What is to be written, and where.
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

impl Writer<'_> {
    /// Writes the pages of a piece that are not the parent's.
    fn write(&mut self, piece: Piece) -> Result<()> {
        let Some(ours) = piece.ours else { return Ok(()) };
        let mut done = 0;
        while done < piece.len {
            let len = (piece.len - done).min(BOUNCE as u64);
            let size = usize::try_from(len).expect("fits the buffer");
            if self.bytes.len() + size > BOUNCE || self.runs.len() + size / PAGE > MAX_STRETCHES {
                self.flush()?;
            }
            let pages = self.ours.at(ours + done, size)?;
            let theirs = match piece.theirs {
                Some(theirs) => Some(self.theirs.at(theirs + done, size)?),
                None => None,
            };
            let mut written = 0;
            for range in different(pages, theirs) {
                written += range.len();
                let start = piece.start + done + range.start as u64;
                self.runs.push(Run { start, len: range.len() as u64, offset: 0 });
                self.bytes.extend_from_slice(&pages[range.clone()]);
            }
            self.filled.restored += (written / PAGE) as u64;
            if theirs.is_some() {
                self.filled.compared += (size / PAGE) as u64;
                self.filled.shared += ((size - written) / PAGE) as u64;
            }
            done += len;
            progress::moved(len);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.runs.is_empty() {
            let pid = self.blank.pid();
            fill::write_batch(pid, self.blank.memory()?, &self.runs, &self.bytes)?;
        }
        self.runs.clear();
        self.bytes.clear();
        Ok(())
    }
}

/// The stretches of `ours` that differ from what the parent has there, in whole pages.
fn different(ours: &[u8], theirs: Option<&[u8]>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for start in (0..ours.len()).step_by(PAGE) {
        let end = start + PAGE;
        if theirs.is_some_and(|theirs| theirs[start..end] == ours[start..end]) {
            continue;
        }
        match all.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => all.push(start..end),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_each_others_borders() {
        let run = |start, len, offset| Run { start, len, offset };
        let piece = |start, len, theirs, ours| Piece { start, len, theirs, ours };
        let theirs = [run(0, 10, 100), run(20, 10, 110)];
        let ours = [run(5, 20, 0), run(40, 5, 20)];
        assert_eq!(
            compare(&theirs, &ours),
            [
                piece(0, 5, Some(100), None),
                piece(5, 5, Some(105), Some(0)),
                piece(10, 10, None, Some(5)),
                piece(20, 5, Some(110), Some(15)),
                piece(25, 5, Some(115), None),
                piece(40, 5, None, Some(20)),
            ]
        );
        assert!(compare(&[], &[]).is_empty());
    }
}
