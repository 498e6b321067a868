//! Requests to terminals.
//!
//! A request about termios or window size to the master of a pseudo terminal acts on its slave, so
//! that either side can be used.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::Sys;
use super::descriptor::owned;
use super::pid::HostPid;

const TIOCGPTPEER: libc::c_ulong = 0x5441;
const TIOCGPTLCK: libc::c_ulong = 0x8004_5439;
const TIOCGEXCL: libc::c_ulong = 0x8004_5440;
const TIOCGPKT: libc::c_ulong = 0x8004_5438;
const TIOCGPTN: libc::c_ulong = 0x8004_5430;
const TIOCSPTLCK: libc::c_ulong = 0x4004_5431;
const TIOCGLCKTRMIOS: libc::c_ulong = 0x5456;
const TIOCSLCKTRMIOS: libc::c_ulong = 0x5457;

/// The settings of a terminal as the kernel keeps them (`struct termios` of the kernel, which is
/// shorter than the C library's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
}

/// The size of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Winsize {
    pub row: u16,
    pub col: u16,
    pub xpixel: u16,
    pub ypixel: u16,
}

fn get<T: Default>(fd: impl AsFd, request: libc::c_ulong) -> Sys<T> {
    let mut value = T::default();
    // SAFETY: each caller names the type that its request writes.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, &raw mut value) };
    Errno::result(done).map(|_| value)
}

fn set<T>(fd: impl AsFd, request: libc::c_ulong, value: &T) -> Sys<()> {
    // SAFETY: each caller names the type that its request reads.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, std::ptr::from_ref(value)) };
    Errno::result(done).map(drop)
}

/// The settings.
pub fn termios(fd: impl AsFd) -> Sys<Termios> {
    get(fd, libc::TCGETS)
}

/// Changes the settings at once.
pub fn set_termios(fd: impl AsFd, termios: &Termios) -> Sys<()> {
    set(fd, libc::TCSETS, termios)
}

/// Which bits of the settings are locked.
pub fn locked_termios(fd: impl AsFd) -> Sys<Termios> {
    get(fd, TIOCGLCKTRMIOS)
}

/// Locks bits of the settings (CAP_SYS_ADMIN).
pub fn lock_termios(fd: impl AsFd, bits: &Termios) -> Sys<()> {
    set(fd, TIOCSLCKTRMIOS, bits)
}

/// The window's size.
pub fn winsize(fd: impl AsFd) -> Sys<Winsize> {
    get(fd, libc::TIOCGWINSZ)
}

/// Sets the window's size.
pub fn set_winsize(fd: impl AsFd, size: &Winsize) -> Sys<()> {
    set(fd, libc::TIOCSWINSZ, size)
}

/// The number of the pseudo terminal that a master belongs to.
pub fn pty_index(master: impl AsFd) -> Sys<u32> {
    get(master, TIOCGPTN)
}

/// Whether the slave side is locked.
pub fn is_locked(master: impl AsFd) -> Sys<bool> {
    get::<i32>(master, TIOCGPTLCK).map(|locked| locked != 0)
}

/// Locks or unlocks the slave side.
pub fn set_locked(master: impl AsFd, locked: bool) -> Sys<()> {
    set(master, TIOCSPTLCK, &i32::from(locked))
}

/// Whether only a privileged process can open the terminal.
pub fn is_exclusive(fd: impl AsFd) -> Sys<bool> {
    get::<i32>(fd, TIOCGEXCL).map(|exclusive| exclusive != 0)
}

/// Closes the terminal to further opens.
pub fn set_exclusive(fd: impl AsFd) -> Sys<()> {
    set(fd, libc::TIOCEXCL, &0)
}

/// Whether reads of the master carry a status byte.
pub fn is_packet_mode(master: impl AsFd) -> Sys<bool> {
    get::<i32>(master, TIOCGPKT).map(|packet| packet != 0)
}

/// Sets whether reads of the master carry a status byte.
pub fn set_packet_mode(master: impl AsFd, packet: bool) -> Sys<()> {
    set(master, libc::TIOCPKT, &i32::from(packet))
}

/// The session whose controlling terminal it is. On a slave only that session may ask.
pub fn session(fd: impl AsFd) -> Sys<HostPid> {
    get(fd, libc::TIOCGSID).map(HostPid::new)
}

/// The foreground group. On a slave only the terminal's own session may ask.
pub fn foreground(fd: impl AsFd) -> Sys<HostPid> {
    get(fd, libc::TIOCGPGRP).map(HostPid::new)
}

/// Sets the foreground group, from within the terminal's session.
pub fn set_foreground(fd: impl AsFd, group: HostPid) -> Sys<()> {
    set(fd, libc::TIOCSPGRP, &group.number())
}

/// How many bytes can be read at once. On a terminal, bytes that are on their way are waited for
/// first.
pub fn readable(fd: impl AsFd) -> Sys<i32> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one valid pollfd.
    Errno::result(unsafe { libc::poll(&raw mut poll, 1, 0) })?;
    get(fd, libc::FIONREAD)
}

/// Opens the slave side of an unlocked master, whatever is mounted on /dev/pts. The descriptor is
/// close-on-exec from the start, so that a program which another thread starts does not inherit it.
pub fn open_slave(master: impl AsFd, flags: i32) -> Sys<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: takes numbers only.
    owned(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), TIOCGPTPEER, flags) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_pty_are_seen_from_both_sides() {
        use nix::fcntl::OFlag;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = nix::fcntl::open("/dev/ptmx", flags, nix::sys::stat::Mode::empty()).unwrap();
        assert!(is_locked(&master).unwrap());
        set_locked(&master, false).unwrap();
        let slave = open_slave(&master, libc::O_RDWR | libc::O_NOCTTY).unwrap();
        let mut settings = termios(&slave).unwrap();
        settings.lflag &= !libc::ECHO;
        set_termios(&master, &settings).unwrap();
        assert_eq!(termios(&slave).unwrap(), settings);
        set_packet_mode(&master, true).unwrap();
        assert!(is_packet_mode(&master).unwrap());
        assert_eq!(session(&master).unwrap_or_default(), HostPid::NONE);
    }
}
