//! Making a thread one that may have AMX state.
//!
//! The kernel gives room for the tiles to a process that asked for the permission, and to a
//! thread of it at its first AMX instruction. Before that their state cannot be set from outside.

use std::fs::File;

use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::kernel::remote::RemoteAddr;
use crate::kernel::{memory, xsave};
use crate::tracee::batch::Batch;

const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
/// The component that the permission is about: the tiles.
const TILE_DATA: u32 = xsave::TILE_DATA;

/// `ldtilecfg [rdi]; tilezero tmm0`
const CODE: [u8; 10] = [0xc4, 0xe2, 0x78, 0x49, 0x07, 0xc4, 0xe2, 0x7b, 0x49, 0xc0];
const INSTRUCTIONS: usize = 2;
/// One tile of 16 rows of 64 bytes, in palette 1.
const CONFIG_AT: usize = 64;
const CONFIG_LEN: usize = 64;

/// Asks for the permission, for the whole process.
pub fn ask_permission(batch: &mut Batch) {
    let call = args![ARCH_REQ_XCOMP_PERM, TILE_DATA];
    batch.must("ask for the permission to use AMX", libc::SYS_arch_prctl, call);
}

/// Runs two AMX instructions in a stopped thread under construction, at the end of the area of
/// `len` bytes at `area`, which is writable and executable and not in use.
///
/// The traps of the steps reset the action of SIGTRAP, so actions have to be set later.
pub fn use_once(tid: i32, memory: &File, area: RemoteAddr, len: usize) -> Result<()> {
    const NEEDED: usize = CONFIG_AT + CONFIG_LEN;
    let at = RemoteAddr((area.0 + len as u64 - NEEDED as u64) & !63);
    let mut bytes = [0u8; NEEDED];
    bytes[..CODE.len()].copy_from_slice(&CODE);
    bytes[CONFIG_AT] = 1;
    bytes[CONFIG_AT + 16] = 64;
    bytes[CONFIG_AT + 48] = 16;
    let doing = || format!("use AMX in thread {tid}");
    memory::write_forced(memory, at, &bytes).doing(doing)?;
    let mask = ptrace::get_sigmask(tid).doing(doing)?;
    let mut regs = ptrace::getregs(tid).doing(doing)?;
    (regs.rip, regs.rdi, regs.orig_rax) = (at.0, at.0 + CONFIG_AT as u64, u64::MAX);
    ptrace::setregs(tid, &regs).doing(doing)?;
    for _ in 0..INSTRUCTIONS {
        step(tid)?;
    }
    ptrace::set_sigmask(tid, mask).doing(doing)
}

fn step(tid: i32) -> Result<()> {
    let doing = || format!("use AMX in thread {tid}");
    loop {
        ptrace::step(tid, 0).doing(doing)?;
        match ptrace::wait(tid).doing(doing)? {
            WaitStatus::Stopped(Stop::Signal(libc::SIGTRAP)) => return Ok(()),
            // The interruption that the thread was stopped by shows once more.
            WaitStatus::Stopped(stop) if stop.is_interrupt() => {}
            other => {
                let cause = format!("{}: it did not come back: {other:?}", doing());
                return Err(Error::new(Kind::TaskDied, cause));
            }
        }
    }
}
