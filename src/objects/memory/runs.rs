//! Runs of pages: what a pagemap says, with the place of each run in the pages file.

use crate::images::proto::{PagemapEntry, VmaEntry};
use crate::images::snapshot::Pagemap;
use crate::kernel::PAGE_SIZE;

use super::bits::{flags, page, status};

/// Consecutive pages that stand one after the other in the pages file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address, or offset in a shared object.
    pub start: u64,
    pub len: u64,
    /// Place in the pages file.
    pub offset: u64,
}

impl Run {
    /// First address behind it.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The part of it within a range, if there is one.
    pub fn within(&self, start: u64, end: u64) -> Option<Self> {
        let from = self.start.max(start);
        let to = self.end().min(end);
        let offset = self.offset + from.saturating_sub(self.start);
        (from < to).then(|| Self { start: from, len: to - from, offset })
    }

    /// Its length, for a run that fits a buffer.
    pub fn size(&self) -> usize {
        usize::try_from(self.len).expect("fits a buffer")
    }
}

/// How many pages an entry stands for; writers before CRIU 4 had a smaller field for it.
pub fn page_count(entry: &PagemapEntry) -> u64 {
    entry.nr_pages.unwrap_or(entry.compat_nr_pages.into())
}

/// The flags of an entry; old writers had only `in_parent`.
pub fn page_flags(entry: &PagemapEntry) -> u32 {
    match (entry.flags, entry.in_parent) {
        (flags, Some(true)) => flags.unwrap_or(0) | page::PARENT,
        (Some(flags), _) => flags,
        (None, _) => page::PRESENT,
    }
}

/// Whether the pages of an entry stand in the dump's own file.
pub fn is_present(entry: &PagemapEntry) -> bool {
    page_flags(entry) & page::PRESENT != 0
}

/// The runs of a validated pagemap that stand in the dump's own pages file.
pub fn of(pagemap: &Pagemap) -> impl Iterator<Item = Run> {
    let mut offset = 0;
    pagemap.entries.iter().filter(|entry| is_present(entry)).map(move |entry| {
        let len = page_count(entry) * PAGE_SIZE;
        let run = Run { start: entry.vaddr, len, offset };
        offset += len;
        run
    })
}

/// How many bytes the runs of a validated pagemap are together.
pub fn total(pagemap: &Pagemap) -> u64 {
    of(pagemap).map(|run| run.len).sum()
}

/// The runs cut at the borders of VMAs, each with the index of its VMA.
///
/// Both sides are ascending; what lies outside of every VMA is left out.
pub fn by_vma<'a>(
    pagemap: &'a Pagemap,
    vmas: &'a [VmaEntry],
) -> impl Iterator<Item = (usize, Run)> + 'a {
    let mut first = 0;
    of(pagemap).flat_map(move |run| {
        while first < vmas.len() && (is_guard(&vmas[first]) || vmas[first].end <= run.start) {
            first += 1;
        }
        let from = first;
        vmas[from..]
            .iter()
            .enumerate()
            .take_while(move |(_, vma)| !is_guard(vma) && vma.start < run.end())
            .filter_map(move |(index, vma)| Some((from + index, run.within(vma.start, vma.end)?)))
    })
}

/// Collects pages into entries as the format wants them: ascending, neighbours of equal flags
/// joined.
#[derive(Debug, Default)]
pub struct Builder {
    entries: Vec<PagemapEntry>,
}

impl Builder {
    /// Adds pages behind all others.
    pub fn add(&mut self, start: u64, end: u64, flags: u32) {
        let pages = (end - start) / PAGE_SIZE;
        if let Some(last) = self.entries.last_mut() {
            let count = last.nr_pages.unwrap_or(0);
            if last.flags == Some(flags) && last.vaddr + count * PAGE_SIZE == start {
                last.nr_pages = Some(count + pages);
                return;
            }
        }
        self.entries.push(PagemapEntry {
            vaddr: start,
            compat_nr_pages: 0,
            in_parent: None,
            flags: Some(flags),
            nr_pages: Some(pages),
        });
    }

    /// The finished pagemap.
    pub fn finish(self, pages_id: u32) -> Pagemap {
        Pagemap { pages_id, entries: self.entries }
    }
}

/// Whether an entry is a range of guard pages, and no VMA.
pub fn is_guard(vma: &VmaEntry) -> bool {
    vma.status & status::GUARD != 0
}

/// Whether the pages of a VMA are the process's own and are saved.
pub fn is_private(vma: &VmaEntry) -> bool {
    let private = status::ANON_PRIVATE | status::FILE_PRIVATE;
    vma.status & status::REGULAR != 0
        && vma.status & private != 0
        && vma.status & status::VVAR == 0
        && vma.flags & flags::DROPPABLE == 0
}

/// Whether the pages of a VMA may be brought in after the process runs again.
pub fn may_be_lazy(vma: &VmaEntry) -> bool {
    vma.flags & (flags::ANONYMOUS | flags::PRIVATE) == flags::ANONYMOUS | flags::PRIVATE
        && vma.flags & (flags::LOCKED | flags::HUGETLB) == 0
        && vma.status & (status::VDSO | status::VVAR | status::VSYSCALL) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(start: u64, end: u64) -> VmaEntry {
        VmaEntry { start, end, ..VmaEntry::default() }
    }

    #[test]
    fn neighbours_are_joined() {
        let mut builder = Builder::default();
        builder.add(0x1000, 0x2000, 4);
        builder.add(0x2000, 0x4000, 4);
        builder.add(0x4000, 0x5000, 6);
        builder.add(0x6000, 0x7000, 6);
        let pagemap = builder.finish(1);
        let counts: Vec<_> = pagemap.entries.iter().map(|e| (e.vaddr, page_count(e))).collect();
        assert_eq!(counts, [(0x1000, 3), (0x4000, 1), (0x6000, 1)]);
        let offsets: Vec<_> = of(&pagemap).map(|run| run.offset).collect();
        assert_eq!(offsets, [0, 0x3000, 0x4000]);
    }

    #[test]
    fn runs_are_cut_at_the_borders_of_vmas() {
        let mut builder = Builder::default();
        builder.add(0x1000, 0x5000, 4);
        builder.add(0x8000, 0x9000, 4);
        let pagemap = builder.finish(1);
        let vmas = [vma(0, 0x1000), vma(0x1000, 0x2000), vma(0x2000, 0x8000), vma(0x8000, 0xa000)];
        let cut: Vec<_> = by_vma(&pagemap, &vmas).collect();
        assert_eq!(cut[0], (1, Run { start: 0x1000, len: 0x1000, offset: 0 }));
        assert_eq!(cut[1], (2, Run { start: 0x2000, len: 0x3000, offset: 0x1000 }));
        assert_eq!(cut[2], (3, Run { start: 0x8000, len: 0x1000, offset: 0x4000 }));
        assert_eq!(cut.len(), 3);
    }

    #[test]
    fn entries_of_old_writers_are_understood() {
        let old = PagemapEntry { vaddr: 0, compat_nr_pages: 3, ..PagemapEntry::default() };
        assert_eq!((page_count(&old), page_flags(&old)), (3, page::PRESENT));
        let parent = PagemapEntry { in_parent: Some(true), ..old };
        assert_eq!(page_flags(&parent), page::PARENT);
    }
}
