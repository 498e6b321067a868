//! `mm-PID.img`: the address space as a whole. It records where the program, its arguments and its heap
//! are, the auxiliary vector and the executable.

use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{MmEntry, VmaEntry};
use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, StatFields};
use crate::kernel::remote::RemoteFd;
use crate::tracee::batch::Batch;

/// Completes the message, of which the process itself has told some, from the text of
/// `/proc/PID/stat` and from `/proc/PID/auxv`.
pub fn capture(
    pid: HostPid,
    stat: &str,
    told: MmEntry,
    exe_file_id: u32,
    vmas: Vec<VmaEntry>,
) -> Result<MmEntry> {
    let auxv = format!("/proc/{pid}/auxv");
    let auxv = proc::contents(&auxv).doing(|| format!("read {auxv}"))?;
    let mut mm = places(stat, told).ok_or_else(|| {
        Error::new(Kind::Internal, format!("cannot read /proc/{pid}/stat: {stat:?}"))
    })?;
    mm.exe_file_id = exe_file_id;
    mm.mm_saved_auxv = words(&auxv);
    mm.vmas = vmas;
    Ok(mm)
}

/// The auxiliary vector without the pair of zeros at its end, which the kernel adds by itself. With that
/// pair, the vector of newer kernels would be longer than the 44 words that CRIU 4.2 takes.
fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    let mut words: Vec<u64> =
        words.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    while words.ends_with(&[0, 0]) {
        words.truncate(words.len() - 2);
    }
    words
}

/// The addresses in `/proc/PID/stat`.
fn places(stat: &str, told: MmEntry) -> Option<MmEntry> {
    let fields = StatFields::of(stat)?;
    let field = |number| fields.get(number);
    Some(MmEntry {
        mm_start_code: field(26)?,
        mm_end_code: field(27)?,
        mm_start_stack: field(28)?,
        mm_start_data: field(45)?,
        mm_end_data: field(46)?,
        mm_start_brk: field(47)?,
        mm_arg_start: field(48)?,
        mm_arg_end: field(49)?,
        mm_env_start: field(50)?,
        mm_env_end: field(51)?,
        ..told
    })
}

/// Adds the calls that give an address space its recorded places, its auxiliary vector and its
/// executable, which the process has open as `exe` and closes.
///
/// No VMA of the former executable may be left, or the kernel answers EBUSY.
pub fn set(batch: &mut Batch, mm: &MmEntry, exe: RemoteFd) {
    let auxv: Vec<u8> = mm.mm_saved_auxv.iter().flat_map(|word| word.to_le_bytes()).collect();
    let auxv_at = batch.bytes(&auxv);
    let head: Vec<u8> = [
        mm.mm_start_code,
        mm.mm_end_code,
        mm.mm_start_data,
        mm.mm_end_data,
        mm.mm_start_brk,
        mm.mm_brk,
        mm.mm_start_stack,
        mm.mm_arg_start,
        mm.mm_arg_end,
        mm.mm_env_start,
        mm.mm_env_end,
    ]
    .iter()
    .flat_map(|place| place.to_le_bytes())
    .collect();
    let map = batch.bytes(&[head.as_slice(), &[0; 8], &tail(auxv.len(), exe)].concat());
    batch.point(map.skip(head.len()), auxv_at);
    let size = head.len() + 16;
    batch.must(
        "prctl(PR_SET_MM_MAP)",
        libc::SYS_prctl,
        args![libc::PR_SET_MM, libc::PR_SET_MM_MAP, map, size, 0],
    );
    batch.must("close of the executable", libc::SYS_close, args![exe]);
}

fn tail(auxv_len: usize, exe: RemoteFd) -> Vec<u8> {
    let len = u32::try_from(auxv_len).expect("validated: a few hundred bytes");
    [len.to_le_bytes(), exe.0.to_le_bytes()].concat()
}
