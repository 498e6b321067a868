//! What general code offers to the kinds: [`DumpCx`] during a dump, [`RestoreCx`] during a restore.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::identity::Known;
use super::kind::FileId;
use super::link::Links;
use super::open::DescriptorLimit;
use super::paths;
use super::served::Served;
use crate::error::{Context, Error, Kind, Result};
use crate::images::payload::Spool;
use crate::images::proto::FileEntry;
use crate::images::snapshot::Snapshot;

/// What the request says about files of a dump.
#[derive(Clone, Debug)]
pub struct CollectorOptions {
    /// Terminals from outside the tree are allowed: they are replaced by the restorer's.
    pub shell_job: bool,
    /// File locks are dumped.
    pub file_locks: bool,
    /// A file whose name is gone may be linked to a temporary name, if it has other names.
    pub link_remap: bool,
    /// How many bytes an unlinked file may hold.
    pub ghost_limit: u64,
    /// Keys of files that are brought from outside at restore: `file[MNT:INO]`, `tty[RDEV:DEV]`.
    pub external: Vec<OsString>,
    /// Inode number of the socket whose peer is dumped as the service socket.
    pub service_socket: Option<u64>,
    /// Build ids of programs and libraries are noted, for a check at restore.
    pub build_ids: bool,
    /// How long a file system may take to answer, which may be served by a process of the tree.
    pub patience: Duration,
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
            patience: Duration::from_secs(10),
        }
    }
}

/// An open file whose contents the images hold as the shared memory `shmid`.
#[derive(Debug)]
pub struct SharedFile {
    pub shmid: u64,
    pub file: OwnedFd,
    pub size: u64,
}

/// What a kind has to do with of a dump.
pub(super) struct DumpCx<'a> {
    pub options: &'a CollectorOptions,
    /// What has been captured so far. All tables are there when files are
    /// [settled](super::kind::FileKind::settle).
    pub out: &'a mut Snapshot,
    /// Every open file that was met, in that order.
    pub known: &'a [Known],
    pub gathered: &'a mut Gathered,
    pub served: &'a mut Served,
}

/// What all kinds gather together.
#[derive(Debug)]
pub(super) struct Gathered {
    last_id: FileId,
    /// Takes what is in pipes and queues.
    pub spool: Spool,
    /// Raised once files stay open until the dump is written.
    pub limit: Option<DescriptorLimit>,
    /// The ghost numbers of unlinked files, by device and inode.
    pub ghosts: HashMap<(u64, u64), u32>,
    pub links: Links,
    /// Files whose contents are to be stored as shared memory.
    pub shared: Vec<SharedFile>,
    /// What the user may want to be told: which connections the dump cuts.
    pub notes: Vec<String>,
}

impl Gathered {
    /// Nothing yet.
    pub fn new(spool: Spool) -> Self {
        Self {
            last_id: 0,
            spool,
            limit: None,
            ghosts: HashMap::new(),
            links: Links::default(),
            shared: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A file will stay open until the dump is written.
    pub fn will_hold_more(&mut self) -> Result<()> {
        if self.limit.is_none() {
            self.limit = Some(DescriptorLimit::raise()?);
        }
        Ok(())
    }

    /// An id that no entry of files.img has yet.
    pub fn new_id(&mut self) -> FileId {
        self.last_id += 1;
        self.last_id
    }
}

impl DumpCx<'_> {
    /// Stores an entry of files.img.
    pub fn put(&mut self, entry: FileEntry) {
        self.out.files.insert(entry.id, entry);
    }

    /// Whether the request leaves the object with this key to be brought from outside.
    pub fn is_external(&self, key: &str) -> bool {
        self.options.external.iter().any(|one| one == key)
    }
}

/// What the request says about files of a restore.
#[derive(Debug)]
pub struct RestoreOptions {
    /// Files that are brought from outside, by key: `pipe:[5]`, `tmp/log`, `tty[8801:1a]`.
    pub inherit: Vec<(OsString, OwnedFd)>,
    /// The terminal that takes the place of one from outside the tree.
    pub terminal: Option<OwnedFd>,
    /// The caller gets the master of a terminal whose master was outside of the tree.
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

/// What a kind has to do with of a restore.
#[derive(Debug)]
pub(super) struct RestoreCx<'s> {
    pub snapshot: &'s Snapshot,
    pub options: RestoreOptions,
    /// The inodes of files whose names do not lead to them.
    pub remapped: paths::Remapped,
    /// Files that are to be filled with shared memory of the images.
    pub shared: Vec<SharedFile>,
    /// Open files that no process of the tree has: the caller gets them.
    pub for_caller: Vec<OwnedFd>,
    fds: BTreeMap<FileId, OwnedFd>,
    /// Indices into `options.inherit` of what some object of the images asked for.
    asked: RefCell<BTreeSet<usize>>,
}

impl<'s> RestoreCx<'s> {
    pub fn new(snapshot: &'s Snapshot, options: RestoreOptions) -> Self {
        Self {
            snapshot,
            options,
            remapped: paths::Remapped::default(),
            shared: Vec::new(),
            for_caller: Vec::new(),
            fds: BTreeMap::new(),
            asked: RefCell::default(),
        }
    }

    /// Stores an open file that has been made, for all its holders.
    pub fn put(&mut self, id: FileId, file: OwnedFd) {
        self.fds.insert(id, file);
    }

    /// The engine's descriptor of an open file.
    pub fn fd(&self, id: FileId) -> Result<BorrowedFd<'_>> {
        self.fds.get(&id).map(AsFd::as_fd).ok_or_else(|| {
            Error::new(Kind::Internal, format!("file {id} is asked for before it is made"))
        })
    }

    /// Its number in the engine.
    pub fn number(&self, id: FileId) -> Result<i32> {
        self.fd(id).map(|fd| fd.as_raw_fd())
    }

    /// All open files that have been made.
    pub fn fds(&self) -> impl Iterator<Item = (FileId, &OwnedFd)> {
        self.fds.iter().map(|(id, file)| (*id, file))
    }

    /// A copy of the descriptor that the caller brought for `key`.
    pub fn inherited(&self, key: &str) -> Result<Option<OwnedFd>> {
        let mut inherited = self.options.inherit.iter().enumerate();
        let Some((place, (_, file))) = inherited.find(|(_, (one, _))| one == key) else {
            return Ok(None);
        };
        self.asked.borrow_mut().insert(place);
        file.try_clone().map(Some).doing(|| format!("copy what stands for {key}"))
    }

    /// Keys of descriptors that the caller brought and that no object of the images asked for.
    pub fn unasked(&self) -> Vec<&OsStr> {
        let asked = self.asked.borrow();
        let inherited = self.options.inherit.iter().enumerate();
        inherited.filter(|(place, _)| !asked.contains(place)).map(|(_, (key, _))| &**key).collect()
    }
}
