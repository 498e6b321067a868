//! Numbers of descriptors in a table, ours or a private one.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{Sys, threads};

/// What a call returned that makes a descriptor.
pub(super) fn owned(fd: i32) -> Sys<OwnedFd> {
    // SAFETY: every caller passes the result of a call that makes a descriptor.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of a descriptor whose number is at least `least`.
pub fn duplicate_above(fd: i32, least: i32) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) })
}

/// Puts a copy of `fd` under `number`, closing what is there.
///
/// For threads that have a table of descriptors of their own: elsewhere `number` may be somebody's.
pub fn duplicate_to(fd: i32, number: i32) -> Sys<()> {
    // SAFETY: takes numbers only; the caller owns `number`, see above.
    Errno::result(unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) }).map(drop)
}

/// Closes a number made by [`duplicate_to`].
pub fn close(number: i32) -> Sys<()> {
    // SAFETY: takes a number only; the caller owns it.
    Errno::result(unsafe { libc::close(number) }).map(drop)
}

/// Whether `number` is an open descriptor.
pub fn is_open(number: i32) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// What the kernel knows of a file without asking the file system, which a process may serve.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The mount in which it was opened.
    pub mount: i32,
    /// Type and permissions.
    pub mode: u32,
    /// The device that it is on.
    pub on: u64,
    /// The device that it is.
    pub device: u64,
}

/// What the kernel knows of the file behind a descriptor.
pub fn known(fd: impl AsFd) -> Sys<Known> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_MNT_ID;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the path is empty, and the kernel writes at most this structure.
    let done = unsafe { libc::statx(fd, c"".as_ptr(), flags, wanted, status.as_mut_ptr()) };
    Errno::result(done)?;
    // SAFETY: all zeros are a value of it, and so is what the kernel has written.
    let status = unsafe { status.assume_init() };
    Ok(Known {
        mount: i32::try_from(status.stx_mnt_id).unwrap_or(-1),
        mode: status.stx_mode.into(),
        on: libc::makedev(status.stx_dev_major, status.stx_dev_minor),
        device: libc::makedev(status.stx_rdev_major, status.stx_rdev_minor),
    })
}

/// The path of the file behind one of our descriptors, to open it again.
pub fn own_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Runs `work` in a thread of its own with a table of descriptors of its own, a copy of ours:
/// there any number may be used, and nothing that happens to it is seen outside.
pub fn with_private_table<T: Send>(work: impl FnOnce() -> Sys<T> + Send) -> Sys<T> {
    threads::in_own_thread(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES)?;
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_table_is_private() {
        let (ours, _other) = nix::unistd::pipe().unwrap();
        let number = ours.as_raw_fd();
        with_private_table(|| close(number)).unwrap();
        assert!(is_open(number));
    }
}
