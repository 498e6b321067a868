//! What VMAs get after their pages: final protection, advice, guards, locks.

use crate::args;
use crate::error::Result;
use crate::images::proto::{MmEntry, VmaEntry};
use crate::images::snapshot::Pagemap;
use crate::tracee::blank::Blank;

use super::bits::{flags, status};
use super::calls::Calls;
use super::map::{bytes_to_fill, huge_first, writable_first};
use super::runs;

const MADV_GUARD_INSTALL: i32 = 102;
const MLOCK_ONFAULT: i32 = 1;
/// With any of these, the pages of a VMA can be brought in.
const READABLE: u32 = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).cast_unsigned();

/// Takes away the write permission that VMAs had only while they were filled.
pub fn protect(
    blank: &mut Blank,
    mm: &MmEntry,
    pagemap: &Pagemap,
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    let mut calls = Calls::new(blank);
    for (index, bytes) in bytes_to_fill(&mm.vmas, pagemap).into_iter().enumerate() {
        let vma = &mm.vmas[index];
        if wanted(index) && writable_first(vma, bytes) {
            calls.must_on(vma, "mprotect", libc::SYS_mprotect, vma.prot)?;
        }
    }
    calls.flush()
}

/// Gives advice, installs guards and locks. Some advice changes what a clone gets, so this comes when
/// all processes exist. It comes before credentials, which may take the privilege to lock away.
pub fn finish(blank: &mut Blank, mm: &MmEntry, pagemap: &Pagemap) -> Result<()> {
    let mut calls = Calls::new(blank);
    for (vma, bytes) in mm.vmas.iter().zip(bytes_to_fill(&mm.vmas, pagemap)) {
        let done = if huge_first(vma, bytes) { 1 << libc::MADV_HUGEPAGE } else { 0 };
        for advice in advice(vma, done) {
            calls.must_on(vma, &format!("madvise {advice}"), libc::SYS_madvise, advice)?;
        }
    }
    // A locked VMA takes no guards: they come first.
    for vma in mm.vmas.iter().filter(|vma| runs::is_guard(vma)) {
        calls.must_on(vma, "madvise GUARD_INSTALL", libc::SYS_madvise, MADV_GUARD_INSTALL)?;
    }
    lock(&mut calls, &mm.vmas)?;
    calls.flush()
}

/// The advice that is still to be given; what is in the bits of `done` was given before the pages.
///
/// The kernel's own VMAs have all of theirs, and droppable ones have two pieces, without being told.
fn advice(vma: &VmaEntry, done: u64) -> impl Iterator<Item = i32> {
    let own = vma.status & (status::VVAR | status::VDSO | status::VSYSCALL) != 0;
    let mut bits = if own { 0 } else { vma.madv.unwrap_or(0) & !done };
    bits &= !(1 << libc::MADV_NOHUGEPAGE);
    if vma.flags & flags::DROPPABLE != 0 {
        bits &= !(1 << libc::MADV_DONTDUMP | 1 << libc::MADV_WIPEONFORK);
    }
    (0..64).filter(move |bit| bits & (1 << bit) != 0)
}

fn lock(calls: &mut Calls<'_>, vmas: &[VmaEntry]) -> Result<()> {
    let locked = |vma: &&VmaEntry| vma.flags & flags::LOCKED != 0 && !runs::is_guard(vma);
    for vma in vmas.iter().filter(locked) {
        let on_fault = vma.flags & flags::LOCKED_ON_FAULT != 0;
        let how = if on_fault { MLOCK_ONFAULT } else { 0 };
        if on_fault || vma.prot & READABLE != 0 {
            calls.must_on(vma, "mlock2", libc::SYS_mlock2, how)?;
        } else {
            // The call locks the VMA and then fails, since it cannot bring in pages without access.
            calls.may_fail(libc::SYS_mlock2, args![vma.start, vma.end - vma.start, how]);
        }
    }
    Ok(())
}
