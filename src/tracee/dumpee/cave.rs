//! Room for code in a dumpee, without mapping anything and without a byte of it changing.
//!
//! An executable segment ends somewhere inside its last page; what follows, up to the end of the
//! mapping, is never used at run time. The vdso has 2782 such bytes on Linux 6.18. They can be
//! written through `/proc/PID/mem`, which makes that one page private to the dumpee. If the vdso
//! is missing or full, the tail of another executable file mapping serves as well.
//!
//! Saved vector registers need more room than such a tail has. They go to the lowest pages of the
//! stack, which an exec maps in advance. The pagemap tells that nothing has touched these pages.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{FrozenTask, frame};
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::memory;
use crate::kernel::pagemap::Pagemap;
use crate::kernel::pagemap::entry::{OF_FILE, PRESENT, SWAPPED};
use crate::kernel::pid::HostPid;
use crate::kernel::proc::Mapping;
use crate::kernel::remote::RemoteAddr;

pub(super) const PAGE: u64 = 4096;
/// Tails start at a cache line.
const TAIL_ALIGN: u64 = 64;
/// The end of user addresses (47 bits, less a guard page).
const USER_END: u64 = 0x7fff_ffff_f000;

/// The unused bytes behind the vdso; empty if there is none.
pub(super) fn vdso_tail(memory: &File, maps: &[Mapping]) -> Range<u64> {
    let vdso = maps.iter().find(|mapping| mapping.name == "[vdso]");
    vdso.and_then(|vdso| segment_tail(memory, vdso.range.start, vdso)).unwrap_or(0..0)
}

/// The part of the executable `mapping` that lies behind its segment in the ELF file at `base`.
fn segment_tail(memory: &File, base: u64, mapping: &Mapping) -> Option<Range<u64>> {
    const HEADER: usize = 64;
    const SEGMENT: usize = 56;
    const PT_LOAD: u64 = 1;
    const PF_X: u64 = 1;
    let mut header = [0u8; HEADER];
    memory.read_exact_at(&mut header, base).ok()?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
    let mut segments = vec![0u8; count * SEGMENT];
    memory.read_exact_at(&mut segments, base + word(&header, 32)).ok()?;
    let loads = || {
        let all = segments.chunks_exact(SEGMENT);
        all.filter(|segment| word(segment, 0) & 0xffff_ffff == PT_LOAD)
    };
    // The file is mapped at the addresses of its segments, or moved as a whole.
    let bias = base.wrapping_sub(word(loads().next()?, 16) & !(PAGE - 1));
    let ends = loads()
        .filter(|segment| (word(segment, 0) >> 32) & PF_X != 0)
        .map(|segment| bias.wrapping_add(word(segment, 16)).wrapping_add(word(segment, 32)));
    let end = ends.into_iter().find(|end| end.next_multiple_of(PAGE) == mapping.range.end)?;
    Some(end.next_multiple_of(TAIL_ALIGN)..mapping.range.end)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Candidates for code, best first: the vdso, then the tails of other executable mappings.
pub(super) fn tails<'a>(
    memory: &'a File,
    maps: &'a [Mapping],
    room: u64,
) -> impl Iterator<Item = Range<u64>> + 'a {
    let vdso = maps.iter().filter(|mapping| mapping.name == "[vdso]");
    let files = maps.iter().filter(|mapping| mapping.inode != 0);
    vdso.chain(files)
        .filter(|mapping| mapping.is_executable() && mapping.is_private())
        .filter_map(move |mapping| segment_tail(memory, elf_base(maps, mapping), mapping))
        .filter(move |tail| tail.end - tail.start >= room)
}

/// Where the start of the file behind `mapping` is mapped.
fn elf_base(maps: &[Mapping], mapping: &Mapping) -> u64 {
    let same = |other: &&Mapping| {
        other.inode == mapping.inode
            && other.name == mapping.name
            && other.offset == 0
            && other.range.start <= mapping.range.start
    };
    maps.iter().rev().find(same).map_or(mapping.range.start, |first| first.range.start)
}

/// An unmapped place for `len` bytes, far from everything that may grow.
pub(super) fn hole(maps: &[Mapping], len: u64) -> Result<RemoteAddr> {
    const ALIGN: u64 = 1 << 16;
    let user = maps.iter().map(|mapping| &mapping.range).filter(|range| range.end <= USER_END);
    let starts = user.clone().skip(1).map(|range| range.start).chain([USER_END]);
    let gaps = user.zip(starts).map(|(before, start)| before.end..start);
    let gap = gaps.max_by_key(|gap| gap.end - gap.start).unwrap_or(0..0);
    if gap.end - gap.start < len + 4 * ALIGN {
        return Err(Error::new(Kind::System, "no room in the address space"));
    }
    let middle = gap.start + (gap.end - gap.start - len) / 2;
    Ok(RemoteAddr(middle.next_multiple_of(ALIGN)))
}

/// Pages at the bottom of the stack for a vector state.
pub(super) struct StackPages {
    /// Pages that are untouched, or that a killed engine has left.
    pub chosen: Option<Range<u64>>,
    /// Further pages that killed engines have left.
    pub stale: Vec<Range<u64>>,
}

/// Looks for pages at the bottom of the stack that nothing uses, for `len` bytes.
pub(super) fn stack_pages(task: &FrozenTask, maps: &[Mapping], len: usize) -> StackPages {
    /// The least distance to the stack pointer of any thread.
    const MARGIN: u64 = 64 << 10;
    const TRIES: usize = 8;
    let mut found = StackPages { chosen: None, stale: Vec::new() };
    let stack = maps.iter().find(|mapping| mapping.name == "[stack]" && mapping.is_private());
    let (Some(stack), 1..) = (stack, len) else { return found };
    let pages = len.div_ceil(PAGE as usize);
    let size = pages as u64 * PAGE;
    let there = ((stack.range.end - stack.range.start) / PAGE) as usize;
    let entries = entries(task.pid, stack.range.start, there.min(pages * TRIES));
    for (start, entries) in
        (stack.range.start..).step_by(size as usize).zip(entries.chunks_exact(pages))
    {
        let place = start..start + size;
        let limit = place.end + MARGIN;
        if limit > stack.range.end
            || task.threads.iter().any(|t| near(t.regs.rsp, &stack.range, limit))
        {
            break;
        }
        let untouched = entries.iter().all(|entry| is_untouched(*entry));
        let stale = !untouched && !is_untouched(entries[0]) && is_stale(task, start);
        if found.chosen.is_none() && (untouched || stale) {
            found.chosen = Some(place);
        } else if stale {
            found.stale.push(place);
        }
    }
    found
}

/// Whether a page begins with a vector state that an engine has left. No thread is inside the heal
/// code now, so nothing needs that state any more.
fn is_stale(task: &FrozenTask, page: u64) -> bool {
    let mut state = [0u8; frame::LEGACY_AND_HEADER];
    memory::read(task.pid, RemoteAddr(page), &mut state).is_ok() && frame::is_fpstate(&state)
}

fn near(rsp: u64, stack: &Range<u64>, limit: u64) -> bool {
    stack.contains(&rsp) && rsp < limit
}

/// The pagemap's entries of `count` pages; none if the pagemap cannot be read.
fn entries(pid: HostPid, page: u64, count: usize) -> Vec<u64> {
    let mut entries = vec![0; count];
    let read = Pagemap::open(pid).and_then(|pagemap| pagemap.read(page, &mut entries));
    read.map(|()| entries).unwrap_or_default()
}

fn entry(pid: HostPid, page: u64) -> Option<u64> {
    entries(pid, page, 1).first().copied()
}

/// Whether the page is neither present nor swapped out.
fn is_untouched(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED) == 0
}

/// Whether a page of the process has been touched. Reading an untouched page would touch it. If the
/// pagemap cannot be read, the page counts as not touched.
pub(super) fn is_touched(pid: HostPid, page: u64) -> bool {
    entry(pid, page).is_some_and(|entry| !is_untouched(entry))
}

/// Whether the page at `addr` is still the file's or the kernel's, so that nothing was ever written
/// there.
pub(super) fn is_pristine(pid: HostPid, addr: u64) -> bool {
    entry(pid, addr).is_some_and(|entry| entry & (PRESENT | SWAPPED | OF_FILE) == PRESENT | OF_FILE)
}

/// The bytes of `place`.
pub(super) fn bytes(memory: &File, place: &Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0u8; (place.end - place.start) as usize];
    memory::read_forced(memory, RemoteAddr(place.start), &mut bytes)
        .doing(|| format!("read {place:x?}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::proc;

    fn own_maps() -> Vec<Mapping> {
        proc::maps(HostPid::own()).unwrap()
    }

    #[test]
    fn the_vdso_has_a_tail_behind_its_segment() {
        let maps = own_maps();
        let tail = vdso_tail(&File::open("/proc/self/mem").unwrap(), &maps);
        let vdso = maps.iter().find(|mapping| mapping.name == "[vdso]").unwrap();
        assert!(vdso.range.contains(&tail.start), "{tail:x?} in {:x?}", vdso.range);
        assert_eq!(tail.end, vdso.range.end);
    }

    #[test]
    fn tails_of_files_follow_their_segments() {
        let maps = own_maps();
        let memory = File::open("/proc/self/mem").unwrap();
        let found: Vec<_> = tails(&memory, &maps, 64).collect();
        assert!(found.len() > 1, "{found:x?}");
        for tail in found {
            let mapping = maps.iter().find(|mapping| mapping.range.contains(&tail.start)).unwrap();
            assert!(mapping.is_executable());
            assert_eq!(tail.end, mapping.range.end);
        }
    }

    #[test]
    fn the_hole_is_unmapped() {
        let maps = own_maps();
        let hole = hole(&maps, 1 << 20).unwrap().0;
        assert!(maps.iter().all(|m| m.range.end <= hole || m.range.start >= hole + (1 << 20)));
        assert!(hole > 0x10000 && hole < USER_END);
    }
}
