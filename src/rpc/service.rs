//! `criu service`: a SOCK_SEQPACKET socket at which whoever may connect is served, each connection
//! by a child of its own. [`rights`](super::rights) says who may ask for what, and
//! [`shares`](super::shares) how many are served.
//!
//! The child that serves somebody who is not root becomes that user, who can then make it show its
//! memory. So it is a program started anew, which has nothing of the service's.
//!
//! SIGTERM and SIGINT end the service and remove the socket; children finish what they do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::listener::Listener;
use super::peer::Peer;
use super::rights::Rights;
use super::shares::Shares;
use super::wire::Channel;
use super::worker;
use crate::engine::hooks::{Hooks, Stage};
use crate::engine::scripts::{Scripts, write_pidfile};
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::CriuReqType;
use crate::kernel::pid::HostPid;
use crate::kernel::{descriptor, host, process};
use crate::log::Log;
use crate::options::Request;

/// Where clients look when nobody tells them.
const DEFAULT_ADDRESS: &str = "./criu_service.socket";
/// How long a service that has no descriptor or memory for a connection waits for better times.
const RECOVERY_MS: u16 = 100;
/// Refused connections that are kept open.
const MOST_REFUSED: usize = 16;
/// This program, whatever has become of its file.
const PROGRAM: &str = "/proc/self/exe";
/// The command of a child that serves a user. Seconds follow.
pub const WORKER: &str = "service-worker";
/// Exit status of a child that could not serve, and of a daemon that could not start.
const FAILED: i32 = 1;
/// What a daemon tells its starter when it is ready. Anything else is why it is not.
const READY: &[u8] = b"\0";

/// Serves until a signal ends it. As a daemon it returns as soon as requests are taken.
pub fn run(request: &Request, log: &Log) -> Result<()> {
    let address = request.options.ps.as_ref().and_then(|server| server.address.as_deref());
    let listener = Listener::bind(address.unwrap_or(OsStr::new(DEFAULT_ADDRESS)))?;
    log.info(format!("the service socket is bound to {}", listener.address()));
    if request.options.restore_detached() {
        return in_background(listener, request, log);
    }
    Service::new(listener, request, log).run(request, || ())
}

/// Goes on in a child of no terminal, and waits until that is ready or says why it is not.
fn in_background(listener: Listener, request: &Request, log: &Log) -> Result<()> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).doing(|| "pipe to the daemon")?;
    let daemon = move || {
        // Closed when there is nothing more to say: the starter reads to the end. One that is gone
        // need not be told.
        let starter = Cell::new(Some(File::from(writer)));
        let tell = |text: &[u8]| starter.take().map(|mut pipe| pipe.write_all(text));
        let served = leave_terminal()
            .and_then(|()| Service::new(listener, request, log).run(request, || drop(tell(READY))));
        let Err(error) = served else { return 0 };
        log.error(&error);
        tell(error.to_string().as_bytes());
        FAILED
    };
    process::fork(daemon).doing(|| "fork the daemon")?;
    let mut said = Vec::new();
    File::from(reader).read_to_end(&mut said).doing(|| "hear of the daemon")?;
    if said == READY {
        return Ok(());
    }
    let cause = String::from_utf8_lossy(&said);
    Err(Error::new(Kind::System, format!("the daemon did not start: {cause}")))
}

/// A session of its own, and nothing to read from or print to.
fn leave_terminal() -> Result<()> {
    nix::unistd::setsid().doing(|| "setsid of the daemon")?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.doing(|| "open /dev/null")?;
    let replaced = nix::unistd::dup2_stdin(&null)
        .and_then(|()| nix::unistd::dup2_stdout(&null))
        .and_then(|()| nix::unistd::dup2_stderr(&null));
    replaced.doing(|| "replace the standard files of the daemon")
}

struct Service<'a> {
    listener: Listener,
    log: &'a Log,
    /// How long it waits for a user, in seconds.
    patience: u32,
    shares: RefCell<Shares>,
    /// The last ones that were refused. A client that is still to send its request would not get to
    /// read the refusal if the connection were closed.
    refused: RefCell<VecDeque<Channel>>,
}

impl<'a> Service<'a> {
    fn new(listener: Listener, request: &Request, log: &'a Log) -> Self {
        let patience = request.options.timeout();
        Self { listener, log, patience, shares: RefCell::default(), refused: RefCell::default() }
    }
}

impl Service<'_> {
    /// `ready` is called as soon as clients are served. The socket is removed at the end.
    fn run(&self, request: &Request, ready: impl FnOnce()) -> Result<()> {
        let served = self.announce_and_serve(request, ready);
        self.listener.remove();
        served
    }

    /// Scripts come first, as they would inherit that signals are blocked.
    fn announce_and_serve(&self, request: &Request, ready: impl FnOnce()) -> Result<()> {
        Scripts::new(request).notify(Stage::StatusReady, None)?;
        let signals = signals()?;
        announce(request)?;
        ready();
        self.serve(&signals)
    }

    fn serve(&self, signals: &SignalFd) -> Result<()> {
        loop {
            let mut waited = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            let watched = if self.shares.borrow().are_taken() { 1 } else { 2 };
            match poll(&mut waited[..watched], PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result.doing(|| "wait for a connection")?,
            };
            if self.is_over(signals)? {
                return Ok(());
            }
            if watched == waited.len() {
                self.accept(signals)?;
            }
        }
    }

    /// Takes the signals that have come; true if one of them ends the service.
    fn is_over(&self, signals: &SignalFd) -> Result<bool> {
        while let Some(signal) = signals.read_signal().doing(|| "read a signal")? {
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                self.reap();
            } else {
                self.log.info(format!("signal {} ends the service", signal.ssi_signo));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One signal may stand for the ends of many children.
    fn reap(&self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => {
                    self.shares.borrow_mut().remove(HostPid::new(pid.as_raw()));
                    self.log.info(format!("worker {pid} ended with {status}"));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.shares.borrow_mut().remove(HostPid::new(pid.as_raw()));
                    self.log.warn(format!("worker {pid} was killed by {signal}"));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn accept(&self, signals: &SignalFd) -> Result<()> {
        match self.listener.accept() {
            Ok(connection) => self.delegate(connection, signals),
            // Nobody is there after all: gone again, or it was a signal that woke us.
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => {}
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)) => {
                self.log.warn(Error::sys("accept a connection", errno));
                let mut signal = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut signal, PollTimeout::from(RECOVERY_MS));
            }
            Err(errno) => return Err(Error::sys("accept a connection", errno)),
        }
        Ok(())
    }

    /// A child serves the connection; if there can be none, the caller is told.
    fn delegate(&self, connection: OwnedFd, signals: &SignalFd) {
        let channel = Channel::new(connection);
        let served = Peer::of(&channel).and_then(|peer| {
            let rights = Rights::over_service(&peer);
            self.shares.borrow().check(rights)?;
            let worker = self.start(&channel, rights, signals)?;
            self.shares.borrow_mut().add(worker, rights);
            let Peer { pid, uid, .. } = peer;
            self.log.info(format!("connection of pid {pid}, user {uid}: worker {worker}"));
            Ok(())
        });
        let Err(error) = served else { return };
        match error.kind() {
            // A line that only a service told to say much says: a user can cause any number of it.
            Kind::Denied => self.log.info(&error),
            _ => self.log.error(&error),
        }
        refuse(&channel, &error);
        let mut refused = self.refused.borrow_mut();
        refused.truncate(MOST_REFUSED - 1);
        refused.push_front(channel);
    }

    fn start(&self, channel: &Channel, rights: Rights, signals: &SignalFd) -> Result<HostPid> {
        let ours = [self.listener.as_fd().as_raw_fd(), signals.as_fd().as_raw_fd()];
        let child = process::fork(|| {
            // This process has its own table and ends without dropping what it inherited.
            for number in ours {
                let _ = descriptor::close(number);
            }
            match rights {
                Rights::User { .. } => {
                    refuse(channel, &self.serve_user(channel));
                    FAILED
                }
                _ => serve_root(channel).unwrap_or(FAILED),
            }
        });
        child.doing(|| "fork a worker")
    }

    /// Returns only if it failed.
    fn serve_user(&self, channel: &Channel) -> Error {
        let arguments = [WORKER, &self.patience.to_string()];
        match channel.as_fd().try_clone_to_owned() {
            Ok(connection) => process::begin_afresh(PROGRAM, &arguments, connection),
            Err(error) => Error::io("dup of a connection", &error),
        }
    }
}

/// Who is gone need not be told.
fn refuse(channel: &Channel, error: &Error) {
    let _ = channel.send(&worker::failure(CriuReqType::Empty, error));
}

fn serve_root(channel: &Channel) -> Result<i32> {
    host::settle_signals()?;
    worker::serve(channel, Rights::Root)
}

/// Signals come as something to read, from now on.
fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|one| mask.add(one));
    mask.thread_block().doing(|| "block the signals of the service")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "signalfd of the service")
}

/// Pid file and the descriptor to be told by, in this order: who hears of it finds the other done.
fn announce(request: &Request) -> Result<()> {
    if let Some(file) = &request.options.pidfile {
        write_pidfile(file, HostPid::own())?;
    }
    let Some(number) = request.options.status_fd else { return Ok(()) };
    let status = host::adopt(number).doing(|| "--status-fd")?;
    nix::unistd::write(&status, &[0]).doing(|| format!("write to --status-fd {number}")).map(drop)
}
