//! File systems that some process answers for, as those of FUSE or NFS.
//!
//! That process may be one of the tree, and stopped: then whoever asks it waits for ever, and so does
//! who closes a file of it. What has to be asked is asked by a thread that nobody waits for longer
//! than the request allows; it ends when the tree runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{FileStat, fstat, lstat, stat};
use nix::sys::statfs::fstatfs;

use crate::error::{Context, Result};
use crate::kernel::{Sys, proc, threads};

/// Types of file systems, or what stands before the dot in them, whose files a process may serve.
const SERVED: &[&str] =
    &["fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "coda", "orangefs"];

/// Where the kernel has its own mounts, which nobody sees in a list: their paths begin so.
const OWN_PATHS: &[&str] = &["/memfd:", "/dev/zero (deleted)", "/SYSV"];

/// What is known of the mounts.
#[derive(Debug)]
pub(super) struct Served {
    patience: Duration,
    /// Whether a process serves it, for each mount by id. Read when it is asked for first.
    mounts: Option<BTreeMap<i32, bool>>,
    /// Mounts whose server does not answer.
    silent: BTreeSet<i32>,
}

/// A file, and what only its file system can tell: the status, and which type of file system it is.
pub(super) type Told = Sys<(OwnedFd, libc::stat, i64)>;

impl Served {
    /// Nothing is known yet; a server has so much time for an answer.
    pub fn new(patience: Duration) -> Self {
        Self { patience, mounts: None, silent: BTreeSet::new() }
    }

    /// What the file system tells of a file with this path. None if its server does not answer.
    pub fn ask(&mut self, file: OwnedFd, mount: i32, link: &Path) -> Result<Option<Told>> {
        if self.is_served(mount, link)? {
            self.within(mount, move || ask(file))
        } else {
            Ok(Some(ask(file)))
        }
    }

    /// What a path leads to, which may cross any mount. None if a server does not answer.
    pub fn stat(&mut self, path: &Path, follow: bool, mount: i32) -> Result<Option<Sys<FileStat>>> {
        let find = if follow { stat::<Path> } else { lstat::<Path> };
        if self.mounts()?.values().any(|served| *served) {
            let path = path.to_path_buf();
            self.within(mount, move || find(&path))
        } else {
            Ok(Some(find(path)))
        }
    }

    /// Does what may ask the server of a mount. None if it does not answer.
    fn within<T: Send + 'static>(
        &mut self,
        mount: i32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let patience = if self.silent.contains(&mount) { Duration::ZERO } else { self.patience };
        let answer = threads::within(patience, work).doing(|| "ask a file system")?;
        if answer.is_none() {
            self.silent.insert(mount);
        }
        Ok(answer)
    }

    /// Whether a process may serve the mount in which a file with this path is. Of a mount that is
    /// detached nothing is known.
    fn is_served(&mut self, mount: i32, link: &Path) -> Result<bool> {
        let bytes = link.as_os_str().as_encoded_bytes();
        let own = || OWN_PATHS.iter().any(|own| bytes.starts_with(own.as_bytes()));
        let known = self.mounts()?.get(&mount).copied();
        Ok(known.unwrap_or_else(|| link.is_absolute() && !own()))
    }

    fn mounts(&mut self) -> Result<&BTreeMap<i32, bool>> {
        Ok(match &mut self.mounts {
            Some(known) => known,
            none => {
                let path = "/proc/self/mountinfo";
                let text = proc::text(path).doing(|| format!("read {path}"))?;
                none.insert(mounts(&text))
            }
        })
    }
}

/// A file that it cannot tell of is closed by the thread that asked: that, too, asks its server.
fn ask(file: OwnedFd) -> Told {
    let told = (fstat(&file)?, fstatfs(&file)?.filesystem_type().0);
    Ok((file, told.0, told.1))
}

/// Which mounts there are, and whether a process serves each.
fn mounts(text: &str) -> BTreeMap<i32, bool> {
    let parse = |line: &str| {
        let id = line.split(' ').next()?.parse().ok()?;
        let (_, behind) = line.split_once(" - ")?;
        let kind = behind.split([' ', '.']).next()?;
        Some((id, SERVED.contains(&kind)))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::File;
    use std::sync::mpsc;

    const MOUNTS: &str = "\
22 1 0:20 / / rw,relatime - ext4 /dev/vda1 rw
23 22 0:21 / /mnt/a\\040-\\040b rw shared:1 - fuse.sshfs host:/ rw,user_id=0
24 22 0:22 / /net rw - nfs4 host:/ rw
25 22 0:23 / /f rw - fuse x rw
26 22 0:24 / /fuse rw - tmpfs fuse rw
";

    #[test]
    fn mounts_are_told_by_their_type() {
        let served: Vec<i32> =
            mounts(MOUNTS).into_iter().filter(|(_, served)| *served).map(|(id, _)| id).collect();
        assert_eq!(served, [23, 24, 25]);
        assert_eq!(mounts(MOUNTS).len(), 5);
    }

    #[test]
    fn of_a_detached_mount_nothing_is_taken_for_granted() {
        let mut served = Served::new(Duration::MAX);
        assert!(served.is_served(i32::MAX, Path::new("/gone")).unwrap());
        assert!(!served.is_served(i32::MAX, Path::new("/memfd:x (deleted)")).unwrap());
        assert!(!served.is_served(i32::MAX, Path::new("pipe:[5]")).unwrap());
        let file: OwnedFd = File::open("/proc/self/status").unwrap().into();
        let told = served.ask(file, i32::MAX, Path::new("/gone")).unwrap().unwrap();
        assert_eq!(told.unwrap().2, super::super::opened::PROC_FS);
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let mut served = Served::new(Duration::ZERO);
        let (go_on, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let stuck = move || {
            let _ = wait.recv();
            let _ = tell.send(());
        };
        assert!(served.within(5, stuck).unwrap().is_none());
        go_on.send(()).unwrap();
        told.recv().unwrap();
    }
}
