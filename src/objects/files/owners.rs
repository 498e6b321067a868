//! Restores the owners of open files: who gets their signals (`F_SETOWN`, `F_SETSIG`).

use std::os::fd::OwnedFd;

use nix::sys::prctl;
use nix::unistd::{geteuid, getuid};

use super::context::RestoreCx;
use super::registry::kind_of;
use crate::error::{Context, Result};
use crate::images::pid::TreePid;
use crate::images::proto::FownEntry;
use crate::kernel::owner::Owner;
use crate::kernel::{owner, threads};
use crate::objects::pids;

/// Gives every open file its owner back.
pub(super) fn put_back(cx: &RestoreCx<'_>) -> Result<()> {
    for (id, file) in cx.fds() {
        let entry = cx.snapshot.files.get(&id);
        let owner = entry.and_then(|entry| (kind_of(entry)?.owner)(entry, cx.snapshot));
        if let Some(owner) = owner {
            let who = || format!("{} {}", who(owner.pid_type), owner.pid);
            set(file, owner).doing(|| format!("make {} the owner of file {id}", who()))?;
        }
    }
    Ok(())
}

fn who(kind: u32) -> &'static str {
    match kind {
        0 => "thread",
        1 => "process",
        _ => "process group",
    }
}

/// The kernel notes the uid and euid of the thread that sets the owner, and checks them when it
/// sends a signal; so a thread of the engine takes on those of the image for that call.
fn set(file: &OwnedFd, entry: &FownEntry) -> nix::Result<()> {
    if entry.signum != 0 {
        owner::set_signal(file, entry.signum.cast_signed())?;
    }
    if entry.pid == 0 {
        return Ok(());
    }
    let owner =
        Owner { kind: entry.pid_type.cast_signed(), pid: pids::host(TreePid::new(entry.pid)) };
    if (entry.uid, entry.euid) == (getuid().as_raw(), geteuid().as_raw()) {
        return owner::set(file, owner);
    }
    // When any thread changes its uid, the kernel makes the whole process undumpable.
    let dumpable = prctl::get_dumpable()?;
    let set = threads::in_own_thread(|| {
        owner::set_thread_uids(entry.uid, entry.euid)?;
        owner::set(file, owner)
    });
    prctl::set_dumpable(dumpable)?;
    set
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use std::fs::File;

    #[test]
    fn owners_come_back_with_their_uids() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("file"), b"").unwrap();
        let file: OwnedFd = File::open(scratch.path("file")).unwrap().into();
        let holder = hold(&[(3, &file)]);
        let owner = Owner { kind: 1, pid: holder.pid() };
        owner::set_signal(&file, libc::SIGUSR2).unwrap();
        threads::in_own_thread(|| {
            owner::set_thread_uids(1234, 0)?;
            owner::set(&file, owner)
        })
        .unwrap();
        prctl::set_dumpable(true).unwrap();
        let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
        let fown = entry_of(&snapshot, 3).reg.as_ref().unwrap().fown;
        assert_eq!((fown.uid, fown.euid, fown.signum), (1234, 0, libc::SIGUSR2 as u32));
        let restored = restore(&snapshot).unwrap();
        let again = copy_of(&restored, 3);
        let owner = Owner { kind: 1, pid: restored.pid() };
        assert_eq!(owner::get(&again), Ok(owner));
        assert_eq!(owner::uids(&again), Ok((1234, 0)));
        assert_eq!(owner::signal(&again), Ok(libc::SIGUSR2));
        assert_eq!(prctl::get_dumpable(), Ok(true));
    }
}
