//! The program that a blank executes: an ELF header and nothing else.
//!
//! Its one loadable segment has no bytes in the file, only a size in memory, which the kernel
//! provides as plain anonymous memory: the helper area. As nothing maps the file itself,
//! `/proc/PID/exe` can be replaced later without unmapping anything first.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Context, Result};

const EHDR_SIZE: u16 = 64;
const PHDR_SIZE: u16 = 56;
const PHDRS: u16 = 2;

/// A file that can be executed and has the helper area at `start`.
pub(super) fn program(start: u64, len: usize) -> Result<OwnedFd> {
    let file = executable_memfd().doing(|| "create a memory file to execute".to_owned())?;
    File::from(file.try_clone().doing(|| "duplicate a memory file".to_owned())?)
        .write_all(&header(start, len as u64))
        .doing(|| "write the program of a blank".to_owned())?;
    Ok(file)
}

/// MFD_EXEC is asked for because `vm.memfd_noexec` may forbid it by default; old kernels do not
/// know the flag.
fn executable_memfd() -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC;
    match memfd_create(c"blank", flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(c"blank", flags),
        file => file,
    }
}

fn header(start: u64, len: u64) -> Vec<u8> {
    let mut elf = Vec::with_capacity(usize::from(EHDR_SIZE + PHDRS * PHDR_SIZE));
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut half = |value: u16| elf.extend_from_slice(&value.to_le_bytes());
    half(libc::ET_EXEC);
    half(libc::EM_X86_64);
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [start, u64::from(EHDR_SIZE), 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, program headers, sections
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for value in [EHDR_SIZE, PHDR_SIZE, PHDRS, 0, 0, 0] {
        elf.extend_from_slice(&value.to_le_bytes());
    }
    segment(&mut elf, libc::PT_LOAD, libc::PF_R | libc::PF_W | libc::PF_X, [start, len, 0x1000]);
    // Without this one the kernel would make all memory executable.
    segment(&mut elf, libc::PT_GNU_STACK, libc::PF_R | libc::PF_W, [0, 0, 16]);
    elf
}

fn segment(elf: &mut Vec<u8>, kind: u32, flags: u32, [start, len, align]: [u64; 3]) {
    elf.extend_from_slice(&kind.to_le_bytes());
    elf.extend_from_slice(&flags.to_le_bytes());
    let (offset, in_file) = (0, 0);
    for word in [offset, start, start, in_file, len, align] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
}
