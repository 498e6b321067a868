//! Checks of what messages say of memory: layouts that no process can have, pages that belong
//! nowhere, kinds that are not restored.

use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{MmEntry, PagemapEntry, VmaEntry};
use crate::images::sections::SECTIONS;
use crate::images::snapshot::{Pagemap, Snapshot};
use crate::kernel::PAGE_SIZE;

use super::bits::{flags, page, status};
use super::capture::TASK_SIZE;
use super::{runs, vdso};

/// More than any kernel gives a process (`vm.max_map_count` is an int, 65530 unless raised).
const MAX_VMAS: usize = 1 << 22;
/// Words of the auxiliary vector that a kernel takes at most.
const MAX_AUXV: usize = 64;
/// All `PROT_*` bits that an image may have.
const PROT: u32 = 7;

/// Kinds of VMAs that other writers save and that are not restored here.
const REFUSED: &[(u32, &str)] = &[
    (status::SYSVIPC, "System V shared memory"),
    (status::SOCKET, "memory mapped from a socket"),
    (status::AIO_RING, "an asynchronous I/O ring"),
    (status::SHADOW_STACK, "a shadow stack"),
    (status::UPROBES, "memory of an active uprobe"),
];
const KNOWN_STATUS: u32 = status::REGULAR
    | status::VSYSCALL
    | status::VDSO
    | status::HEAP
    | status::CONTENTS
    | status::VVAR
    | status::MEMFD
    // The stack, for information only.
    | 1 << 1;

/// Checks the memory of one process; kinds that are not restored are added to `refusals`.
pub fn validate(snapshot: &Snapshot, pid: TreePid, refusals: &mut Refusals) -> Result<()> {
    let task = &snapshot.tasks[&pid];
    let Some(mm) = &task.mm else { return Ok(()) };
    let name = SECTIONS.mm.of(pid);
    check_mm(&name, mm)?;
    check_vmas(&name, mm, snapshot)?;
    refuse(pid, mm, refusals);
    vdso::block_of(&mm.vmas).doing(|| name)?;
    task.pagemap.as_ref().map_or(Ok(()), |pagemap| validate_pages(pid, pagemap, &mm.vmas))
}

/// Checks that the pages of a process have their places in its VMAs.
pub fn validate_pages(pid: TreePid, pagemap: &Pagemap, vmas: &[VmaEntry]) -> Result<()> {
    let name = SECTIONS.pagemap.of(pid);
    check_pagemap(&name, pagemap)?;
    check_covered(&name, pagemap, vmas)
}

/// Checks the pages of memory that processes share.
pub fn validate_shared(snapshot: &Snapshot) -> Result<()> {
    let mut all = snapshot.shared_memory.iter();
    all.try_for_each(|(shmid, pagemap)| check_pagemap(&SECTIONS.shared_memory.of(*shmid), pagemap))
}

fn check_mm(name: &str, mm: &MmEntry) -> Result<()> {
    let bad = |cause: String| Err(Error::image(name, cause));
    let words = mm.mm_saved_auxv.len();
    if words > MAX_AUXV || !words.is_multiple_of(2) {
        return bad(format!("an auxiliary vector of {words} words"));
    }
    if mm.vmas.len() > MAX_VMAS {
        return bad(format!("{} VMAs", mm.vmas.len()));
    }
    if mm.mm_start_brk > mm.mm_brk || mm.mm_brk > TASK_SIZE {
        return bad(format!("a heap from {:#x} to {:#x}", mm.mm_start_brk, mm.mm_brk));
    }
    let place = |text: &str| format!("{name}: {text}");
    let ranges = [
        (mm.mm_start_code, mm.mm_end_code, "code"),
        (mm.mm_start_data, mm.mm_end_data, "data"),
        (mm.mm_arg_start, mm.mm_arg_end, "arguments"),
        (mm.mm_env_start, mm.mm_env_end, "environment"),
    ];
    for (start, end, what) in ranges {
        if start > end || end > TASK_SIZE {
            return Err(Error::image(place(what), format!("from {start:#x} to {end:#x}")));
        }
    }
    Ok(())
}

fn check_vmas(name: &str, mm: &MmEntry, snapshot: &Snapshot) -> Result<()> {
    let mut last = 0;
    let mut guards = false;
    for vma in &mm.vmas {
        let wrong = |cause: &str| {
            Err(Error::image(name, format!("VMA {:x}-{:x} {cause}", vma.start, vma.end)))
        };
        if vma.start >= vma.end || !(vma.start | vma.end).is_multiple_of(PAGE_SIZE) {
            return wrong("is no range of pages");
        }
        if runs::is_guard(vma) {
            guards = true;
            if vma.end > TASK_SIZE {
                return wrong("is a guard outside of the address space");
            }
            continue;
        }
        if guards {
            return wrong("stands behind guards");
        }
        if vma.start < last {
            return wrong("is not above the one before it");
        }
        last = vma.end;
        if vma.status & status::VSYSCALL == 0 && vma.end > TASK_SIZE {
            return wrong("reaches out of the address space");
        }
        check_kind(vma, snapshot).or_else(|cause| wrong(&cause))?;
    }
    Ok(())
}

fn check_kind(vma: &VmaEntry, snapshot: &Snapshot) -> std::result::Result<(), String> {
    if REFUSED.iter().any(|(bit, _)| vma.status & bit != 0) {
        return Ok(());
    }
    if vma.status & !KNOWN_STATUS != 0 || (vma.status & status::CONTENTS).count_ones() != 1 {
        return Err(format!("has the impossible status {:#x}", vma.status));
    }
    let sharing = vma.flags & (flags::SHARED | flags::PRIVATE | flags::DROPPABLE);
    let shared = vma.status & (status::FILE_SHARED | status::ANON_SHARED) != 0;
    if vma.flags & !flags::KNOWN != 0
        || sharing.count_ones() != 1
        || shared != (sharing == flags::SHARED)
        || vma.prot & !PROT != 0
    {
        return Err(format!("has impossible flags {:#x} or protection {:#x}", vma.flags, vma.prot));
    }
    if !vma.pgoff.is_multiple_of(PAGE_SIZE) || vma.pgoff.checked_add(vma.end - vma.start).is_none()
    {
        return Err(format!("has the impossible offset {:#x}", vma.pgoff));
    }
    if vma.madv.is_some_and(|madv| madv & !known_advice() != 0) {
        return Err(format!("has unknown advice {:#x}", vma.madv.unwrap_or(0)));
    }
    check_file(vma, snapshot)
}

fn known_advice() -> u64 {
    let known = [
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
        libc::MADV_DONTFORK,
        libc::MADV_MERGEABLE,
        libc::MADV_HUGEPAGE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_DONTDUMP,
        libc::MADV_WIPEONFORK,
    ];
    known.iter().map(|advice| 1u64 << advice).sum()
}

fn check_file(vma: &VmaEntry, snapshot: &Snapshot) -> std::result::Result<(), String> {
    if vma.status & (status::FILE_PRIVATE | status::FILE_SHARED) == 0 {
        return Ok(());
    }
    let file = u32::try_from(vma.shmid).ok().and_then(|id| snapshot.files.get(&id));
    let Some(file) = file else {
        return Err(format!("maps file {}, which is not in the image", vma.shmid));
    };
    let memfd = vma.status & status::MEMFD != 0;
    if memfd != file.memfd.is_some() || !memfd && file.reg.is_none() {
        return Err(format!("maps file {}, which is of another kind", vma.shmid));
    }
    Ok(())
}

fn refuse(pid: TreePid, mm: &MmEntry, refusals: &mut Refusals) {
    for vma in &mm.vmas {
        let place = format!("pid {pid} at {:x}-{:x}", vma.start, vma.end);
        for (_, what) in REFUSED.iter().filter(|(bit, _)| vma.status & bit != 0) {
            refusals.refuse(&place, *what, "is not restored", "");
        }
        let huge_shared = vma.status & status::ANON_SHARED != 0 && vma.flags & flags::HUGETLB != 0;
        if huge_shared {
            refusals.refuse(&place, "shared huge pages", "are not restored", "");
        }
    }
    if !mm.aios.is_empty() {
        let object = format!("{} asynchronous I/O rings", mm.aios.len());
        refusals.refuse(format!("pid {pid}"), object, "are not restored", "");
    }
}

fn check_pagemap(name: &str, pagemap: &Pagemap) -> Result<()> {
    let mut last = 0;
    for entry in &pagemap.entries {
        let wrong =
            |cause: &str| Error::image(name, format!("the entry of {:x}: {cause}", entry.vaddr));
        let end = end_of(entry).ok_or_else(|| wrong("is no range of pages"))?;
        if entry.vaddr < last {
            return Err(wrong("is not above the one before it"));
        }
        last = end;
        if runs::page_flags(entry) & page::PARENT != 0 {
            return Err(wrong("its pages are in a parent checkpoint, which is not read")
                .with_kind(Kind::Refused)
                .remedy("make a whole dump"));
        }
    }
    Ok(())
}

fn end_of(entry: &PagemapEntry) -> Option<u64> {
    let len = runs::page_count(entry).checked_mul(PAGE_SIZE)?;
    let end = entry.vaddr.checked_add(len)?;
    (len > 0 && entry.vaddr.is_multiple_of(PAGE_SIZE)).then_some(end)
}

/// Checks that every page has a place in private memory.
fn check_covered(name: &str, pagemap: &Pagemap, vmas: &[VmaEntry]) -> Result<()> {
    let mut placed = 0;
    for (index, run) in runs::by_vma(pagemap, vmas) {
        if !runs::is_private(&vmas[index]) {
            let (start, end) = (run.start, run.end());
            return Err(Error::image(name, format!("pages {start:x}-{end:x} are not private")));
        }
        placed += run.len;
    }
    if placed != runs::total(pagemap) {
        return Err(Error::image(name, "has pages outside of every VMA"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::snapshot::TaskImage;

    const PID: u32 = 7;

    /// Two VMAs, and a page in each.
    fn good() -> Snapshot {
        let vma = |start, end| VmaEntry {
            start,
            end,
            prot: 3,
            flags: flags::PRIVATE | flags::ANONYMOUS,
            status: status::REGULAR | status::ANON_PRIVATE,
            fd: -1,
            ..VmaEntry::default()
        };
        let entry = |vaddr, pages| PagemapEntry {
            vaddr,
            nr_pages: Some(pages),
            flags: Some(page::PRESENT),
            ..PagemapEntry::default()
        };
        let vmas = vec![vma(0x10000, 0x20000), vma(0x20000, 0x30000)];
        let mm = MmEntry { vmas, ..MmEntry::default() };
        let pagemap = Pagemap { pages_id: 1, entries: vec![entry(0x1f000, 2)] };
        let task = TaskImage { mm: Some(mm), pagemap: Some(pagemap), ..TaskImage::default() };
        Snapshot { tasks: [(TreePid::new(PID), task)].into(), ..Snapshot::default() }
    }

    fn judge(change: impl FnOnce(&mut MmEntry, &mut Vec<PagemapEntry>)) -> Result<()> {
        let mut snapshot = good();
        let task = snapshot.tasks.get_mut(&TreePid::new(PID)).unwrap();
        change(task.mm.as_mut().unwrap(), &mut task.pagemap.as_mut().unwrap().entries);
        let mut refusals = Refusals::default();
        validate(&snapshot, TreePid::new(PID), &mut refusals)?;
        refusals.check()
    }

    fn cause(change: impl FnOnce(&mut MmEntry, &mut Vec<PagemapEntry>)) -> String {
        judge(change).unwrap_err().to_string()
    }

    #[test]
    fn good_images_pass() {
        judge(|_, _| {}).unwrap();
    }

    #[test]
    fn impossible_layouts_are_named() {
        for (change, expected) in [
            ((|mm| mm.vmas[0].end = 0x10001) as fn(&mut MmEntry), "is no range of pages"),
            (|mm| mm.vmas[0].end = 0x10000, "is no range of pages"),
            (|mm| mm.vmas[0].end = 0x21000, "is not above the one before it"),
            (|mm| mm.vmas.reverse(), "is not above the one before it"),
            (|mm| mm.vmas[1].end = 1 << 60, "reaches out of the address space"),
            (|mm| mm.vmas[1].status = status::REGULAR, "impossible status"),
            (|mm| mm.vmas[1].status |= status::FILE_SHARED, "impossible status"),
            (|mm| mm.vmas[1].flags = flags::SHARED, "impossible flags"),
            (|mm| mm.vmas[1].flags |= 1 << 12, "impossible flags"),
            (|mm| mm.vmas[1].prot = 9, "or protection 0x9"),
            (|mm| mm.vmas[1].pgoff = 5, "impossible offset"),
            (|mm| mm.vmas[1].pgoff = u64::MAX - 4095, "impossible offset"),
            (|mm| mm.vmas[1].madv = Some(1 << 4), "unknown advice"),
            (|mm| mm.vmas[0].status = status::GUARD, "stands behind guards"),
            (|mm| mm.mm_saved_auxv = vec![0; 1000], "auxiliary vector of 1000 words"),
            (|mm| mm.mm_start_brk = 1, "a heap from 0x1 to 0x0"),
            (|mm| mm.mm_end_code = u64::MAX, "code"),
        ] {
            let text = cause(|mm, _| change(mm));
            assert!(text.contains(expected), "{text} instead of {expected}");
            assert!(text.contains("mm-7.img"), "{text}");
        }
    }

    #[test]
    fn a_vdso_away_from_its_data_is_refused() {
        let error = judge(|mm, entries| {
            entries.clear();
            mm.vmas[0].status |= status::VVAR;
            mm.vmas[1].status |= status::VDSO;
            mm.vmas[1].start += PAGE_SIZE;
        })
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        let text = error.to_string();
        assert!(text.contains("mm-7.img: the vDSO does not stand behind its data"), "{text}");
    }

    #[test]
    fn files_must_be_in_the_image() {
        let text = cause(|mm, _| {
            mm.vmas[1].status = status::REGULAR | status::FILE_PRIVATE;
            mm.vmas[1].shmid = 1 << 40;
        });
        assert!(text.contains("maps file 1099511627776, which is not in the image"), "{text}");
    }

    #[test]
    fn kinds_that_are_not_restored_are_refused_together() {
        let error = judge(|mm, entries| {
            entries.clear();
            mm.vmas[0].status |= status::SYSVIPC;
            mm.vmas[1].status |= status::AIO_RING;
        })
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert_eq!(error.to_string().lines().count(), 2);
    }

    #[test]
    fn impossible_pagemaps_are_named() {
        type Change = fn(&mut Vec<PagemapEntry>);
        for (change, expected) in [
            ((|e| e[0].nr_pages = Some(u64::MAX / 2)) as Change, "is no range of pages"),
            (|e| e[0].nr_pages = Some(0), "is no range of pages"),
            (|e| e[0].vaddr = 0x10001, "is no range of pages"),
            (|e| e[0].vaddr = 0x2f000, "has pages outside of every VMA"),
            (|e| e.push(e[0]), "is not above the one before it"),
            (|e| e[0].flags = Some(page::PARENT), "in a parent checkpoint"),
        ] {
            let text = cause(|_, entries| change(entries));
            assert!(text.contains(expected), "{text} instead of {expected}");
        }
    }

    #[test]
    fn pages_of_shared_memory_have_no_place_in_an_address_space() {
        let text = cause(|mm, _| {
            mm.vmas[1].flags = flags::SHARED | flags::ANONYMOUS;
            mm.vmas[1].status = status::REGULAR | status::ANON_SHARED;
        });
        assert!(text.contains("pages 20000-21000 are not private"), "{text}");
    }
}
