//! Collects the open files of the tasks that are dumped.
//!
//! The identity of open file descriptions is settled here, once: two descriptors are the same
//! file if kcmp says so. Descriptions are sorted into buckets by what is cheap to know (mount,
//! inode, position, flags) and ordered by kcmp within, so that a new descriptor costs a few
//! comparisons; before that the guess is tried that a task has the same file under the same
//! number as the task before it, which is right for nearly every forked child.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::OwnedFd;

use super::fdinfo::Fdinfo;
use super::link::Links;
use super::opened::{NotCaptured, Opened};
use super::{KINDS, epoll, locks, memfd, pipe, refused, tty};
use crate::error::{Context, Error, Kind, Refusal, Refusals, Result};
use crate::images::proto::{FdTypes, FdinfoEntry, FileEntry, FsEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::kcmp::{self, Kcmp};
use crate::kernel::pidfd;
use crate::tracee::dumpee::FrozenTask;

/// `FdinfoEntry.flags`: closed by execve.
pub(super) const FD_CLOEXEC: u32 = 1;

/// What the request says about files of a dump.
#[derive(Clone, Debug)]
pub struct CollectorOptions {
    /// Terminals from outside the tree are allowed: they are replaced by the restorer's.
    pub shell_job: bool,
    /// File locks are dumped.
    pub file_locks: bool,
    /// A file whose name is gone but that has other names may get a link of ours.
    pub link_remap: bool,
    /// Bytes that an unlinked file may hold.
    pub ghost_limit: u64,
    /// Keys of files that are brought from outside at restore: `file[MNT:INO]`, `tty[RDEV:DEV]`.
    pub external: Vec<String>,
    /// Inode number of the socket whose peer is dumped as the service socket.
    pub service_socket: Option<u64>,
    /// Build ids of programs and libraries are noted, for a check at restore.
    pub build_ids: bool,
    /// All processes that are dumped.
    pub pids: BTreeSet<i32>,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        Self {
            shell_job: false,
            file_locks: false,
            link_remap: false,
            ghost_limit: 1 << 20,
            external: Vec::new(),
            service_socket: None,
            build_ids: true,
            pids: BTreeSet::new(),
        }
    }
}

/// What is cheap to know of an open file and differs for different ones, mostly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    mnt_id: i32,
    ino: u64,
    pos: u64,
    flags: u32,
}

impl Key {
    fn of(info: &Fdinfo) -> Self {
        let flags = info.flags & !libc::O_CLOEXEC.cast_unsigned();
        Self { mnt_id: info.mnt_id, ino: info.ino, pos: info.pos, flags }
    }
}

/// A description that has been met, where, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub pid: i32,
    pub fd: i32,
    pub ino: u64,
    pub fate: Fate,
}

#[derive(Clone, Debug)]
pub(super) enum Fate {
    Carried(u32, FdTypes),
    Refused(Refusal),
}

/// What is left to do when all files are in the snapshot.
#[derive(Debug)]
#[must_use]
pub struct Collected {
    /// Memfds whose contents are to be stored as shared memory.
    pub shared: Vec<memfd::SharedFile>,
    /// What the user may want to be told: connections that are cut.
    pub notes: Vec<String>,
    /// Links to files that had lost their name; to be kept when the dump is whole.
    pub links: Links,
}

/// Collects files while tasks are captured; [`finish`](Self::finish) puts them into the snapshot.
#[derive(Debug)]
pub struct Collector {
    pub(super) options: CollectorOptions,
    pub(super) out: Snapshot,
    next_id: u32,
    known: Vec<Known>,
    buckets: HashMap<Key, Vec<usize>>,
    by_number: HashMap<i32, usize>,
    paths: HashMap<(u64, u64, std::path::PathBuf), u32>,
    /// The tables that were added: pid, and its descriptors by number.
    pub(super) tables: BTreeMap<i32, BTreeMap<i32, u32>>,
    pub(super) epolls: Vec<epoll::Pending>,
    pub(super) ttys: tty::Terminals,
    pub(super) memfds: memfd::Captures,
    pub(super) ghosts: HashMap<(u64, u64), u32>,
    /// Pipes, named or not, whose contents are stored.
    pub(super) stored_pipes: HashSet<(i32, u32)>,
    pub(super) locked: locks::Met,
    pub(super) links: Links,
    notes: Vec<String>,
    /// A descriptor that is no part of the process.
    #[cfg(test)]
    pub(super) ignored: Option<i32>,
}

impl Collector {
    /// Nothing collected yet.
    pub fn new(options: CollectorOptions) -> Result<Self> {
        Ok(Self {
            options,
            out: Snapshot::default(),
            next_id: 0,
            known: Vec::new(),
            buckets: HashMap::new(),
            by_number: HashMap::new(),
            paths: HashMap::new(),
            tables: BTreeMap::new(),
            epolls: Vec::new(),
            ttys: tty::Terminals::default(),
            memfds: memfd::Captures::default(),
            ghosts: HashMap::new(),
            stored_pipes: HashSet::new(),
            locked: locks::Met::default(),
            links: Links::default(),
            notes: Vec::new(),
            #[cfg(test)]
            ignored: None,
        })
    }

    /// Captures every descriptor of a process; its entries of fdinfo-ID.img.
    ///
    /// To be called once per table, for the first task of those that share it.
    pub fn add_table(
        &mut self,
        task: &FrozenTask,
        refusals: &mut Refusals,
    ) -> Result<Vec<FdinfoEntry>> {
        self.add_table_of(task.pid, refusals)
    }

    /// The same for a process that does not change its descriptors meanwhile.
    pub(super) fn add_table_of(
        &mut self,
        pid: i32,
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
            let cloexec = info.flags & libc::O_CLOEXEC.cast_unsigned() != 0;
            let file_locks = info.locks.clone();
            let known = self.identify(&pidfd, pid, number, info)?;
            locks::capture(self, (pid, number), known, &file_locks, refusals);
            match &self.known[known].fate {
                Fate::Carried(id, kind) => {
                    entries.push(FdinfoEntry {
                        id: *id,
                        flags: if cloexec { FD_CLOEXEC } else { 0 },
                        r#type: *kind as i32,
                        fd: number.cast_unsigned(),
                        xattr_security_selinux: None,
                    });
                    self.tables.entry(pid).or_default().insert(number, *id);
                }
                Fate::Refused(refusal) => refusals
                    .add(Refusal { place: format!("pid {pid} fd {number}"), ..refusal.clone() }),
            }
        }
        Ok(entries)
    }

    /// Captures a file that is used by its path: executable, mapped file, working directory.
    ///
    /// `file` may be opened with O_PATH; a file asked for before keeps its id.
    pub fn add_path(
        &mut self,
        file: OwnedFd,
        flags: u32,
        place: &str,
        refusals: &mut Refusals,
    ) -> Result<u32> {
        let opened = Opened::of_path(file, flags, place)?;
        let key = (opened.stat.st_dev, opened.stat.st_ino, opened.link.clone());
        if let Some(id) = self.paths.get(&key) {
            return Ok(*id);
        }
        let id = self.new_id();
        match self.capture(&opened, id) {
            Ok(_) => {}
            Err(NotCaptured::Refused(refusal)) => refusals.add(refusal),
            Err(NotCaptured::Failed(error)) => return Err(error.context(place)),
        }
        self.paths.insert(key, id);
        Ok(id)
    }

    /// Captures the working directory, root and umask of a process.
    pub fn add_fs(&mut self, task: &FrozenTask, refusals: &mut Refusals) -> Result<FsEntry> {
        self.add_fs_of(task.pid, task.status(0)?, refusals)
    }

    /// The same of a process whose `/proc/PID/status` says this.
    pub(super) fn add_fs_of(
        &mut self,
        pid: i32,
        status: &[u8],
        refusals: &mut Refusals,
    ) -> Result<FsEntry> {
        let mut directory = |name: &str| {
            let (path, place) = (format!("/proc/{pid}/{name}"), format!("pid {pid} {name}"));
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
            let file = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
                .doing(|| format!("open {path}"))?;
            self.add_path(file, 0, &place, refusals)
        };
        let (cwd_id, root_id) = (directory("cwd")?, directory("root")?);
        Ok(FsEntry { cwd_id, root_id, umask: Some(umask(pid, status)?) })
    }

    /// Settles what needs all tables to be known (targets of epoll files, sessions of terminals)
    /// and puts everything into `snapshot`.
    ///
    /// Unread data of terminals is taken out and put back here, the only thing that touches what the
    /// dumpee can see; not if something is refused already.
    pub fn finish(mut self, snapshot: &mut Snapshot, refusals: &mut Refusals) -> Result<Collected> {
        epoll::resolve(&mut self, refusals)?;
        tty::resolve(&mut self, refusals)?;
        pipe::resolve(&mut self);
        if refusals.is_empty() {
            tty::capture_data(&mut self)?;
        }
        snapshot.absorb(std::mem::take(&mut self.out));
        let notes = std::mem::take(&mut self.notes);
        let links = std::mem::take(&mut self.links);
        Ok(Collected { shared: self.memfds.take(), notes, links })
    }

    pub(super) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(super) fn put(&mut self, entry: FileEntry) {
        self.out.files.insert(entry.id, entry);
    }

    pub(super) fn known(&self) -> &[Known] {
        &self.known
    }

    /// Who this descriptor is: an index into `known`, captured if it was not met before.
    fn identify(&mut self, pidfd: &OwnedFd, pid: i32, fd: i32, info: Fdinfo) -> Result<usize> {
        if let Some(&guess) = self.by_number.get(&fd)
            && self.order(guess, pid, fd)?.is_eq()
        {
            return Ok(guess);
        }
        let key = Key::of(&info);
        let at = match self.search(&key, pid, fd)? {
            Ok(found) => {
                self.by_number.insert(fd, found);
                return Ok(found);
            }
            Err(at) => at,
        };
        let fate = self.meet(pidfd, pid, fd, info)?;
        self.known.push(Known { pid, fd, ino: key.ino, fate });
        let new = self.known.len() - 1;
        self.buckets.entry(key).or_default().insert(at, new);
        self.by_number.insert(fd, new);
        Ok(new)
    }

    fn search(&self, key: &Key, pid: i32, fd: i32) -> Result<std::result::Result<usize, usize>> {
        let bucket = self.buckets.get(key).map_or(&[][..], Vec::as_slice);
        let found = kcmp::search(bucket, |known| self.order(*known, pid, fd))?;
        Ok(found.map(|place| bucket[place]))
    }

    /// How the known file is ordered against a descriptor.
    fn order(&self, known: usize, pid: i32, fd: i32) -> Result<Ordering> {
        let one = &self.known[known];
        kcmp::compare(one.pid, pid, Kcmp::File, one.fd as u64, fd as u64)
            .doing(|| format!("compare pid {pid} fd {fd} with pid {} fd {}", one.pid, one.fd))
    }

    fn meet(&mut self, pidfd: &OwnedFd, pid: i32, fd: i32, info: Fdinfo) -> Result<Fate> {
        let opened = Opened::of_task(pidfd, pid, fd, info)?;
        let id = self.new_id();
        match self.capture(&opened, id) {
            Ok(kind) => Ok(Fate::Carried(id, kind)),
            Err(NotCaptured::Refused(refusal)) => Ok(Fate::Refused(refusal)),
            Err(NotCaptured::Failed(error)) => {
                Err(error.context(format!("{} ({})", opened.place, opened.object())))
            }
        }
    }

    fn capture(&mut self, opened: &Opened, id: u32) -> super::opened::Captured<FdTypes> {
        match KINDS.iter().find(|kind| (kind.claim)(self, opened)) {
            Some(kind) => (kind.capture)(opened, id, self),
            None => Err(refused::refuse(opened)),
        }
    }
}

/// The numbers of all descriptors of a process, ascending.
fn numbers(pid: i32) -> Result<Vec<i32>> {
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

fn umask(pid: i32, status: &[u8]) -> Result<u32> {
    String::from_utf8_lossy(status)
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|value| u32::from_str_radix(value.trim(), 8).ok())
        .ok_or_else(|| Error::new(Kind::System, format!("/proc/{pid}/status: it has no umask")))
}
