//! What a request may say, and the one table that says how each face says it.
//!
//! A face (C library, RPC, command line) fills [`Options`], adds the verb and the open
//! directories, and has a [`Request`]. [`fields`] are the values, [`values`] their
//! types, and [`table`] what each face calls them and what the engine honours;
//! [`getopt`] and [`config`] read them from text.

pub mod config;
pub mod fields;
pub mod getopt;
pub mod table;
pub mod values;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use fields::Options;

use self::values::CgroupMode;
use crate::error::{Error, Kind, Result, shown};
use crate::kernel::descriptor;
use crate::kernel::pid::HostPid;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Dump,
    PreDump,
    Restore,
    Check,
    PageServer,
    LazyPages,
    Dedup,
    CpuinfoDump,
    CpuinfoCheck,
    Service,
    Continue,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 11] = [
        Verb::Dump,
        Verb::PreDump,
        Verb::Restore,
        Verb::Check,
        Verb::PageServer,
        Verb::LazyPages,
        Verb::Dedup,
        Verb::CpuinfoDump,
        Verb::CpuinfoCheck,
        Verb::Service,
        Verb::Continue,
    ];

    /// The verb as it is typed on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Dump => "dump",
            Verb::PreDump => "pre-dump",
            Verb::Restore => "restore",
            Verb::Check => "check",
            Verb::PageServer => "page-server",
            Verb::LazyPages => "lazy-pages",
            Verb::Dedup => "dedup",
            Verb::CpuinfoDump => "cpuinfo dump",
            Verb::CpuinfoCheck => "cpuinfo check",
            Verb::Service => "service",
            Verb::Continue => "continue",
        }
    }
}

impl Options {
    /// Whether control groups are to be carried. Who says nothing of them wants none, other than
    /// with CRIU.
    pub fn wants_control_groups(&self) -> bool {
        match self.manage_cgroups() {
            CgroupMode::Ignore => false,
            CgroupMode::Default => {
                let texts = [&self.cgroup_props, &self.cgroup_props_file, &self.cgroup_yard];
                let lists = self.cg_root.is_empty() && self.cgroup_dump_controller.is_empty();
                !lists || texts.into_iter().any(Option::is_some)
            }
            _ => true,
        }
    }

    /// Refuses descriptors to inherit that are not open. To be asked before anything is opened:
    /// that would get the number of one that is missing.
    pub fn check_inherited(&self) -> Result<()> {
        match self.inherit_fd.iter().find(|item| !descriptor::is_open(item.fd)) {
            None => Ok(()),
            Some(item) => {
                let key = shown(&item.key);
                let cause = format!("--inherit-fd {key}: descriptor {} is not open", item.fd);
                Err(Error::new(Kind::BadOptions, cause)
                    .remedy("open it without O_CLOEXEC before the command is started"))
            }
        }
    }
}

/// What a face has opened for a request; the fields are those of [`Request`].
#[derive(Debug, Default)]
pub struct Places {
    pub images: Option<OwnedFd>,
    pub work: Option<OwnedFd>,
    pub service_socket: Option<u64>,
    pub ends_process: bool,
}

/// A verb with its options and what the face has opened for it.
#[derive(Debug)]
pub struct Request {
    pub verb: Verb,
    pub options: Options,
    /// The image directory; only `check`, `service` and the like do without.
    pub images: Option<OwnedFd>,
    /// Where log, pidfile and statistics go.
    pub work: Option<OwnedFd>,
    /// Inode of the engine's end of the RPC socket: a dumpee that holds the other end is dumping
    /// itself, and that end becomes the service socket of the image.
    pub service_socket: Option<u64>,
    /// Whether this process ends with the request, and nobody is traced by it any more.
    pub ends_process: bool,
}

impl Request {
    /// A request that the engine honours in every option, or the refusals of those that it does not.
    pub fn new(verb: Verb, options: Options, places: Places) -> Result<Self> {
        table::check(verb, &options)?;
        let Places { images, work, service_socket, ends_process } = places;
        Ok(Self { verb, options, images, work, service_socket, ends_process })
    }

    /// The image directory.
    pub fn images(&self) -> Result<BorrowedFd<'_>> {
        let missing = || {
            Error::new(
                Kind::BadOptions,
                format!("{}: no image directory is given", self.verb.name()),
            )
            .remedy("pass images_dir_fd, images_dir or --images-dir")
        };
        self.images.as_ref().map(AsFd::as_fd).ok_or_else(missing)
    }

    /// The work directory; the image directory where none was given.
    pub fn work(&self) -> Result<BorrowedFd<'_>> {
        match &self.work {
            Some(work) => Ok(work.as_fd()),
            None => self.images(),
        }
    }

    /// The root of the tree to dump.
    pub fn pid(&self) -> Result<HostPid> {
        match self.options.pid {
            Some(pid) if pid > 0 => Ok(HostPid::new(pid)),
            Some(pid) => Err(Error::new(Kind::BadOptions, format!("pid {pid} is not a process"))),
            None => {
                Err(Error::new(Kind::BadOptions, "no process is named").remedy("pass --tree PID"))
            }
        }
    }
}
