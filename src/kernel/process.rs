//! Processes of our own that serve others: born by fork, with the rights of somebody else.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{ForkResult, Gid, Uid};

use super::Sys;
use super::capability;
use super::pid::HostPid;
use crate::error::{Context, Error, Result};

/// Exit status of a child that panicked.
const PANICKED: i32 = 101;

/// Runs `work` in a child, which ends with the status that it returns. The result is its pid.
///
/// Only for processes with a single thread: the locks of others would stay taken in the child.
pub fn fork(work: impl FnOnce() -> i32) -> Sys<HostPid> {
    // SAFETY: there are no other threads (see above), so the child may do what it likes.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(HostPid::new(child.as_raw())),
        ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
            // SAFETY: ends this process without running what the parent has registered for its own
            // end.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Waits for the end of a child. The result is the status as `waitpid` gives it.
pub fn wait_status(pid: HostPid) -> Sys<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` holds one number.
        let waited = unsafe { libc::waitpid(pid.number(), &raw mut status, 0) };
        match Errno::result(waited) {
            Err(Errno::EINTR) => {}
            result => return result.map(|_| status),
        }
    }
}

/// Becomes `program` in the place of a child that a [`fork`] made, with nothing of its maker but the
/// rights: neither memory nor environment, and of the descriptors only `input`, as standard input.
///
/// Who gives rights up later can then be made to show its memory, by a core dump or otherwise, and
/// shows nothing of whom it got them from. Returns only if that failed.
pub fn begin_afresh(program: &str, arguments: &[&str], input: OwnedFd) -> Error {
    let doing = || format!("start {program} afresh");
    let left = nix::unistd::setsid().and_then(|_| leave_keyring()).and_then(|()| close_on_exec());
    if let Err(errno) = left {
        return Error::sys(doing(), errno);
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/");
    command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
    Error::io(doing(), &command.exec())
}

/// Keys go with the session's keyring, whoever the process becomes.
fn leave_keyring() -> Sys<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a new keyring without a name reads no memory.
    match Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) })
    {
        // A kernel without keys.
        Err(Errno::ENOSYS) => Ok(()),
        result => result.map(drop),
    }
}

/// Everything but the standard files.
fn close_on_exec() -> Sys<()> {
    let first = libc::STDERR_FILENO as libc::c_uint + 1;
    // SAFETY: takes numbers only; what is open stays open until this process executes something.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    Errno::result(done).map(drop)
}

/// Becomes the user who connected to a service, for good; see [`become_user`]. Nothing that it
/// executes gets more rights.
pub fn become_peer(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let doing = || format!("take the rights of user {uid}");
    prctl::set_no_new_privs().doing(doing)?;
    nix::unistd::setgroups(&groups).doing(doing)?;
    become_user(Uid::from_raw(uid), Gid::from_raw(gid))
}

/// Becomes the user who started this program, for good, where its file gave it more rights: by
/// set-user-ID, set-group-ID or capabilities.
///
/// Supplementary groups are the user's own already. What is executed may gain rights again, as
/// restored processes could not get rid of no_new_privs.
pub fn become_caller() -> Result<()> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let differs = uid != nix::unistd::geteuid() || gid != nix::unistd::getegid();
    if uid.is_root() && differs {
        // Root has its own rights whatever the file says.
        let doing = || "take the rights of root".to_owned();
        nix::unistd::setresgid(gid, gid, gid).doing(doing)?;
        return nix::unistd::setresuid(uid, uid, uid).doing(doing);
    }
    if differs || gained_rights() { become_user(uid, gid) } else { Ok(()) }
}

/// Capabilities of this process that are not its user's own: the program's file lent them, to be
/// used on behalf of the user and never to be handed on.
pub fn lent_capabilities() -> Sys<u64> {
    if gained_rights() && !nix::unistd::geteuid().is_root() {
        return capability::permitted();
    }
    Ok(0)
}

/// Whether executing the program gave rights that its starter had not.
fn gained_rights() -> bool {
    // SAFETY: takes a number only.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Becomes another user for good. Of root's capabilities only CAP_CHECKPOINT_RESTORE is left, where
/// it is there: it gives processes their numbers and opens the files that they have mapped; the
/// kernel asks for the rights over the process as well. It also keeps the user, who has it not,
/// from tracing this process.
fn become_user(uid: Uid, gid: Gid) -> Result<()> {
    let doing = || format!("take the rights of user {uid}");
    prctl::set_keepcaps(true).doing(doing)?;
    nix::unistd::setresgid(gid, gid, gid).doing(doing)?;
    nix::unistd::setresuid(uid, uid, uid).doing(doing)?;
    prctl::set_keepcaps(false).doing(doing)?;
    let wanted = capability::only(capability::CHECKPOINT_RESTORE);
    let kept = capability::permitted().doing(doing)? & wanted;
    capability::keep(kept).doing(doing)?;
    // Without this our own files in /proc would belong to root.
    prctl::set_dumpable(true).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_none_cannot_be_waited_for() {
        assert_eq!(wait_status(HostPid::INIT), Err(Errno::ECHILD));
    }
}
