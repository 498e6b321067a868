//! General registers and the thread-local segments of the GDT.
//!
//! CRIU stores the registers as ptrace gives them, after its rule for interrupted system calls
//! ([`super::syscall_restart`]). Of the three GDT slots a 64-bit program can fill only by
//! `int $0x80`, so they are nearly always empty, and stored all the same.

use libc::user_regs_struct;

use super::attribute::{Attribute, Seen, Step};
use super::draft::{Draft, ThreadDraft};
use super::{Rebuild, Recorded, RecordedThread, pending, sigmask, syscall_restart};
use crate::error::{Error, Refusals, Result};
use crate::images::proto::{UserDescT, UserX86RegsEntry, UserX86RegsMode};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::zero_regs;
use crate::kernel::thread_area::{self, Descriptor};
use crate::objects::phases::{Phase, Turn};
use crate::tracee::blank::FinalState;
use crate::tracee::dumpee::FrozenTask;

/// Code segment of 64-bit programs.
const USER_CS: u64 = 0x33;
/// Code segment of 32-bit programs on a 64-bit kernel.
const USER32_CS: u64 = 0x23;
/// Data segment of all programs.
const USER_DS: u64 = 0x2b;
/// No user address is above this, whatever the depth of the page tables.
const ADDRESS_LIMIT: u64 = 1 << 56;

pub struct Registers;

impl Attribute for Registers {
    fn look(&self, _: &FrozenTask, draft: &mut Draft, _: &mut Refusals) -> Result<()> {
        for thread in &mut draft.threads {
            thread.info.tls = capture_tls(thread.tid)?;
        }
        Ok(())
    }

    fn read_thread(&self, seen: &Seen<'_>, _: &mut ThreadDraft, no: &mut Refusals) -> Result<()> {
        refuse(seen.frozen.tid, &seen.frozen.regs, no);
        Ok(())
    }

    /// Handlers decide about interrupted system calls, so all that brings one about is known first.
    fn settle(&self, task: &FrozenTask, draft: &mut Draft, _: &mut Snapshot) -> Result<()> {
        let queues = draft.threads.iter().map(|thread| thread.entry.signals_p.as_ref());
        let masks = task.threads.iter().map(|thread| thread.sigmask);
        let handlers = pending::handlers(&draft.entry, masks.zip(queues));
        let threads = draft.threads.iter_mut().zip(&task.threads);
        for ((thread, frozen), handler) in threads.zip(handlers) {
            thread.info.gpregs = to_image(&syscall_restart::for_image(&frozen.regs, handler));
        }
        Ok(())
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        validate(&thread.file(), &thread.info.gpregs)?;
        validate_tls(&thread.file(), &thread.info.tls)
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Registrations, Step::Act(rebuild_tls))]
    }

    fn set_final(&self, task: &Recorded<'_>, states: &mut [FinalState]) -> Result<()> {
        let threads = task.threads.iter();
        let queues = threads.clone().map(|thread| thread.entry.signals_p.as_ref());
        let masks = threads.clone().map(|thread| sigmask::blocked(task, thread));
        let handlers = pending::handlers(task.entry, masks.zip(queues));
        for ((thread, state), handler) in threads.zip(states).zip(handlers) {
            let in_image = from_image(&thread.info.gpregs);
            state.regs = syscall_restart::for_resume(&in_image, handler);
        }
        Ok(())
    }
}

/// The registers as an image holds them.
fn to_image(regs: &user_regs_struct) -> UserX86RegsEntry {
    UserX86RegsEntry {
        r15: regs.r15,
        r14: regs.r14,
        r13: regs.r13,
        r12: regs.r12,
        bp: regs.rbp,
        bx: regs.rbx,
        r11: regs.r11,
        r10: regs.r10,
        r9: regs.r9,
        r8: regs.r8,
        ax: regs.rax,
        cx: regs.rcx,
        dx: regs.rdx,
        si: regs.rsi,
        di: regs.rdi,
        orig_ax: regs.orig_rax,
        ip: regs.rip,
        cs: regs.cs,
        flags: regs.eflags,
        sp: regs.rsp,
        ss: regs.ss,
        fs_base: regs.fs_base,
        gs_base: regs.gs_base,
        ds: regs.ds,
        es: regs.es,
        fs: regs.fs,
        gs: regs.gs,
        mode: Some(UserX86RegsMode::Native.into()),
    }
}

/// The registers for ptrace; `orig_rax` still says which system call was interrupted.
fn from_image(entry: &UserX86RegsEntry) -> user_regs_struct {
    let mut regs = zero_regs();
    regs.r15 = entry.r15;
    regs.r14 = entry.r14;
    regs.r13 = entry.r13;
    regs.r12 = entry.r12;
    regs.rbp = entry.bp;
    regs.rbx = entry.bx;
    regs.r11 = entry.r11;
    regs.r10 = entry.r10;
    regs.r9 = entry.r9;
    regs.r8 = entry.r8;
    regs.rax = entry.ax;
    regs.rcx = entry.cx;
    regs.rdx = entry.dx;
    regs.rsi = entry.si;
    regs.rdi = entry.di;
    regs.orig_rax = entry.orig_ax;
    regs.rip = entry.ip;
    regs.cs = entry.cs;
    regs.eflags = entry.flags;
    regs.rsp = entry.sp;
    regs.ss = entry.ss;
    regs.fs_base = entry.fs_base;
    regs.gs_base = entry.gs_base;
    regs.ds = entry.ds;
    regs.es = entry.es;
    regs.fs = entry.fs;
    regs.gs = entry.gs;
    regs
}

/// Refuses what is no plain 64-bit thread.
fn refuse(tid: HostPid, regs: &user_regs_struct, refusals: &mut Refusals) {
    let reason = match regs.cs {
        USER_CS => return,
        USER32_CS => "32-bit code is not carried",
        _ => "code in a segment of its own (LDT) is not carried",
    };
    refusals.refuse(format!("thread {tid}"), format!("code segment {:#x}", regs.cs), reason, "");
}

/// Checks that the kernel will accept the registers of an image.
fn validate(file: &str, entry: &UserX86RegsEntry) -> Result<()> {
    if entry.mode() != UserX86RegsMode::Native || entry.cs != USER_CS {
        return Err(Error::image(file, "the thread runs 32-bit code, which is not carried"));
    }
    if entry.ss != USER_DS && entry.ss != 0 {
        return Err(Error::image(file, format!("{:#x} is no stack segment", entry.ss)));
    }
    if entry.fs_base >= ADDRESS_LIMIT || entry.gs_base >= ADDRESS_LIMIT {
        return Err(Error::image(file, "a segment base is no user address"));
    }
    Ok(())
}

/// The three GDT slots of a stopped thread as an image holds them.
fn capture_tls(tid: HostPid) -> Result<Vec<UserDescT>> {
    let slots = thread_area::get(tid)
        .map_err(|errno| Error::sys(format!("get the TLS slots of thread {tid}"), errno))?;
    Ok(slots.iter().map(tls_to_image).collect())
}

/// From outside, and when all threads are there.
fn rebuild_tls(process: &Rebuild<'_>, _: &mut Turn<'_>) -> Result<()> {
    let mut threads = process.task.threads.iter();
    threads.try_for_each(|thread| set_tls(thread.host_tid(), &thread.info.tls))
}

/// Gives a stopped thread the GDT slots of an image.
fn set_tls(tid: HostPid, entries: &[UserDescT]) -> Result<()> {
    for entry in entries.iter().filter(|entry| !entry.seg_not_present) {
        thread_area::set(tid, &tls_from_image(entry))
            .map_err(|errno| Error::sys(format!("set a TLS slot of thread {tid}"), errno))?;
    }
    Ok(())
}

/// Checks that the slots of an image are ones a program can have.
fn validate_tls(file: &str, entries: &[UserDescT]) -> Result<()> {
    let known = thread_area::FIRST_SLOT..thread_area::FIRST_SLOT + thread_area::SLOTS;
    for entry in entries.iter().filter(|entry| !entry.seg_not_present) {
        if !known.contains(&entry.entry_number) {
            return Err(Error::image(file, format!("there is no TLS slot {}", entry.entry_number)));
        }
    }
    Ok(())
}

fn tls_to_image(slot: &Descriptor) -> UserDescT {
    UserDescT {
        entry_number: slot.number,
        base_addr: slot.base,
        limit: slot.limit,
        seg_32bit: slot.has(thread_area::SEG_32BIT),
        contents_h: slot.has(thread_area::CONTENTS_HIGH),
        contents_l: slot.has(thread_area::CONTENTS_LOW),
        read_exec_only: slot.has(thread_area::READ_EXEC_ONLY),
        limit_in_pages: slot.has(thread_area::LIMIT_IN_PAGES),
        seg_not_present: slot.has(thread_area::SEG_NOT_PRESENT),
        usable: slot.has(thread_area::USABLE),
    }
}

fn tls_from_image(entry: &UserDescT) -> Descriptor {
    let flags = [
        (entry.seg_32bit, thread_area::SEG_32BIT),
        (entry.contents_h, thread_area::CONTENTS_HIGH),
        (entry.contents_l, thread_area::CONTENTS_LOW),
        (entry.read_exec_only, thread_area::READ_EXEC_ONLY),
        (entry.limit_in_pages, thread_area::LIMIT_IN_PAGES),
        (entry.seg_not_present, thread_area::SEG_NOT_PRESENT),
        (entry.usable, thread_area::USABLE),
    ];
    Descriptor {
        number: entry.entry_number,
        base: entry.base_addr,
        limit: entry.limit,
        flags: flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd_regs() -> user_regs_struct {
        let mut regs = zero_regs();
        for (value, register) in (100..).zip([
            &mut regs.r15,
            &mut regs.r14,
            &mut regs.r13,
            &mut regs.r12,
            &mut regs.rbp,
            &mut regs.rbx,
            &mut regs.r11,
            &mut regs.r10,
            &mut regs.r9,
            &mut regs.r8,
            &mut regs.rax,
            &mut regs.rcx,
            &mut regs.rdx,
            &mut regs.rsi,
            &mut regs.rdi,
            &mut regs.orig_rax,
            &mut regs.rip,
            &mut regs.eflags,
            &mut regs.rsp,
            &mut regs.fs_base,
            &mut regs.gs_base,
            &mut regs.ds,
            &mut regs.es,
            &mut regs.fs,
            &mut regs.gs,
        ]) {
            *register = value;
        }
        regs.cs = USER_CS;
        regs.ss = USER_DS;
        regs
    }

    #[test]
    fn registers_go_to_an_image_and_back() {
        let regs = odd_regs();
        let entry = to_image(&regs);
        assert_eq!((entry.r15, entry.sp, entry.ip), (100, regs.rsp, regs.rip));
        assert_eq!(from_image(&entry), regs);
        validate("core-1.img", &entry).unwrap();
    }

    #[test]
    fn impossible_registers_are_refused() {
        let good = to_image(&odd_regs());
        let compat = UserX86RegsEntry { mode: Some(UserX86RegsMode::Compat.into()), ..good };
        let kernel = UserX86RegsEntry { ss: 0x18, ..good };
        let high = UserX86RegsEntry { fs_base: u64::MAX, ..good };
        for (entry, words) in [(compat, "32-bit"), (kernel, "stack segment"), (high, "base")] {
            let text = validate("core-1.img", &entry).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_32_bit_thread_is_refused_by_name() {
        let mut refusals = Refusals::default();
        refuse(HostPid::new(7), &odd_regs(), &mut refusals);
        let regs = user_regs_struct { cs: USER32_CS, ..odd_regs() };
        refuse(HostPid::new(8), &regs, &mut refusals);
        let text = refusals.check().unwrap_err().to_string();
        assert_eq!(text, "thread 8: code segment 0x23: 32-bit code is not carried");
    }

    #[test]
    fn a_tls_slot_goes_to_an_image_and_back() {
        let flags = thread_area::SEG_32BIT | thread_area::USABLE | thread_area::CONTENTS_HIGH;
        let slot = Descriptor { number: 13, base: 0x1000, limit: 0xfffff, flags };
        assert_eq!(tls_from_image(&tls_to_image(&slot)), slot);
    }
}
