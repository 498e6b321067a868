//! An open file of a dumpee, with all that kinds may ask about it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;

use super::fdinfo::Fdinfo;
use super::served::Served;
use crate::error::{Context, Error, Refusal, Result};
use crate::images::proto::FownEntry;
use crate::kernel::memory::Stretch;
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteFd;
use crate::kernel::{descriptor, owner, pidfd};
use crate::objects::pids;
use crate::objects::place::reopen;

/// `f_type` of the file system of eventfds, epoll files and the like.
pub(super) const ANON_INODE_FS: i64 = 0x0904_1934;
/// `f_type` of the file system of anonymous pipes.
pub(super) const PIPE_FS: i64 = 0x5049_5045;
/// `f_type` of procfs.
pub(super) const PROC_FS: i64 = 0x9fa0;
/// `f_type` of the file system of pseudo terminals.
pub(super) const DEVPTS_FS: i64 = 0x1cd1;

/// Why a file was not captured.
#[derive(Debug)]
pub(super) enum NotCaptured {
    /// Something went wrong.
    Failed(Error),
    /// It cannot be carried; the place is filled in by the collector.
    Refused(Refusal),
}

impl From<Error> for NotCaptured {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What capturing one file gives.
pub(super) type Captured<T> = std::result::Result<T, NotCaptured>;

/// An open file of a dumpee, with a copy of it in the engine.
#[derive(Debug)]
pub(super) struct Opened {
    /// The process in which it was met first, and its number there; 0 and -1 for a path.
    pub pid: HostPid,
    pub fd: i32,
    /// For messages: `pid 12 fd 5`.
    pub place: String,
    pub file: OwnedFd,
    pub stat: libc::stat,
    pub fs_type: i64,
    /// Where `/proc/PID/fd/N` points to.
    pub link: PathBuf,
    pub info: Fdinfo,
    pub owner: FownEntry,
    /// Where a process has the beginning of the file mapped, if it was met as a mapped file.
    pub head: Option<Stretch>,
}

impl Opened {
    /// Descriptor `fd` of the process behind `pidfd`.
    pub fn of_task(
        pidfd: &OwnedFd,
        pid: HostPid,
        number: i32,
        info: Fdinfo,
        served: &mut Served,
    ) -> Captured<Self> {
        let place = format!("pid {pid} fd {number}");
        let file = pidfd::getfd(pidfd, RemoteFd(number)).doing(|| format!("{place}: copy it"))?;
        let mut opened = Self::complete((pid, number), place, file, info, served)?;
        if !opened.is_path_only() {
            opened.owner = owner_of(&opened.file).doing(|| opened.place.clone())?;
        }
        Ok(opened)
    }

    /// A file that a task has without a descriptor: its executable, a mapped file, its directory.
    pub fn of_path(
        file: OwnedFd,
        head: Option<Stretch>,
        place: &str,
        served: &mut Served,
    ) -> Captured<Self> {
        let known = descriptor::known(&file).doing(|| format!("{place}: statx"))?;
        let info = Fdinfo::of_path(known.mount);
        let opened = Self::complete((HostPid::NONE, -1), place.to_string(), file, info, served)?;
        Ok(Self { head, ..opened })
    }

    fn complete(
        (pid, fd): (HostPid, i32),
        place: String,
        file: OwnedFd,
        info: Fdinfo,
        served: &mut Served,
    ) -> Captured<Self> {
        let own = descriptor::own_path(file.as_fd());
        let link = std::fs::read_link(&own).doing(|| format!("{place}: find its path"))?;
        let Some(told) = served.ask(file, info.mnt_id, &link)? else {
            return Err(NotCaptured::Refused(silent(place, &link)));
        };
        let (file, stat, fs_type) = told.doing(|| format!("{place}: fstat, fstatfs"))?;
        let (owner, head) = (FownEntry::default(), None);
        Ok(Self { pid, fd, place, file, stat, fs_type, link, info, owner, head })
    }

    /// The status flags, which images hold without close-on-exec: that belongs to the descriptor.
    pub fn flags(&self) -> u32 {
        self.info.flags & !libc::O_CLOEXEC.cast_unsigned()
    }

    /// Whether its type is `kind`.
    pub fn is(&self, kind: SFlag) -> bool {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT == kind
    }

    /// Whether it is the anonymous file that the kernel calls `name`.
    pub fn is_anonymous(&self, name: &str) -> bool {
        let short = self.link.to_str().and_then(|link| link.strip_prefix("anon_inode:"));
        self.fs_type == ANON_INODE_FS
            && short.is_some_and(|short| short.trim_matches(['[', ']']) == name)
    }

    /// Whether it was opened with O_PATH, so that hardly any call can be made on it.
    pub fn is_path_only(&self) -> bool {
        self.flags() & libc::O_PATH.cast_unsigned() != 0
    }

    /// Whether data can be read from it.
    pub fn is_readable(&self) -> bool {
        self.flags() & libc::O_ACCMODE.cast_unsigned() != libc::O_WRONLY.cast_unsigned()
    }

    /// What names it in messages.
    pub fn object(&self) -> String {
        self.link.display().to_string()
    }

    /// A copy of the dumpee's descriptor, if data can be read by it. Its position is the dumpee's.
    pub fn copy_to_read(&self) -> Result<Option<OwnedFd>> {
        if self.fd < 0 || self.is_path_only() || !self.is_readable() {
            return Ok(None);
        }
        let copy = self.file.try_clone().doing(|| format!("{}: copy it", self.place))?;
        Ok(Some(copy))
    }

    /// Opens the file anew, which whoever watches it notices. It would break a lease, for which a
    /// process may be killed.
    pub fn open_again(&self, flags: i32) -> Captured<OwnedFd> {
        if self.info.values("lock").any(|lock| lock.contains(" LEASE ")) {
            return Err(self.refuse("leases and such locks are not carried", "release it"));
        }
        let opened = reopen(&self.file, flags);
        opened.map_err(|error| error.context(format!("{}: {}", self.place, self.object())).into())
    }

    /// Its path. The image format can hold only UTF-8.
    pub fn path(&self) -> Captured<&str> {
        self.link.to_str().ok_or_else(|| {
            self.refuse("its name is not UTF-8, which the image format cannot hold", "rename it")
        })
    }

    /// The refusal to carry it.
    pub fn refuse(&self, reason: impl Into<String>, remedy: impl Into<String>) -> NotCaptured {
        NotCaptured::Refused(Refusal {
            place: self.place.clone(),
            object: self.object(),
            reason: reason.into(),
            remedy: remedy.into(),
        })
    }
}

/// The refusal of a file whose file system does not answer.
pub(super) fn silent(place: String, link: &Path) -> Refusal {
    Refusal {
        place,
        object: link.display().to_string(),
        reason: "a process serves its file system and does not answer; it is stopped if it is one \
                 of the tree"
            .into(),
        remedy: "close the file, or let another process serve it".into(),
    }
}

/// `path` without what the kernel appends to a name that is gone.
pub(super) fn without_deleted(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

/// Who gets the file's signals. An owner that has died counts as none.
fn owner_of(file: &OwnedFd) -> nix::Result<FownEntry> {
    let mut entry =
        FownEntry { signum: owner::signal(file)?.cast_unsigned(), ..FownEntry::default() };
    let owner = owner::get(file)?;
    if owner.pid != HostPid::NONE {
        (entry.uid, entry.euid) = owner::uids(file)?;
        entry.pid_type = owner.kind.cast_unsigned();
        entry.pid = pids::tree(owner.pid).number();
    }
    Ok(entry)
}
