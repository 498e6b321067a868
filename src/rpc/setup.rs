//! From an RPC message to a request: configuration, directories of the caller, log.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::peer::Peer;
use super::rights::Rights;
use super::wire::Channel;
use crate::error::{Context, Error, Kind, Result, shown};
use crate::images::proto::CriuOpts;
use crate::log::Log;
use crate::options::config::Absent;
use crate::options::getopt::Scan;
use crate::options::{Options, Places, Request, Verb, config};

const DEFAULT_LOG: &str = "criu.log";

/// Who asks.
#[derive(Debug)]
pub struct Client {
    pub peer: Peer,
    pub rights: Rights,
    /// Inode of the socket, if there is one.
    pub socket: Option<u64>,
    /// Whether the engine's process is there for this request only. The working directory of one
    /// that is the caller's stays as it is.
    pub ends_process: bool,
}

impl Client {
    /// The process at the other end of a channel.
    pub fn of(channel: &Channel, rights: Rights) -> Result<Self> {
        let socket = Some(channel.inode()?);
        Ok(Self { peer: Peer::of(channel)?, rights, socket, ends_process: true })
    }

    /// This process.
    pub fn this_process() -> Self {
        let peer = Peer::this_process();
        Self { peer, rights: Rights::Worker, socket: None, ends_process: false }
    }

    /// The same, which was made for this request and has its caller's descriptors.
    pub fn only_for_this() -> Self {
        Self { ends_process: true, ..Self::this_process() }
    }
}

/// The options of a message before anything is opened, and where the log goes.
#[derive(Debug)]
pub struct Session {
    verb: Verb,
    options: Options,
    places: Places,
    /// A configuration file may name a log anywhere; a message only in the work directory.
    log_file_is_configured: bool,
    /// Configuration files that are not there.
    absent: Vec<Absent>,
}

impl Session {
    /// A request and its log, which is there as soon as its place is known: it is to have the cause
    /// of all that fails. `allowed` is why the request may not be made, if it may not.
    pub fn begin(
        verb: Verb,
        message: &CriuOpts,
        client: &Client,
        allowed: Result<()>,
    ) -> (Log, Result<Self>) {
        let mut session = Self::empty(verb);
        let read = match allowed {
            Ok(()) => session.read(message, client),
            refused => {
                // Only to know where the log is.
                let _ = session.options.add_rpc(message);
                refused
            }
        };
        let read = read.and(session.forbid_log_elsewhere());
        let log = match session.open_log(client) {
            Ok(log) => log,
            Err(error) => return (Log::none(), read.and(Err(error))),
        };
        session.absent.iter().for_each(|file| log.warn(file));
        let opened = read.and_then(|()| session.open_images(client));
        (log, opened.map(|()| session))
    }

    /// A request of which nothing is opened.
    pub fn new(verb: Verb, message: &CriuOpts, client: &Client) -> Result<Self> {
        let mut session = Self::empty(verb);
        session.read(message, client).map(|()| session)
    }

    fn empty(verb: Verb) -> Self {
        let (options, places) = Default::default();
        Self { verb, options, places, log_file_is_configured: false, absent: Vec::new() }
    }

    /// Reads the configuration files, the message, and the file that the message names, each over
    /// the one before. Where one cannot be read, the others still say where the log is.
    fn read(&mut self, message: &CriuOpts, client: &Client) -> Result<()> {
        let configured = match client.rights.reads_configuration() {
            true => config::read_all(&Scan::default(), &mut self.options),
            false => Ok(Vec::new()),
        };
        self.log_file_is_configured = message.log_file.is_none() && self.options.log_file.is_some();
        let told = self.options.add_rpc(message);
        self.options.restore_detached = Some(true);
        if matches!(self.verb, Verb::Dump | Verb::PreDump) {
            self.options.pid.get_or_insert(client.peer.pid.number());
        }
        let file = self.options.config_file.clone();
        let overridden = file.map_or(Ok(()), |file| self.override_by(&file));
        self.absent.extend(configured?);
        told.and(overridden)?;
        self.options.check_inherited()?;
        self.forbid_questions_to_the_frozen(client)
    }

    /// The directories and the log of a file stand above those of the message, kind by kind.
    fn override_by(&mut self, file: &OsStr) -> Result<()> {
        let images = (self.options.images_dir.take(), self.options.images_dir_fd.take());
        let work = (self.options.work_dir.take(), self.options.work_dir_fd.take());
        let log = self.options.log_file.take();
        let read = config::read_file(file, &mut self.options);
        if self.options.images_dir.is_none() {
            (self.options.images_dir, self.options.images_dir_fd) = images;
        }
        if self.options.work_dir.is_none() {
            (self.options.work_dir, self.options.work_dir_fd) = work;
        }
        if self.options.log_file.is_some() {
            self.log_file_is_configured = true;
        } else {
            self.options.log_file = log;
        }
        self.absent.extend(read?);
        Ok(())
    }

    /// The log that tells of a wrong name has the usual one.
    fn forbid_log_elsewhere(&mut self) -> Result<()> {
        let wrong =
            |name: &mut OsString| name.as_bytes().contains(&b'/') && !self.log_file_is_configured;
        let Some(name) = self.options.log_file.take_if(wrong) else { return Ok(()) };
        let cause = format!("No subdirs are allowed in log_file name: {}", shown(&name));
        Err(Error::new(Kind::BadOptions, cause).remedy("give its directory as work_dir_fd"))
    }

    /// A caller who dumps itself is stopped when it would have to answer.
    fn forbid_questions_to_the_frozen(&self, client: &Client) -> Result<()> {
        if self.verb == Verb::Dump
            && self.options.notify_scripts()
            && self.options.pid == Some(client.peer.pid.number())
        {
            let cause = "notify_scripts: a process that dumps itself is stopped when it is asked";
            return Err(Error::new(Kind::BadOptions, cause)
                .remedy("dump it from another process, or leave the callback out"));
        }
        Ok(())
    }

    /// Goes to the work directory, and opens the log there. A check logs only where a file is asked
    /// for.
    fn open_log(&mut self, client: &Client) -> Result<Log> {
        let options = &self.options;
        let to_file = options.log_file.is_some() && !options.log_to_stderr();
        if self.verb == Verb::Check && !to_file {
            return Ok(Log::none());
        }
        let work = directory("work directory", client, options.work_dir_fd, &options.work_dir)?;
        let work = work.map_or_else(|| self.open_image_directory(client), Ok)?;
        if client.ends_process {
            nix::unistd::fchdir(&work).doing(|| "go to the work directory")?;
        }
        let level = options.log_level();
        let log = match &options.log_file {
            Some(name) => Log::create(work.as_fd(), name, level),
            None if options.log_to_stderr() => Ok(Log::stderr(level)),
            None => Log::create(work.as_fd(), OsStr::new(DEFAULT_LOG), level),
        };
        self.places.work = Some(work);
        log
    }

    fn open_image_directory(&self, client: &Client) -> Result<OwnedFd> {
        let options = &self.options;
        directory("image directory", client, options.images_dir_fd, &options.images_dir)?
            .ok_or_else(no_directory)
    }

    /// A check has none.
    fn open_images(&mut self, client: &Client) -> Result<()> {
        if self.verb != Verb::Check {
            self.places.images = Some(self.open_image_directory(client)?);
            self.places.service_socket = client.socket;
            self.places.ends_process = client.ends_process;
        }
        Ok(())
    }

    /// The root of the tree to dump.
    pub fn target(&self) -> Option<i32> {
        self.options.pid.filter(|_| matches!(self.verb, Verb::Dump | Verb::PreDump))
    }

    /// The request, if the engine honours all of it.
    pub fn into_request(self) -> Result<Request> {
        Request::new(self.verb, self.options, self.places)
    }
}

fn no_directory() -> Error {
    Error::new(Kind::BadOptions, "no image directory is given")
        .remedy("pass images_dir_fd or images_dir")
}

/// Opens a directory that a caller named, by a descriptor of its own before a path.
fn directory(
    what: &str,
    client: &Client,
    fd: Option<i32>,
    path: &Option<OsString>,
) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let by_path = |path: &OsString| {
        let opened = open(path.as_os_str(), flags, Mode::empty());
        opened.doing(|| format!("open {what} {}", shown(path)))
    };
    match fd {
        Some(fd) => client.peer.directory(what, fd).map(Some),
        None => path.as_ref().map(by_path).transpose(),
    }
}
