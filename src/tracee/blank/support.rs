//! Blanks for tests, here and in other modules.

use std::sync::atomic::{AtomicI32, Ordering};

use super::{Blank, FinalState, SpawnSpec, ThreadSpec, holder_of};
use crate::args;
use crate::error::Kind;
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace;
use crate::kernel::remote::RemoteAddr;
use crate::tracee::batch::Batch;

/// Where test blanks have their helper area.
pub const HELPER: u64 = 0x1000_0000;

/// A number that was free a moment ago, different in every call.
pub fn free_pid() -> HostPid {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    loop {
        let own = HostPid::own().number();
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = HostPid::new(10_000 + (own * 61 + step) % 20_000);
        if holder_of(pid).is_none() {
            return pid;
        }
    }
}

/// A blank with some free pid, a child of the test.
pub fn blank() -> Blank {
    blank_with(|_| {})
}

/// The same with a specification that `edit` has changed.
pub fn blank_with(edit: impl Fn(&mut SpawnSpec)) -> Blank {
    loop {
        let mut spec = SpawnSpec::new(free_pid(), HELPER);
        edit(&mut spec);
        match Blank::spawn(&spec) {
            Err(error) if error.kind() == Kind::PidTaken => {}
            made => return made.unwrap(),
        }
    }
}

/// A blank with `count` threads beside its leader.
pub fn blank_with_threads(count: usize, clear_tid_addr: u64) -> Blank {
    loop {
        let mut blank = blank();
        let specs: Vec<_> =
            (0..count).map(|_| ThreadSpec { tid: free_pid(), clear_tid_addr }).collect();
        match blank.clone_threads(&specs) {
            Err(error) if error.kind() == Kind::PidTaken => continue,
            made => made.unwrap(),
        }
        let tids: Vec<HostPid> = blank.thread_ids().skip(1).collect();
        assert_eq!(tids, specs.iter().map(|spec| spec.tid).collect::<Vec<_>>());
        return blank;
    }
}

/// Maps `code` at `addr` in a blank, readable, writable and executable.
pub fn map_code(blank: &mut Blank, addr: u64, code: &[u8]) {
    let mut batch = Batch::new();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    batch.must("mmap", libc::SYS_mmap, args![addr, 4096, 7, flags, -1, 0]);
    blank.run(batch).unwrap();
    crate::kernel::memory::write(blank.pid(), RemoteAddr(addr), code).unwrap();
}

/// Registers of a program that begins at `rip`.
pub fn entry(rip: u64) -> FinalState {
    let mut regs = ptrace::zero_regs();
    (regs.rip, regs.cs, regs.ss) = (rip, 0x33, 0x2b);
    (regs.orig_rax, regs.eflags) = (u64::MAX, 0x202);
    FinalState { regs, xstate: Vec::new(), sigmask: 0 }
}
