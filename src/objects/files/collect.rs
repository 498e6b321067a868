//! Collects the open files of the tasks that are dumped.
//!
//! The [`Collector`] is told of every table, working directory and mapped file. It finds out which
//! descriptors lead to the same open file ([`identity`](super::identity)), numbers the open files,
//! and has each captured once by the kind that claims it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::context::{CollectorOptions, DumpCx, Gathered, SharedFile};
use super::fdinfo::Fdinfo;
use super::identity::{Fate, Found, KnownFiles};
use super::kind::{Descriptor, FileId};
use super::link::Links;
use super::open::DescriptorLimit;
use super::opened::{Captured, NotCaptured, Opened};
use super::served::Served;
use super::{ATTRIBUTES, AllMet, KINDS, refused};
use crate::error::{Context, Error, Kind, Refusal, Refusals, Result};
use crate::images::payload::Spool;
use crate::images::proto::{FdTypes, FdinfoEntry, FsEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::memory::Stretch;
use crate::kernel::pid::HostPid;
use crate::kernel::pidfd;
use crate::tracee::dumpee::FrozenTask;

/// `FdinfoEntry.flags`: closed by execve.
pub(super) const FD_CLOEXEC: u32 = 1;

/// What is left to do when all files are in the snapshot.
#[derive(Debug)]
#[must_use]
pub struct Collected {
    /// Files whose contents are to be stored as shared memory.
    pub shared: Vec<SharedFile>,
    /// What the user may want to be told: which connections the dump cuts.
    pub notes: Vec<String>,
    /// Links to files that had lost their names; they are to be kept when the dump is whole.
    pub links: Links,
    /// Raised while files whose contents are still to be written stay open.
    pub limit: Option<DescriptorLimit>,
}

/// Collects files while tasks are captured, into the snapshot of the dump.
#[derive(Debug)]
pub struct Collector {
    options: CollectorOptions,
    known: KnownFiles,
    /// Files that were asked for by path.
    paths: HashMap<(u64, u64, PathBuf), FileId>,
    met: AllMet,
    gathered: Gathered,
    served: Served,
    /// A descriptor that is no part of the process.
    #[cfg(test)]
    pub(super) ignored: Option<i32>,
}

impl Collector {
    /// Nothing collected yet; `spool` takes what would need much memory.
    pub fn new(options: CollectorOptions, spool: Spool) -> Self {
        Self {
            served: Served::new(options.patience),
            options,
            known: KnownFiles::default(),
            paths: HashMap::new(),
            met: AllMet::default(),
            gathered: Gathered::new(spool),
            #[cfg(test)]
            ignored: None,
        }
    }

    /// Captures every descriptor of a process. The result is the table's fdinfo-ID.img.
    ///
    /// This is called once per table, for the first of the tasks that share it.
    pub fn add_table(
        &mut self,
        task: &FrozenTask,
        out: &mut Snapshot,
        refusals: &mut Refusals,
    ) -> Result<Vec<FdinfoEntry>> {
        self.add_table_of(task.pid, out, refusals)
    }

    /// Does the same for a process that is not frozen, but does not change its descriptors.
    pub(super) fn add_table_of(
        &mut self,
        pid: HostPid,
        out: &mut Snapshot,
        refusals: &mut Refusals,
    ) -> Result<Vec<FdinfoEntry>> {
        let pidfd = pidfd::open(pid).doing(|| format!("pid {pid}: pidfd_open"))?;
        let mut entries = Vec::new();
        for number in numbers(pid)? {
            #[cfg(test)]
            if self.ignored == Some(number) {
                continue;
            }
            let info = Fdinfo::read(pid, number)?;
            let file = match self.known.find(pid, number, &info)? {
                Found::Known(file) => file,
                Found::New(vacancy) => {
                    let fate = self.meet(&pidfd, pid, number, &info, out)?;
                    self.known.add(vacancy, pid, number, fate)
                }
            };
            let descriptor = Descriptor { pid, number, file, info: &info };
            for attribute in ATTRIBUTES {
                let (met, mut cx) = self.contexts(out);
                (attribute.capture)(&descriptor, met, &mut cx, refusals)?;
            }
            match &self.known.all()[file].fate {
                Fate::Carried(id, kind) => entries.push(FdinfoEntry {
                    id: *id,
                    flags: if info.is_cloexec() { FD_CLOEXEC } else { 0 },
                    r#type: *kind as i32,
                    fd: number.cast_unsigned(),
                    xattr_security_selinux: None,
                }),
                Fate::Refused(refusal) => refusals
                    .add(Refusal { place: format!("pid {pid} fd {number}"), ..refusal.clone() }),
            }
        }
        Ok(entries)
    }

    /// Captures a file that is used by its path: executable, mapped file, working directory.
    ///
    /// `file` may be opened with O_PATH; a process may have its beginning mapped at `head`. A file that
    /// was captured before keeps its id.
    pub fn add_path(
        &mut self,
        file: OwnedFd,
        head: Option<Stretch>,
        place: &str,
        out: &mut Snapshot,
        refusals: &mut Refusals,
    ) -> Result<FileId> {
        let opened = match Opened::of_path(file, head, place, &mut self.served) {
            Ok(opened) => opened,
            Err(NotCaptured::Failed(error)) => return Err(error),
            Err(NotCaptured::Refused(refusal)) => {
                refusals.add(refusal);
                return Ok(self.gathered.new_id());
            }
        };
        let key = (opened.stat.st_dev, opened.stat.st_ino, opened.link.clone());
        if let Some(id) = self.paths.get(&key) {
            return Ok(*id);
        }
        let id = self.gathered.new_id();
        match self.capture(&opened, id, out) {
            Ok(_) => {}
            Err(NotCaptured::Refused(refusal)) => refusals.add(refusal),
            Err(NotCaptured::Failed(error)) => return Err(error.context(place)),
        }
        self.paths.insert(key, id);
        Ok(id)
    }

    /// Captures the working directory, root and umask of a process.
    pub fn add_fs(
        &mut self,
        task: &FrozenTask,
        out: &mut Snapshot,
        refusals: &mut Refusals,
    ) -> Result<FsEntry> {
        self.add_fs_of(task.pid, task.status(0)?, out, refusals)
    }

    /// Does the same for a process whose `/proc/PID/status` holds `status`.
    pub(super) fn add_fs_of(
        &mut self,
        pid: HostPid,
        status: &[u8],
        out: &mut Snapshot,
        refusals: &mut Refusals,
    ) -> Result<FsEntry> {
        let mut directory = |name: &str| {
            let (path, place) = (format!("/proc/{pid}/{name}"), format!("pid {pid} {name}"));
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
            let file = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
                .doing(|| format!("open {path}"))?;
            self.add_path(file, None, &place, out, refusals)
        };
        let (cwd_id, root_id) = (directory("cwd")?, directory("root")?);
        Ok(FsEntry { cwd_id, root_id, umask: Some(umask(pid, status)?) })
    }

    /// Lets every kind do what it can only do when all descriptor tables are in `out`.
    ///
    /// Kinds that have to touch what the dumpee can see come last, and only if nothing is refused.
    pub fn finish(mut self, out: &mut Snapshot, refusals: &mut Refusals) -> Result<Collected> {
        for kind in KINDS {
            let (met, mut cx) = self.contexts(out);
            (kind.settle)(met, &mut cx, refusals)?;
        }
        if refusals.is_empty() {
            for kind in KINDS {
                let (met, mut cx) = self.contexts(out);
                (kind.touch)(met, &mut cx)?;
            }
        }
        let Gathered { shared, notes, links, limit, .. } = self.gathered;
        Ok(Collected { shared, notes, links, limit })
    }

    fn contexts<'a>(&'a mut self, out: &'a mut Snapshot) -> (&'a mut AllMet, DumpCx<'a>) {
        let Self { options, known, met, gathered, served, .. } = self;
        (met, DumpCx { options, out, known: known.all(), gathered, served })
    }

    fn meet(
        &mut self,
        pidfd: &OwnedFd,
        pid: HostPid,
        number: i32,
        info: &Fdinfo,
        out: &mut Snapshot,
    ) -> Result<Fate> {
        let opened = match Opened::of_task(pidfd, pid, number, info.clone(), &mut self.served) {
            Ok(opened) => opened,
            Err(NotCaptured::Refused(refusal)) => return Ok(Fate::Refused(refusal)),
            Err(NotCaptured::Failed(error)) => return Err(error),
        };
        let id = self.gathered.new_id();
        match self.capture(&opened, id, out) {
            Ok(kind) => Ok(Fate::Carried(id, kind)),
            Err(NotCaptured::Refused(refusal)) => Ok(Fate::Refused(refusal)),
            Err(NotCaptured::Failed(error)) => {
                Err(error.context(format!("{} ({})", opened.place, opened.object())))
            }
        }
    }

    /// Has the kind that claims an open file capture it; the result is that kind.
    fn capture(&mut self, opened: &Opened, id: FileId, out: &mut Snapshot) -> Captured<FdTypes> {
        let (met, mut cx) = self.contexts(out);
        match KINDS.iter().find(|kind| (kind.claim)(opened, &cx)) {
            Some(kind) => (kind.capture)(opened, id, met, &mut cx).map(|()| kind.file_type),
            None => Err(refused::refuse(opened)),
        }
    }
}

/// The numbers of all descriptors of a process, ascending.
fn numbers(pid: HostPid) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/fd");
    let read = || -> std::io::Result<Vec<i32>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    };
    read().doing(|| format!("read {path}"))
}

fn umask(pid: HostPid, status: &[u8]) -> Result<u32> {
    String::from_utf8_lossy(status)
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|value| u32::from_str_radix(value.trim(), 8).ok())
        .ok_or_else(|| Error::new(Kind::System, format!("/proc/{pid}/status: it has no umask")))
}
