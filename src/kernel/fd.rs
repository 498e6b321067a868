//! System calls on open files that the libraries wrap too tightly or not at all.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::Sys;
use super::threads;

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;
const F_GET_SEALS: i32 = 1034;
const F_ADD_SEALS: i32 = 1033;
const TFD_IOC_SET_TICKS: libc::c_ulong = 0x4008_5400;
const KCMP_EPOLL_TFD: i32 = 7;

/// Whom a file's SIGIO goes to: `F_OWNER_TID` 0, `F_OWNER_PID` 1, `F_OWNER_PGRP` 2 and its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    pub kind: i32,
    pub pid: i32,
}

/// An entry of an epoll file: the `toff`-th of those added under the number `tfd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EpollSlot {
    pub efd: u32,
    pub tfd: u32,
    pub toff: u32,
}

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

fn fcntl(fd: impl AsFd, command: i32, value: i32) -> Sys<i32> {
    // SAFETY: every command passed here takes a number or nothing.
    Errno::result(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, value) })
}

fn owned(fd: i32) -> Sys<OwnedFd> {
    // SAFETY: every caller passes the result of a call that makes a descriptor.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds seals to a memfd.
pub fn add_seals(fd: impl AsFd, seals: u32) -> Sys<()> {
    fcntl(fd, F_ADD_SEALS, seals.cast_signed()).map(drop)
}

/// Adds `fd` to an epoll file under its number.
pub fn epoll_add(epoll: i32, fd: i32, events: u32, data: u64) -> Sys<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` is a valid epoll_event.
    Errno::result(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })
        .map(drop)
}

/// A new epoll file.
pub fn epoll_create() -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// A new eventfd that counts from 0; `flags` are `EFD_*`.
pub fn eventfd(flags: i32) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::eventfd(0, flags | libc::EFD_CLOEXEC) })
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

/// The next connection of a listening socket.
pub fn accept(socket: impl AsFd) -> Sys<OwnedFd> {
    let (socket, none) = (socket.as_fd().as_raw_fd(), std::ptr::null_mut());
    // SAFETY: the address of the other end is not wanted.
    owned(unsafe { libc::accept4(socket, none, std::ptr::null_mut(), libc::SOCK_CLOEXEC) })
}

/// Closes a number made by [`duplicate_to`].
pub fn close_number(number: i32) -> Sys<()> {
    // SAFETY: takes a number only; the caller owns it.
    Errno::result(unsafe { libc::close(number) }).map(drop)
}

/// Whether `number` is an open descriptor.
pub fn is_open(number: i32) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// The status flags of an open file.
pub fn flags(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, libc::F_GETFL, 0)
}

/// Sets those status flags of an open file that can be changed.
pub fn set_flags(fd: impl AsFd, flags: i32) -> Sys<()> {
    fcntl(fd, libc::F_SETFL, flags).map(drop)
}

/// The type of lease that this open file holds, `F_UNLCK` for none.
pub fn lease(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, libc::F_GETLEASE, 0)
}

/// Orders what stands in an epoll file's slot against descriptor `fd` of `pid`: 0 is equal.
pub fn kcmp_epoll(pid: i32, fd: i32, epoll_pid: i32, slot: EpollSlot) -> Sys<i64> {
    let slot = &raw const slot;
    // SAFETY: `slot` is what this comparison reads.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, epoll_pid, KCMP_EPOLL_TFD, fd, slot) };
    Errno::result(order)
}

/// A new memfd; `flags` are `MFD_*`.
pub fn memfd_create(name: &std::ffi::CStr, flags: u32) -> Sys<OwnedFd> {
    // SAFETY: `name` is a string that ends in NUL.
    owned(unsafe { libc::memfd_create(name.as_ptr(), flags) })
}

/// Who gets the signals of an open file; pid 0 is nobody.
pub fn owner(fd: impl AsFd) -> Sys<Owner> {
    let mut owner = Owner::default();
    // SAFETY: `owner` has the layout of struct f_owner_ex.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_GETOWN_EX, &raw mut owner) };
    Errno::result(done).map(|_| owner)
}

/// The uid and euid of whoever set the owner.
pub fn owner_uids(fd: impl AsFd) -> Sys<(u32, u32)> {
    let mut uids = [0u32; 2];
    // SAFETY: `uids` holds the two uids that this command writes.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_GETOWNER_UIDS, uids.as_mut_ptr()) };
    Errno::result(done).map(|_| (uids[0], uids[1]))
}

/// Sets who gets the signals of an open file, with the calling thread's uid and euid.
pub fn set_owner(fd: impl AsFd, owner: Owner) -> Sys<()> {
    // SAFETY: `owner` has the layout of struct f_owner_ex.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_SETOWN_EX, &raw const owner) };
    Errno::result(done).map(drop)
}

/// The signal that an open file sends, 0 for SIGIO.
pub fn owner_signal(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, F_GETSIG, 0)
}

/// Sets the signal that an open file sends.
pub fn set_owner_signal(fd: impl AsFd, signal: i32) -> Sys<()> {
    fcntl(fd, F_SETSIG, signal).map(drop)
}

/// The capacity of a pipe in bytes.
pub fn pipe_size(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, libc::F_GETPIPE_SZ, 0)
}

/// Sets the capacity of a pipe.
pub fn set_pipe_size(fd: impl AsFd, bytes: i32) -> Sys<()> {
    fcntl(fd, libc::F_SETPIPE_SZ, bytes).map(drop)
}

/// The seals of a memfd.
pub fn seals(fd: impl AsFd) -> Sys<u32> {
    fcntl(fd, F_GET_SEALS, 0).map(i32::cast_unsigned)
}

/// Changes the calling thread's uid and euid: the thread's alone, not the process's.
pub fn set_thread_uids(uid: u32, euid: u32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, euid, -1) }).map(drop)
}

/// A new signalfd for the signals of `mask`.
pub fn signalfd(mask: u64) -> Sys<OwnedFd> {
    // SAFETY: the kernel reads the eight bytes of `mask`.
    let fd =
        unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8, libc::SFD_CLOEXEC) };
    owned(fd as i32)
}

/// Copies what is in a pipe into another pipe; what is not there is not waited for.
pub fn tee(from: impl AsFd, to: impl AsFd, len: usize) -> Sys<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: takes numbers only.
    let bytes = unsafe { libc::tee(from, to, len, libc::SPLICE_F_NONBLOCK) };
    Errno::result(bytes).map(isize::cast_unsigned)
}

/// A new timerfd.
pub fn timerfd(clock: i32) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC) })
}

/// Time left and interval of a timerfd. An expired periodic timer is armed again by this.
pub fn timerfd_gettime(fd: impl AsFd) -> Sys<libc::itimerspec> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut time = libc::itimerspec { it_interval: zero, it_value: zero };
    // SAFETY: `time` is a valid itimerspec.
    let done = unsafe { libc::timerfd_gettime(fd.as_fd().as_raw_fd(), &raw mut time) };
    Errno::result(done).map(|_| time)
}

/// Arms a timerfd.
pub fn timerfd_settime(fd: impl AsFd, flags: i32, time: &libc::itimerspec) -> Sys<()> {
    let (fd, old) = (fd.as_fd().as_raw_fd(), std::ptr::null_mut());
    // SAFETY: `time` is a valid itimerspec, the old value is not wanted.
    Errno::result(unsafe { libc::timerfd_settime(fd, flags, time, old) }).map(drop)
}

/// Sets how many expirations of a timerfd have not been read.
pub fn timerfd_set_ticks(fd: impl AsFd, ticks: u64) -> Sys<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the eight bytes of `ticks`.
    Errno::result(unsafe { libc::ioctl(fd, TFD_IOC_SET_TICKS, &raw const ticks) }).map(drop)
}

/// The time of a clock.
pub fn clock_gettime(clock: i32) -> Sys<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec.
    Errno::result(unsafe { libc::clock_gettime(clock, &raw mut time) }).map(|_| time)
}

/// Whether the other side of a pipe is gone: everybody who could write it, or who could read it.
pub fn hung_up(fd: impl AsFd) -> Sys<bool> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one valid pollfd.
    Errno::result(unsafe { libc::poll(&raw mut poll, 1, 0) })?;
    Ok(poll.revents & (libc::POLLHUP | libc::POLLERR) != 0)
}

/// A whole-number option of a socket.
pub fn socket_option(fd: impl AsFd, name: i32) -> Sys<u32> {
    option::<u32>(fd, name)
}

/// A time limit of a socket: seconds and microseconds.
pub fn socket_timeout(fd: impl AsFd, name: i32) -> Sys<(u64, u64)> {
    option::<[u64; 2]>(fd, name).map(|time| (time[0], time[1]))
}

/// Sets a whole-number option of a socket.
pub fn set_socket_option(fd: impl AsFd, name: i32, value: u32) -> Sys<()> {
    set_option(fd, name, &value)
}

/// Sets a time limit of a socket.
pub fn set_socket_timeout(fd: impl AsFd, name: i32, time: (u64, u64)) -> Sys<()> {
    set_option(fd, name, &[time.0, time.1])
}

fn option<T: Default + Copy>(fd: impl AsFd, name: i32) -> Sys<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    let (fd, place) = (fd.as_fd().as_raw_fd(), (&raw mut value).cast());
    // SAFETY: `value` holds `len` bytes of plain numbers.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &raw mut len) };
    Errno::result(done).map(|_| value)
}

fn set_option<T>(fd: impl AsFd, name: i32, value: &T) -> Sys<()> {
    let (fd, len) = (fd.as_fd().as_raw_fd(), size_of::<T>() as libc::socklen_t);
    let place = std::ptr::from_ref(value).cast();
    // SAFETY: `value` is plain numbers of `len` bytes.
    Errno::result(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, place, len) }).map(drop)
}

/// Runs `work` in a thread of its own with a table of descriptors of its own, a copy of ours:
/// there any number may be used, and nothing that happens to it is seen outside.
pub fn with_private_table<T: Send>(work: impl FnOnce() -> Sys<T> + Send) -> Sys<T> {
    in_own_thread(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES)?;
        work()
    })
}

/// Runs `work` in a thread of its own that takes no signals.
pub fn in_own_thread<T: Send>(work: impl FnOnce() -> Sys<T> + Send) -> Sys<T> {
    std::thread::scope(|scope| {
        let thread = threads::start(scope, work).map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or(Err(Errno::EIO))
    })
}

/// The path of the file behind one of our descriptors, to open it again.
pub fn own_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
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

    #[test]
    fn a_private_table_is_private() {
        let (ours, _other) = nix::unistd::pipe().unwrap();
        let number = ours.as_raw_fd();
        with_private_table(|| close_number(number)).unwrap();
        assert!(is_open(number));
    }

    #[test]
    fn owner_is_read_back() {
        let (ours, _other) = nix::unistd::pipe().unwrap();
        assert_eq!(owner(&ours), Ok(Owner { kind: 0, pid: 0 }));
        let me = Owner { kind: 1, pid: std::process::id().cast_signed() };
        in_own_thread(|| {
            set_thread_uids(0, 1234)?;
            set_owner(&ours, me)
        })
        .unwrap();
        assert_eq!(owner(&ours), Ok(me));
        assert_eq!(owner_uids(&ours), Ok((0, 1234)));
    }
}
