//! Processes of our own that serve others: born by fork, with the rights of somebody else.

use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{ForkResult, Gid, Uid};

use super::ptrace::Sys;
use crate::error::{Context, Result};

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const CAP_CHECKPOINT_RESTORE: u32 = 40;
/// Exit status of a child that panicked.
const PANICKED: i32 = 101;

/// One half of the capabilities of a process; the low half comes first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Runs `work` in a child, which ends with the status that it returns. The result is its pid.
///
/// Only for processes with a single thread: the locks of others would stay taken in the child.
pub fn fork(work: impl FnOnce() -> i32) -> Sys<i32> {
    // SAFETY: there are no other threads (see above), so the child may do what it likes.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
            // SAFETY: ends this process; what the parent has registered to run at its end does not.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Waits for the end of a child. The result is the status as `waitpid` gives it.
pub fn wait_status(pid: i32) -> Sys<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` holds one number.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        match Errno::result(waited) {
            Err(Errno::EINTR) => {}
            result => return result.map(|_| status),
        }
    }
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
            // The length is now the one that is needed.
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Becomes another user for good. Of root's capabilities only CAP_CHECKPOINT_RESTORE is left, which
/// opens the files that a process has mapped; the kernel asks for the rights over the process as
/// well. It also keeps the user, who has it not, from tracing this process.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let doing = || format!("take the rights of user {uid}");
    prctl::set_no_new_privs().doing(doing)?;
    prctl::set_keepcaps(true).doing(doing)?;
    nix::unistd::setgroups(&groups).doing(doing)?;
    nix::unistd::setresgid(gid, gid, gid).doing(doing)?;
    nix::unistd::setresuid(uid, uid, uid).doing(doing)?;
    prctl::set_keepcaps(false).doing(doing)?;
    keep_capability(CAP_CHECKPOINT_RESTORE)
        .doing(|| "keep CAP_CHECKPOINT_RESTORE, which is needed to serve other users")?;
    // Our own files in /proc would be root's otherwise.
    prctl::set_dumpable(true).doing(doing)
}

/// Gives up every capability but this one, which has to be there.
fn keep_capability(number: u32) -> Sys<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let (index, bit) = (number as usize / 32, 1 << (number % 32));
    let mut halves = [CapabilityHalf::default(); 2];
    halves[index] = CapabilityHalf { effective: bit, permitted: bit, inheritable: 0 };
    let data = halves.as_ptr();
    // SAFETY: the kernel reads two halves, as this version of the interface says.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_none_cannot_be_waited_for() {
        assert_eq!(wait_status(1), Err(Errno::ECHILD));
    }

    #[test]
    fn the_groups_of_a_peer_are_those_of_its_maker() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut groups = peer_groups(&ours).unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }
}
