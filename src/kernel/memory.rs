//! Memory of another process, read and written without its help.
//!
//! The `process_vm_*` calls respect page protections; `/proc/PID/mem` does not (it reads
//! PROT_NONE and writes read-only pages, making them private first). Reading a page that is not
//! present makes it present, and reading one that is shared copy-on-write copies it: look at the
//! pagemap first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;
use super::remote::RemoteAddr;

/// A stretch of memory in another process.
pub type RemoteIovec = libc::iovec;

/// A stretch of remote memory for [`readv`] and [`writev`].
pub fn remote_iovec(addr: RemoteAddr, len: usize) -> RemoteIovec {
    libc::iovec { iov_base: addr.0 as *mut libc::c_void, iov_len: len }
}

/// Reads the stretches of `remote` (at most 1024), one after the other, into `local`.
///
/// Returns how many bytes were read: fewer where a stretch cannot be read.
pub fn readv(pid: HostPid, local: &mut [u8], remote: &[RemoteIovec]) -> Sys<usize> {
    let ours = libc::iovec { iov_base: local.as_mut_ptr().cast(), iov_len: local.len() };
    // SAFETY: `ours` is exactly the writable slice; the remote addresses are not dereferenced
    // in this process.
    let got = unsafe {
        libc::process_vm_readv(
            pid.number(),
            &raw const ours,
            1,
            remote.as_ptr(),
            remote.len() as u64,
            0,
        )
    };
    Errno::result(got).map(isize::cast_unsigned)
}

/// Writes `local` to the stretches of `remote` (at most 1024), one after the other.
///
/// Returns how many bytes were written: fewer where a stretch cannot be written.
pub fn writev(pid: HostPid, local: &[u8], remote: &[RemoteIovec]) -> Sys<usize> {
    let base = local.as_ptr().cast_mut().cast();
    let ours = libc::iovec { iov_base: base, iov_len: local.len() };
    // SAFETY: the kernel only reads from `ours`, which is exactly the slice.
    let put = unsafe {
        libc::process_vm_writev(
            pid.number(),
            &raw const ours,
            1,
            remote.as_ptr(),
            remote.len() as u64,
            0,
        )
    };
    Errno::result(put).map(isize::cast_unsigned)
}

/// Fills `local` from `addr`; EFAULT if not all of it could be read.
pub fn read(pid: HostPid, addr: RemoteAddr, local: &mut [u8]) -> Sys<()> {
    let len = local.len();
    whole(len, readv(pid, local, &[remote_iovec(addr, len)])?)
}

/// Writes all of `local` to `addr`; EFAULT if not all of it could be written.
pub fn write(pid: HostPid, addr: RemoteAddr, local: &[u8]) -> Sys<()> {
    whole(local.len(), writev(pid, local, &[remote_iovec(addr, local.len())])?)
}

fn whole(wanted: usize, done: usize) -> Sys<()> {
    if done == wanted { Ok(()) } else { Err(Errno::EFAULT) }
}

/// A stretch of memory in which another process has something.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub pid: HostPid,
    pub start: RemoteAddr,
    pub len: u64,
}

impl Stretch {
    /// Fills `local` from `offset` on; EFAULT if that lies outside or cannot be read.
    pub fn read(&self, offset: u64, local: &mut [u8]) -> Sys<()> {
        let end = offset.checked_add(local.len() as u64).ok_or(Errno::EFAULT)?;
        if end > self.len {
            return Err(Errno::EFAULT);
        }
        read(self.pid, RemoteAddr(self.start.0 + offset), local)
    }
}

/// A little-endian u64 at `addr`.
pub fn read_u64(pid: HostPid, addr: RemoteAddr) -> Sys<u64> {
    let mut bytes = [0u8; 8];
    read(pid, addr, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Opens `/proc/PID/mem` for reading and writing.
pub fn open(pid: HostPid) -> io::Result<File> {
    File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))
}

/// Fills `local` from `addr` through `/proc/PID/mem`, whatever the protection.
pub fn read_forced(mem: &File, addr: RemoteAddr, local: &mut [u8]) -> io::Result<()> {
    mem.read_exact_at(local, addr.0)
}

/// Writes `local` to `addr` through `/proc/PID/mem`, whatever the protection.
pub fn write_forced(mem: &File, addr: RemoteAddr, local: &[u8]) -> io::Result<()> {
    mem.write_all_at(local, addr.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_memory() {
        let mut there = [1u8, 2, 3, 4];
        let addr = RemoteAddr(there.as_mut_ptr() as u64);
        let pid = HostPid::own();
        let mut here = [0u8; 4];
        read(pid, addr, &mut here).unwrap();
        assert_eq!(here, [1, 2, 3, 4]);
        write(pid, addr, &[9, 9, 9, 9]).unwrap();
        assert_eq!(std::hint::black_box(there), [9, 9, 9, 9]);
        assert_eq!(read(pid, RemoteAddr(8), &mut here), Err(Errno::EFAULT));
    }
}
