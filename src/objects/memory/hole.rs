//! A place for the helper area: free in every address space of the tree.

use crate::error::{Error, Kind, Result};
use crate::images::proto::MmEntry;

use super::bits::flags;
use super::capture::TASK_SIZE;

/// Below it the kernel may refuse to map anything (`vm.mmap_min_addr`).
const LOWEST: u64 = 1 << 20;
const ALIGN: u64 = 1 << 16;
/// Distance from a stack above: the kernel keeps 1 MiB below a stack free for it to grow.
const MARGIN: u64 = 2 << 20;

/// The lowest hole of `len` bytes. It has to be low, because the kernel places the stack and the vDSO of
/// a fresh program high, where they might be in the way.
pub fn find<'a>(all: impl IntoIterator<Item = &'a MmEntry>, len: u64) -> Result<u64> {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for mm in all {
        for vma in &mm.vmas {
            let below = if vma.flags & flags::GROWSDOWN != 0 { MARGIN } else { 0 };
            taken.push((vma.start.saturating_sub(below), vma.end));
        }
        // The range of the heap is left alone even where nothing is mapped in it.
        taken.push((mm.mm_start_brk, mm.mm_brk));
    }
    taken.sort_unstable();
    let mut at = LOWEST;
    for (start, end) in taken {
        if at.saturating_add(len) <= start {
            break;
        }
        at = at.max(end.checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX));
    }
    if at.saturating_add(len) > TASK_SIZE {
        let text = format!("no hole of {len:#x} bytes is common to all address spaces");
        return Err(Error::new(Kind::BadImages, text));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::proto::VmaEntry;

    fn mm(vmas: &[(u64, u64)]) -> MmEntry {
        let vmas = vmas.iter().map(|&(start, end)| VmaEntry { start, end, ..VmaEntry::default() });
        MmEntry { vmas: vmas.collect(), ..MmEntry::default() }
    }

    #[test]
    fn the_hole_is_free_in_all() {
        let (first, second) = (mm(&[(0x40_0000, 0x50_0000)]), mm(&[(0x10_0000, 0x20_0000)]));
        assert_eq!(find([&first, &second], 0x10_0000).unwrap(), 0x20_0000);
        assert_eq!(find([&first, &second], 0x20_0000).unwrap(), 0x20_0000);
        assert_eq!(find([&first, &second], 0x20_1000).unwrap(), 0x50_0000);
        assert_eq!(find([], 0x1000).unwrap(), LOWEST);
    }

    #[test]
    fn a_full_address_space_has_none() {
        let full = mm(&[(0x1000, TASK_SIZE), (u64::MAX - 0x1000, u64::MAX)]);
        assert!(find([&full], 0x1000).is_err());
    }
}
