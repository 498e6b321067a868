//! What VMAs get after their pages: final protection, advice, guards, locks.

use crate::args;
use crate::error::Result;
use crate::images::proto::{MmEntry, VmaEntry};
use crate::images::snapshot::Pagemap;
use crate::tracee::blank::Blank;

use super::bits::{flags, status};
use super::calls::Calls;
use super::map::{fillings, huge_first, writable_first};
use super::runs;

const MADV_GUARD_INSTALL: i32 = 102;
const MLOCK_ONFAULT: i32 = 1;

/// Takes back the write permission that was only for filling.
pub fn protect(
    blank: &mut Blank,
    mm: &MmEntry,
    pagemap: &Pagemap,
    wanted: impl Fn(usize) -> bool,
) -> Result<()> {
    let mut calls = Calls::new(blank);
    for (index, filling) in fillings(&mm.vmas, pagemap).into_iter().enumerate() {
        let vma = &mm.vmas[index];
        if wanted(index) && writable_first(vma, filling) {
            let args = args![vma.start, vma.end - vma.start, vma.prot];
            calls.must(name("mprotect", vma), libc::SYS_mprotect, args)?;
        }
    }
    calls.flush()
}

/// Advises and locks, and installs guards. Some advice changes what a clone gets, so this comes
/// when all processes exist; locking needs the privilege that credentials may take away.
pub fn finish(blank: &mut Blank, mm: &MmEntry, pagemap: &Pagemap) -> Result<()> {
    let mut calls = Calls::new(blank);
    for (vma, filling) in mm.vmas.iter().zip(fillings(&mm.vmas, pagemap)) {
        let done = if huge_first(vma, filling) { 1 << libc::MADV_HUGEPAGE } else { 0 };
        for advice in advice(vma, done) {
            let args = args![vma.start, vma.end - vma.start, advice];
            calls.must(format!("{} {advice}", name("madvise", vma)), libc::SYS_madvise, args)?;
        }
    }
    // A locked VMA takes no guards: they come first.
    for vma in mm.vmas.iter().filter(|vma| runs::is_guard(vma)) {
        let args = args![vma.start, vma.end - vma.start, MADV_GUARD_INSTALL];
        calls.must(name("madvise MADV_GUARD_INSTALL", vma), libc::SYS_madvise, args)?;
    }
    lock(&mut calls, &mm.vmas)?;
    calls.flush()
}

/// Advice still to be given.
///
/// The kernel's own VMAs and droppable ones have theirs by nature.
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
        let args = args![vma.start, vma.end - vma.start, how];
        if on_fault || vma.prot & READABLE != 0 {
            calls.must(name("mlock2", vma), libc::SYS_mlock2, args)?;
        } else {
            // The lock stays, but the call complains that it cannot bring the pages in.
            calls.whatever_comes(libc::SYS_mlock2, args);
        }
    }
    Ok(())
}

const READABLE: u32 = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).cast_unsigned();

fn name(call: &str, vma: &VmaEntry) -> String {
    format!("{call} {:x}-{:x}", vma.start, vma.end)
}
