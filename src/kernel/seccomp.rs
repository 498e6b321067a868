//! Seccomp filters of a stopped thread.

use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;

/// Bytes of one filter instruction.
pub const INSTRUCTION: usize = 8;
/// The most instructions that a filter can have.
pub const INSTRUCTIONS_MAX: usize = 4096;

const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: libc::c_uint = 0x420d;

/// A filter as it was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its instructions.
    pub program: Vec<u8>,
    /// Flags that the filter was installed with. The kernel tells only whether the filter logs.
    pub flags: u32,
}

/// The filter number `index` of a thread, the one installed first being 0; `None` past the last.
pub fn filter(tid: HostPid, index: usize) -> Sys<Option<Filter>> {
    let mut program = vec![0u8; INSTRUCTIONS_MAX * INSTRUCTION];
    // SAFETY: no filter has more instructions than there is room for.
    let got = unsafe {
        libc::ptrace(PTRACE_SECCOMP_GET_FILTER, tid.number(), index, program.as_mut_ptr())
    };
    match Errno::result(got) {
        Ok(count) => program.truncate(count as usize * INSTRUCTION),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    Ok(Some(Filter { program, flags: flags(tid, index)? }))
}

fn flags(tid: HostPid, index: usize) -> Sys<u32> {
    #[repr(C)]
    struct Metadata {
        index: u64,
        flags: u64,
    }
    let mut data = Metadata { index: index as u64, flags: 0 };
    let len = size_of::<Metadata>();
    // SAFETY: the kernel reads and writes one `seccomp_metadata`, which this has the layout of.
    let got =
        unsafe { libc::ptrace(PTRACE_SECCOMP_GET_METADATA, tid.number(), len, &raw mut data) };
    Errno::result(got).map(|_| data.flags as u32)
}
