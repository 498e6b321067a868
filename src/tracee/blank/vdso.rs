//! The memory that an exec leaves behind, and placing the vdso.
//!
//! The vdso reaches its data pages relative to itself, so `[vvar]`, `[vvar_vclock]` and `[vdso]`
//! move as one block, in whole mappings. `ARCH_MAP_VDSO_64` maps a new block where it is wanted,
//! once the old one is gone; a kernel without it (no CONFIG_CHECKPOINT_RESTORE) can only move the
//! one that the exec made.

use std::sync::OnceLock;

use nix::errno::Errno;

use super::{Blank, HelperArea};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::remote::RemoteAddr;
use crate::kernel::{proc, sys};
use crate::tracee::batch::Batch;

const ARCH_MAP_VDSO_64: u64 = 0x2003;
/// End of the addresses that the kernel hands out unasked.
const TASK_END: u64 = 0x7fff_ffff_f000;
const PAGE: u64 = 4096;
/// Bytes at the start of the helper area that are left to the batch which moves the block.
const BATCH_SPACE: u64 = 16 * PAGE;
/// Permissions of the helper area.
const RWX: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;

/// Whether the kernel can map a vdso on request. It then answers EEXIST to a process that has a
/// vdso.
pub(super) fn can_be_mapped() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| sys::arch_prctl(ARCH_MAP_VDSO_64, 0) == Err(Errno::EEXIST))
}

/// A mapping: where it begins and ends.
type Range = std::ops::Range<u64>;

impl Blank {
    /// The memory to unmap, so that only the helper area is left and, if asked for, the vdso.
    pub(super) fn foreign_memory(&self, keep_vdso: bool) -> Result<Vec<(u64, u64)>> {
        let (start, end) = self.helper.range();
        if !keep_vdso {
            return Ok(vec![(0, start), (end, TASK_END)]);
        }
        // The vsyscall page lies beyond the end and is nobody's to unmap.
        let outside = |map: &Range| map.end <= start || (map.start >= end && map.end <= TASK_END);
        let maps = proc::maps(self.pid())?;
        let foreign = maps.iter().filter(|map| !is_vdso(map) && outside(&map.range));
        Ok(foreign.map(|map| (map.range.start, map.range.end)).collect())
    }

    /// Places the vdso with its data pages so that `[vvar]` starts at `block`.
    pub fn map_vdso(&mut self, block: RemoteAddr) -> Result<()> {
        let what = format!("map the vdso at {block:?}");
        let mut batch = Batch::new();
        let map = batch.call(libc::SYS_arch_prctl, args![ARCH_MAP_VDSO_64, block]);
        let pages = batch.space(1);
        let look = batch.call(libc::SYS_mincore, args![block, PAGE, pages]);
        let outcome = self.run(batch)?;
        match outcome.ret(map) {
            Err(Errno::EEXIST | Errno::EINVAL) => return self.move_vdso(block),
            result => result.doing(|| format!("pid {}: {what}", self.pid()))?,
        };
        // The kernel takes the address as a hint and maps the vdso elsewhere if the place is taken.
        outcome.ret(look).doing(|| format!("pid {}: {what}: the place is taken", self.pid()))?;
        Ok(())
    }

    /// Moves the vdso of the exec, by way of the helper area if the old and the new place overlap.
    fn move_vdso(&mut self, block: RemoteAddr) -> Result<()> {
        let maps = self.vdso_mappings()?;
        let (from, end) = (maps[0].start, maps[maps.len() - 1].end);
        let len = end - from;
        if from == block.0 {
            return Ok(());
        }
        let (helper, helper_end) = self.helper.range();
        if block.0 < helper_end && helper < block.0 + len {
            let text = format!("pid {}: the vdso belongs where the helper area is", self.pid());
            return Err(Error::new(Kind::Internal, text));
        }
        let mut batch = Batch::new();
        if block.0 < end && from < block.0 + len {
            if (self.helper.len as u64) < BATCH_SPACE + len {
                let text = "the helper area is too small to move the vdso through it";
                return Err(Error::new(Kind::Internal, text));
            }
            let between = helper_end - len;
            add_moves(&mut batch, &maps, from, between);
            add_moves(&mut batch, &shifted(&maps, from, between), between, block.0);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let args = args![between, len, RWX, flags, -1, 0];
            batch.must("mend the helper area", libc::SYS_mmap, args);
        } else {
            add_moves(&mut batch, &maps, from, block.0);
        }
        self.run(batch).map(drop)
    }

    fn vdso_mappings(&self) -> Result<Vec<Range>> {
        let maps = proc::maps(self.pid())?;
        let maps: Vec<Range> = maps.into_iter().filter(is_vdso).map(|map| map.range).collect();
        let contiguous = maps.windows(2).all(|pair| pair[0].end == pair[1].start);
        if maps.is_empty() || !contiguous {
            let text = format!("pid {}: no vdso in one block: {maps:x?}", self.pid());
            return Err(Error::new(Kind::Internal, text));
        }
        Ok(maps)
    }
}

impl HelperArea {
    fn range(&self) -> (u64, u64) {
        (self.start.0, self.start.0 + self.len as u64)
    }
}

fn shifted(maps: &[Range], from: u64, to: u64) -> Vec<Range> {
    let shift = |at: u64| at - from + to;
    maps.iter().map(|map| shift(map.start)..shift(map.end)).collect()
}

fn add_moves(batch: &mut Batch, maps: &[Range], from: u64, to: u64) {
    for map in maps {
        let (len, target) = (map.end - map.start, map.start - from + to);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let what = format!("move the vdso from {:x} to {target:x}", map.start);
        batch.must(what, libc::SYS_mremap, args![map.start, len, len, flags, target]);
    }
}

fn is_vdso(map: &proc::Mapping) -> bool {
    map.name.starts_with("[vvar") || map.name == "[vdso]"
}
