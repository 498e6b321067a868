//! Tile registers (AMX): the kernel gives a thread room for them only when the thread uses them.
//!
//! `PTRACE_SETREGSET` refuses tile data with EINVAL until the process has permission for the
//! feature and the thread has executed a tile instruction. No system call can replace that
//! instruction, so this is the one place of a restore where a thread runs other code than the stub.

use super::Blank;
use super::run::lost;
use super::stub::ENTRIES_AT;
use crate::args;
use crate::error::{Context, Result};
use crate::kernel::ptrace;
use crate::kernel::remote::RemoteAddr;
use crate::tracee::batch::Batch;

const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
const XFEATURE_TILE_DATA: u64 = 18;
const TILE_FEATURES: u64 = 3 << 17;
/// Where XSTATE_BV is in the XSAVE layout.
const XSTATE_BV_AT: usize = 512;

/// `ldtilecfg [rbx]; tilezero tmm0; mov rbx,r12; jmp r13`
#[rustfmt::skip]
const USE_A_TILE: [u8; 16] = [
    0xc4, 0xe2, 0x78, 0x49, 0x03,
    0xc4, 0xe2, 0x7b, 0x49, 0xc0,
    0x4c, 0x89, 0xe3,
    0x41, 0xff, 0xe5,
];

/// Whether this processor state has contents in tile registers.
pub(super) fn has_tiles(xstate: &[u8]) -> bool {
    let features = xstate.get(XSTATE_BV_AT..XSTATE_BV_AT + 8);
    let features = features.map(|raw| u64::from_le_bytes(raw.try_into().expect("eight bytes")));
    features.is_some_and(|features| features & TILE_FEATURES != 0)
}

impl Blank {
    /// Makes room for tile registers in the threads with these indices.
    pub(super) fn make_room_for_tiles(&mut self, threads: &[usize]) -> Result<()> {
        if threads.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let args = args![ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA];
        batch.must("ask for tile registers (AMX)", libc::SYS_arch_prctl, args);
        self.run(batch)?;
        threads.iter().try_for_each(|index| self.use_a_tile(*index))
    }

    fn use_a_tile(&self, index: usize) -> Result<()> {
        let thread = &self.threads[index];
        let at = self.helper.start.0 + ENTRIES_AT as u64;
        let mut park = Batch::new();
        park.call(libc::SYS_tgkill, args![self.pid().number(), thread.tid.number(), self.park]);
        let mut image = park.encode(RemoteAddr(at));
        let config_at = at + image.len() as u64;
        image.extend_from_slice(&tile_config());
        let code_at = at + image.len() as u64;
        image.extend_from_slice(&USE_A_TILE);
        self.write(RemoteAddr(at), &image).doing(|| "write tile instructions".to_owned())?;
        let mut regs = *self.registers;
        (regs.rip, regs.rbx, regs.r12, regs.r13) = (code_at, config_at, at, self.helper.start.0);
        ptrace::setregs(thread.tid, &regs)
            .and_then(|()| ptrace::cont(thread.tid, 0))
            .map_err(|errno| lost(thread.tid, "start tile instructions", errno))?;
        self.wait_parked(thread)
    }
}

/// Palette 1 with one tile of 16 rows of 64 bytes.
fn tile_config() -> [u8; 64] {
    let mut config = [0; 64];
    (config[0], config[16], config[48]) = (1, 64, 16);
    config
}
