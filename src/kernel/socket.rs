//! Sockets and their options.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::Sys;
use super::descriptor::owned;

/// The next connection of a listening socket.
pub fn accept(socket: impl AsFd) -> Sys<OwnedFd> {
    let (socket, none) = (socket.as_fd().as_raw_fd(), std::ptr::null_mut());
    // SAFETY: the address of the other end is not wanted.
    owned(unsafe { libc::accept4(socket, none, std::ptr::null_mut(), libc::SOCK_CLOEXEC) })
}

/// A whole-number option of a socket.
pub fn option(fd: impl AsFd, name: i32) -> Sys<u32> {
    get::<u32>(fd, name)
}

/// A time limit of a socket: seconds and microseconds.
pub fn timeout(fd: impl AsFd, name: i32) -> Sys<(u64, u64)> {
    get::<[u64; 2]>(fd, name).map(|time| (time[0], time[1]))
}

/// Sets a whole-number option of a socket.
pub fn set_option(fd: impl AsFd, name: i32, value: u32) -> Sys<()> {
    set(fd, libc::SOL_SOCKET, name, &value)
}

/// The same for an option of any level, as of TCP.
pub fn set_option_of(fd: impl AsFd, level: i32, name: i32, value: i32) -> Sys<()> {
    set(fd, level, name, &value)
}

/// Sets a time limit of a socket.
pub fn set_timeout(fd: impl AsFd, name: i32, time: (u64, u64)) -> Sys<()> {
    set(fd, libc::SOL_SOCKET, name, &[time.0, time.1])
}

/// The supplementary groups that the process at the other end of a unix socket had when it
/// connected.
pub fn peer_groups(socket: impl AsFd) -> Sys<Vec<u32>> {
    let socket = socket.as_fd().as_raw_fd();
    let mut groups: Vec<libc::gid_t> = Vec::new();
    loop {
        let mut len = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
        let place = groups.as_mut_ptr().cast();
        // SAFETY: `groups` has room for `len` bytes.
        let done = unsafe {
            libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, place, &raw mut len)
        };
        let count = len as usize / size_of::<libc::gid_t>();
        match Errno::result(done) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // The kernel has set the length to the one that it needs.
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(errno) => return Err(errno),
        }
    }
}

fn get<T: Default + Copy>(fd: impl AsFd, name: i32) -> Sys<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    let (fd, place) = (fd.as_fd().as_raw_fd(), (&raw mut value).cast());
    // SAFETY: `value` holds `len` bytes of plain numbers.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &raw mut len) };
    Errno::result(done).map(|_| value)
}

fn set<T>(fd: impl AsFd, level: i32, name: i32, value: &T) -> Sys<()> {
    let (fd, len) = (fd.as_fd().as_raw_fd(), size_of::<T>() as libc::socklen_t);
    let place = std::ptr::from_ref(value).cast();
    // SAFETY: `value` is plain numbers of `len` bytes.
    Errno::result(unsafe { libc::setsockopt(fd, level, name, place, len) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_peer_are_those_of_its_maker() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut groups = peer_groups(&ours).unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }
}
