//! Makes every open file of an image once, in the engine.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::pipe::Pipes;
use super::{
    SharedFile, epoll, eventfd, fifo, ghost, link, locks, memfd, pipe, regular, service_socket,
    signalfd, timerfd, tty_open,
};
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{FdTypes, FileEntry, FownEntry, TtyType};
use crate::images::snapshot::Snapshot;
use crate::kernel::owner::Owner;
use crate::kernel::{descriptor, owner, threads};

/// What the request says about files of a restore.
#[derive(Debug)]
pub struct RestoreOptions {
    /// Files that are brought from outside, by key: `pipe:[5]`, `tmp/log`, `tty[8801:1a]`.
    pub inherit: Vec<(String, OwnedFd)>,
    /// Takes the place of the terminal that was outside of the tree.
    pub terminal: Option<OwnedFd>,
    /// The master of a terminal that was outside of the tree is for the caller.
    pub orphan_masters: bool,
    /// The permission bits of files are not compared.
    pub skip_mode_check: bool,
    /// Build ids are compared where the image has them.
    pub build_ids: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            inherit: Vec::new(),
            terminal: None,
            orphan_masters: false,
            skip_mode_check: false,
            build_ids: true,
        }
    }
}

/// Every open file of an image; see the [module](super) for the order of its steps.
#[derive(Debug)]
pub struct OpenFiles<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) options: RestoreOptions,
    /// Places in `options.inherit` that something of the image asked for.
    asked: RefCell<BTreeSet<usize>>,
    pub(super) fds: BTreeMap<u32, OwnedFd>,
    orphans: Vec<OwnedFd>,
    remapped: BTreeMap<u32, OwnedFd>,
    memfds: memfd::Inodes,
    /// Last, so that it is put back when all descriptors are closed.
    _limit: DescriptorLimit,
}

impl<'s> OpenFiles<'s> {
    /// Makes what can be mapped: memfds, and the inodes of files that have no name.
    pub fn prepare(snapshot: &'s Snapshot, options: RestoreOptions) -> Result<Self> {
        Ok(Self {
            snapshot,
            options,
            asked: RefCell::default(),
            fds: BTreeMap::new(),
            orphans: Vec::new(),
            _limit: DescriptorLimit::raise()?,
            remapped: ghost::make_all(snapshot)?,
            memfds: memfd::make_all(snapshot)?,
        })
    }

    /// Makes everything that the engine can make.
    pub fn open_all(&mut self) -> Result<()> {
        let terminals = tty_open::open_all(self)?;
        (self.fds, self.orphans) = (terminals.files, terminals.orphans);
        let snapshot = self.snapshot;
        let tables = snapshot.descriptor_tables.values();
        let held: BTreeSet<u32> = tables.flatten().map(|entry| entry.id).collect();
        let (mut pipes, mut fifos) = (Pipes::of(snapshot), fifo::Fifos::new());
        for id in held {
            let Some(entry) = snapshot.files.get(&id) else { continue };
            if entry.r#type == FdTypes::Tty as i32 {
                continue;
            }
            let file = self.open(entry, &mut pipes, &mut fifos)?;
            self.fds.insert(id, file);
        }
        Ok(())
    }

    /// Masters of terminals that are for the caller.
    pub fn take_orphans(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.orphans)
    }

    #[cfg(test)]
    pub(super) fn made(snapshot: &'s Snapshot, options: RestoreOptions) -> Result<Self> {
        let mut files = Self::prepare(snapshot, options)?;
        files.open_all().map(|()| files)
    }

    fn open(
        &mut self,
        entry: &FileEntry,
        pipes: &mut Pipes<'_>,
        fifos: &mut fifo::Fifos,
    ) -> Result<OwnedFd> {
        if let Some(reg) = &entry.reg {
            regular::open(reg, self)
        } else if let Some(end) = &entry.pipe {
            pipe::open(end, self, pipes)
        } else if let Some(named) = &entry.fifo {
            fifo::open(named, self, fifos)
        } else if let Some(counter) = &entry.efd {
            eventfd::open(counter)
        } else if let Some(watcher) = &entry.epfd {
            epoll::open(watcher)
        } else if let Some(signals) = &entry.sgfd {
            signalfd::open(signals)
        } else if let Some(timer) = &entry.tfd {
            timerfd::open(timer)
        } else if let Some(memory) = &entry.memfd {
            let mut inodes = std::mem::take(&mut self.memfds);
            let opened = memfd::open(memory, self, &mut inodes);
            self.memfds = inodes;
            opened
        } else if let Some(socket) = &entry.usk {
            service_socket::open(socket)
        } else {
            Err(Error::image("files.img", format!("file {} is of no known kind", entry.id)))
        }
    }

    /// The engine's descriptor of an open file.
    pub fn fd(&self, id: u32) -> Result<BorrowedFd<'_>> {
        self.fds.get(&id).map(AsFd::as_fd).ok_or_else(|| {
            Error::new(Kind::Internal, format!("file {id} is asked for before it is made"))
        })
    }

    pub(super) fn number(&self, id: u32) -> Result<i32> {
        self.fd(id).map(|fd| fd.as_raw_fd())
    }

    /// Opens a file that is mapped, executed or stood in: without a position, with these flags.
    pub fn open_for_map(&self, id: u32, flags: u32) -> Result<OwnedFd> {
        let entry = self.snapshot.files.get(&id);
        match entry.map(|entry| (&entry.reg, &entry.memfd)) {
            Some((Some(reg), _)) => regular::open_with(reg, self, flags),
            Some((_, Some(memory))) => memfd::open_to_map(memory, &self.memfds, flags),
            _ => Err(Error::image("files.img", format!("file {id} cannot be mapped"))),
        }
    }

    /// Memfds to be filled with the shared memory `shmid` of the image.
    pub fn shared_files(&self) -> Result<Vec<SharedFile>> {
        let files = self.memfds.values().map(|inode| {
            // A description of its own: on the task's one, O_APPEND would make writes ignore offsets.
            let path = descriptor::own_path(inode.file.as_fd());
            let file =
                super::open_for(path.as_ref(), libc::O_RDWR).doing(|| "open a memfd to fill it")?;
            Ok(SharedFile { shmid: inode.shmid, file, size: inode.size })
        });
        files.collect()
    }

    /// Adds the targets of epoll files, except signalfds, which [`install_table`](Self::install_table)
    /// adds from within their processes.
    pub fn watch(&self) -> Result<()> {
        epoll::watch_all(self)
    }

    /// Sets who gets the signals of open files.
    pub fn restore_owners(&self) -> Result<()> {
        for (id, file) in &self.fds {
            let Some(owner) = self.snapshot.files.get(id).and_then(|entry| self.owner(entry))
            else {
                continue;
            };
            restore_owner(file, &owner).doing(|| {
                format!(
                    "make {} {} the owner of file {id}",
                    kind_of_owner(owner.pid_type),
                    owner.pid
                )
            })?;
        }
        Ok(())
    }

    fn owner(&self, entry: &FileEntry) -> Option<FownEntry> {
        let named = entry.fifo.as_ref().and_then(|named| fifo::path(named, self.snapshot).ok());
        let owners = [
            entry.reg.as_ref().map(|reg| reg.fown),
            named.map(|reg| reg.fown),
            entry.pipe.as_ref().map(|pipe| pipe.fown),
            entry.efd.as_ref().map(|counter| counter.fown),
            entry.epfd.as_ref().map(|watcher| watcher.fown),
            entry.sgfd.as_ref().map(|signals| signals.fown),
            entry.tfd.as_ref().map(|timer| timer.fown),
            entry.memfd.as_ref().map(|memory| memory.fown),
            entry.tty.as_ref().map(|tty| tty.fown),
            entry.usk.as_ref().map(|socket| socket.fown),
        ];
        owners.into_iter().flatten().next()
    }

    /// Puts the locks that belong to open file descriptions; [`lock_process`](Self::lock_process)
    /// puts the others.
    pub fn lock(&self) -> Result<()> {
        locks::lock_files(self)
    }

    /// Puts the seals on memfds.
    pub fn seal(&self) -> Result<()> {
        memfd::seal(&self.memfds)
    }

    /// Removes the links that the dump made beside files that had lost their name.
    pub fn finish(self) -> Result<()> {
        link::remove_all(self.snapshot)
    }

    /// Keys of what was brought from outside and stands for nothing in the image.
    pub fn unasked(&self) -> Vec<&str> {
        let asked = self.asked.borrow();
        let inherited = self.options.inherit.iter().enumerate();
        inherited.filter(|(place, _)| !asked.contains(place)).map(|(_, (key, _))| &**key).collect()
    }

    /// A copy of what was brought from outside for `key`.
    pub(super) fn inherited(&self, key: &str) -> Result<Option<OwnedFd>> {
        let found = self.options.inherit.iter().position(|(one, _)| one == key);
        let found = found.map(|place| {
            self.asked.borrow_mut().insert(place);
            &self.options.inherit[place]
        });
        found
            .map(|(_, file)| file.try_clone().doing(|| format!("copy what stands for {key}")))
            .transpose()
    }

    /// The inode of a file whose name does not lead to it.
    pub(super) fn remapped(&self, id: u32) -> Option<BorrowedFd<'_>> {
        ghost::inode(&self.remapped, id)
    }

    /// Whether a file is `/dev/tty`, which is opened by a task.
    pub(super) fn is_own_terminal(&self, entry: &FileEntry) -> bool {
        let Some(tty) = &entry.tty else { return false };
        let mut infos = self.snapshot.tty_info.iter();
        infos.any(|info| info.id == tty.tty_info_id && info.r#type == TtyType::Ctty as i32)
    }
}

fn kind_of_owner(kind: u32) -> &'static str {
    match kind {
        0 => "thread",
        1 => "process",
        _ => "process group",
    }
}

/// The kernel notes uid and euid of whoever sets the owner: a thread of ours takes them on for that.
fn restore_owner(file: &OwnedFd, entry: &FownEntry) -> nix::Result<()> {
    if entry.signum != 0 {
        owner::set_signal(file, entry.signum.cast_signed())?;
    }
    if entry.pid == 0 {
        return Ok(());
    }
    let owner = Owner { kind: entry.pid_type.cast_signed(), pid: entry.pid.cast_signed() };
    let ours = (nix::unistd::getuid().as_raw(), nix::unistd::geteuid().as_raw());
    if (entry.uid, entry.euid) == ours {
        return owner::set(file, owner);
    }
    // A change of uid in any thread makes the whole process undumpable.
    let dumpable = prctl::get_dumpable()?;
    let set = threads::in_own_thread(|| {
        owner::set_thread_uids(entry.uid, entry.euid)?;
        owner::set(file, owner)
    });
    prctl::set_dumpable(dumpable)?;
    set
}

/// The soft limit of descriptors raised to the hard one, while the engine holds those of a tree.
#[derive(Debug)]
struct DescriptorLimit(u64, u64);

impl DescriptorLimit {
    fn raise() -> Result<Self> {
        let what = || "raise the limit of descriptors";
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(what)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(what)?;
        Ok(Self(soft, hard))
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.0, self.1);
    }
}
