//! The process at the other end of a connection, and what is taken from it.
//!
//! A descriptor that a message names is one of the process that connected. It is taken through that
//! process's pidfd, which the kernel made when it connected: a pid could mean somebody else by now.
//! The kernel lets only those take who might trace the process.

use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::Mode;

use super::wire::Channel;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteFd;
use crate::kernel::{pidfd, proc, socket};
use crate::objects::task::status::Status;

/// Who connected, as the kernel noted it then.
#[derive(Debug)]
pub struct Peer {
    pub pid: HostPid,
    pub uid: u32,
    pub gid: u32,
    /// None where the kernel no longer knows it.
    pidfd: Option<OwnedFd>,
}

impl Peer {
    /// The process that made, or connected, the other end of a channel.
    pub fn of(channel: &Channel) -> Result<Self> {
        let credentials = getsockopt(channel, sockopt::PeerCredentials)
            .doing(|| "SO_PEERCRED of the RPC socket")?;
        // A process that is gone has none, and no descriptors either.
        let pidfd = getsockopt(channel, sockopt::PeerPidfd).ok();
        let (pid, uid, gid) =
            (HostPid::new(credentials.pid()), credentials.uid(), credentials.gid());
        Ok(Self { pid, uid, gid, pidfd })
    }

    /// This process, for a caller who runs the engine itself.
    pub fn this_process() -> Self {
        let pid = HostPid::own();
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Self { pid, uid, gid, pidfd: pidfd::open(pid).ok() }
    }

    /// Whether the peer has all capabilities of this process, in the same user namespace: root of
    /// a container may have user id 0 as well.
    pub fn is_our_equal(&self) -> bool {
        let own = status_of("self").map(|status| status.permitted);
        let theirs = status_of(self.pid).map(|status| status.effective);
        let namespace = |pid: &dyn Display| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let same = namespace(&"self").is_some() && namespace(&"self") == namespace(&self.pid);
        // Asked last: while it lives, its pid is nobody else's.
        let lives = self.pidfd.as_ref().is_some_and(is_alive);
        matches!((own, theirs), (Some(own), Some(theirs)) if own & !theirs == 0) && same && lives
    }

    /// A copy of the peer's descriptor `fd`; `what` is what it is said to be.
    fn take(&self, what: &str, fd: i32) -> Result<OwnedFd> {
        let Some(pidfd) = &self.pidfd else {
            let cause = format!("{what} {fd}: pid {} that connected is gone", self.pid);
            return Err(Error::new(Kind::BadOptions, cause));
        };
        pidfd::getfd(pidfd, RemoteFd(fd)).map_err(|errno| {
            let error = Error::sys(format!("take {what} {fd} of pid {}", self.pid), errno);
            match errno {
                Errno::EBADF => error.remedy("it is not open in the process that connected"),
                Errno::EPERM => {
                    error.remedy("only of a process that could be traced can it be taken")
                }
                _ => error,
            }
        })
    }

    /// The directory behind the peer's descriptor `fd`, opened anew with our own rights.
    pub fn directory(&self, what: &str, fd: i32) -> Result<OwnedFd> {
        let taken = self.take(what, fd)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&taken, ".", flags, Mode::empty()).doing(|| format!("open {what} {fd}"))
    }
}

fn status_of(pid: impl Display) -> Option<Status> {
    let text = proc::text(&format!("/proc/{pid}/status")).ok()?;
    Status::parse(&text).ok()
}

/// A pidfd becomes readable when its process ends.
fn is_alive(pidfd: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut ended, PollTimeout::ZERO), Ok(0))
}

/// The supplementary groups of who connected.
pub fn groups(channel: &Channel) -> Result<Vec<u32>> {
    socket::peer_groups(channel.as_fd()).doing(|| "SO_PEERGROUPS of the RPC socket")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_directory_is_taken_and_nothing_else() {
        let peer = Peer::this_process();
        let tmp = std::fs::File::open("/tmp").unwrap();
        let taken = peer.directory("images_dir_fd", tmp.as_raw_fd()).unwrap();
        let inode = |fd: &dyn AsRawFd| {
            std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).map(|found| {
                use std::os::unix::fs::MetadataExt;
                (found.dev(), found.ino())
            })
        };
        assert_eq!(inode(&taken).unwrap(), inode(&tmp).unwrap());
        let null = std::fs::File::open("/dev/null").unwrap();
        let error = peer.directory("work_dir_fd", null.as_raw_fd()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOTDIR));
        let error = peer.directory("work_dir_fd", 1_000_000).unwrap_err().to_string();
        assert!(error.contains("work_dir_fd 1000000") && error.contains("not open"), "{error}");
    }
}
