//! Locks on files: of the whole file by flock(2), of ranges by fcntl(2).

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::Sys;

/// A lock of the kinds that belong to an open file or to a process.
#[derive(Clone, Copy, Debug)]
pub struct RangeLock {
    /// `F_RDLCK` or `F_WRLCK`.
    pub kind: i32,
    pub start: i64,
    /// 0: to the end of the file.
    pub len: i64,
}

impl RangeLock {
    /// As the system calls take it.
    pub fn to_flock(self) -> libc::flock {
        libc::flock {
            l_type: self.kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: self.start,
            l_len: self.len,
            l_pid: 0,
        }
    }

    /// The bytes of [`to_flock`](Self::to_flock), for a batch.
    pub fn to_bytes(self) -> Vec<u8> {
        let flock = self.to_flock();
        let mut bytes = vec![0u8; size_of::<libc::flock>()];
        bytes[0..2].copy_from_slice(&flock.l_type.to_le_bytes());
        bytes[2..4].copy_from_slice(&flock.l_whence.to_le_bytes());
        bytes[8..16].copy_from_slice(&flock.l_start.to_le_bytes());
        bytes[16..24].copy_from_slice(&flock.l_len.to_le_bytes());
        bytes
    }
}

/// Puts or removes a BSD lock: `LOCK_SH`, `LOCK_EX`, ... with `LOCK_NB`.
pub fn flock(fd: impl AsFd, operation: i32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::flock(fd.as_fd().as_raw_fd(), operation) }).map(drop)
}

/// Puts a lock that belongs to the open file; fails if another holds it.
pub fn lock_open_file(fd: impl AsFd, lock: RangeLock) -> Sys<()> {
    let flock = lock.to_flock();
    // SAFETY: `flock` is a valid struct flock with a pid of 0, as this command wants it.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const flock) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_encodes_as_the_kernel_reads_it() {
        let bytes = RangeLock { kind: libc::F_WRLCK, start: 20, len: 10 }.to_bytes();
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[0], 1);
        assert_eq!((bytes[8], bytes[16]), (20, 10));
    }
}
