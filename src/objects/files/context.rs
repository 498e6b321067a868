//! What kinds find around them: during a dump ([`DumpCx`]), during a restore ([`RestoreCx`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::identity::Known;
use super::kind::FileId;
use super::link::Links;
use super::open::DescriptorLimit;
use super::paths;
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
        }
    }
}

/// Contents of an open file that are stored as shared memory: they go into (or come from) the image
/// as `shmid`.
#[derive(Debug)]
pub struct SharedFile {
    pub shmid: u64,
    pub file: OwnedFd,
    pub size: u64,
}

/// A dump under way, for a kind.
pub(super) struct DumpCx<'a> {
    pub options: &'a CollectorOptions,
    /// What has been captured so far. All tables are there when files are
    /// [settled](super::kind::FileKind::settle).
    pub out: &'a mut Snapshot,
    /// Every open file that was met.
    pub known: &'a [Known],
    pub gathered: &'a mut Gathered,
}

/// What kinds gather together.
#[derive(Debug)]
pub(super) struct Gathered {
    last_id: FileId,
    /// Takes what is in pipes and queues.
    pub spool: Spool,
    /// Raised once files stay open until the dump is written.
    pub limit: Option<DescriptorLimit>,
    /// The numbers of unlinked files, by device and inode.
    pub ghosts: HashMap<(u64, u64), u32>,
    pub links: Links,
    /// Contents that are to be stored as shared memory.
    pub shared: Vec<SharedFile>,
    /// What the user may want to be told: connections that are cut.
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

    /// A number that no open file has yet.
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

    /// Whether what has this key is brought from outside at restore.
    pub fn is_external(&self, key: &str) -> bool {
        self.options.external.iter().any(|one| one == key)
    }
}

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

/// A restore under way, for a kind.
#[derive(Debug)]
pub(super) struct RestoreCx<'s> {
    pub snapshot: &'s Snapshot,
    pub options: RestoreOptions,
    /// The inodes of files whose names do not lead to them.
    pub remapped: paths::Remapped,
    /// Files to be filled with the shared memory of the image that they name.
    pub shared: Vec<SharedFile>,
    /// Descriptors that no process of the tree has: they are for the caller.
    pub for_caller: Vec<OwnedFd>,
    fds: BTreeMap<FileId, OwnedFd>,
    /// Places in `options.inherit` that something of the image asked for.
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

    /// Takes an open file that has been made.
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

    /// All that have been made.
    pub fn fds(&self) -> impl Iterator<Item = (FileId, &OwnedFd)> {
        self.fds.iter().map(|(id, file)| (*id, file))
    }

    /// A copy of what was brought from outside for `key`.
    pub fn inherited(&self, key: &str) -> Result<Option<OwnedFd>> {
        let mut inherited = self.options.inherit.iter().enumerate();
        let Some((place, (_, file))) = inherited.find(|(_, (one, _))| one == key) else {
            return Ok(None);
        };
        self.asked.borrow_mut().insert(place);
        file.try_clone().map(Some).doing(|| format!("copy what stands for {key}"))
    }

    /// Keys of what was brought from outside and stands for nothing in the image.
    pub fn unasked(&self) -> Vec<&str> {
        let asked = self.asked.borrow();
        let inherited = self.options.inherit.iter().enumerate();
        inherited.filter(|(place, _)| !asked.contains(place)).map(|(_, (key, _))| &**key).collect()
    }
}
