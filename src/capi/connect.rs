//! Where the socket to the worker comes from.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::client::{Channel, Failure};
use super::host::ChildSignal;
use super::program::Program;
use super::settings::{Service, Settings};
use super::spawn::{self, Kinship};
use crate::images::proto::CriuReq;

/// Connected, and what has to be done when the verb is over.
pub struct Connection {
    pub channel: Channel,
    /// Whether the worker is a program that this verb started, and that ends with it.
    ours: bool,
    /// Reaps a worker that is the caller's own child; ends after the channel.
    child: Option<ChildSignal>,
}

impl Connection {
    /// Waits for the worker to be gone.
    pub fn finish(self) {
        if self.ours {
            self.channel.finish();
        }
        drop(self.child);
    }
}

fn unreachable_service(what: impl std::fmt::Display, error: &io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(libc::ECONNREFUSED);
    Failure { code: -libc::ECONNREFUSED, errno, message: format!("{what}: {error}") }
}

/// Reaches the worker that the settings name, and sends it the first request, if that is known.
pub fn connect(
    settings: &Settings,
    kinship: Kinship,
    first: Option<&CriuReq>,
) -> Result<Connection, Failure> {
    let connection = match &settings.service {
        // What cannot be done in process is asked for from a worker: see `verbs::ask`.
        Service::Own | Service::InProcess => {
            return start(&Program::own(), settings, kinship, first);
        }
        Service::Binary(path) => return start(&Program::named(path), settings, kinship, first),
        Service::Address(path) => connect_address(path)?,
        Service::Fd(fd) => adopt(*fd)?,
    };
    first.map_or(Ok(()), |request| connection.channel.send(request))?;
    Ok(connection)
}

/// Takes over a socket of the caller.
fn adopt(fd: RawFd) -> Result<Connection, Failure> {
    // SAFETY: fcntl() on a number that may not be open is harmless.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        let error = io::Error::from_raw_os_error(libc::EBADF);
        return Err(unreachable_service(format!("service descriptor {fd}"), &error));
    }
    // SAFETY: open, and given to the library by criu_set_service_fd().
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Connection { channel: Channel::new(socket), ours: false, child: None })
}

fn seqpacket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: a new descriptor, or a negative number.
    match unsafe { libc::socket(libc::AF_UNIX, kind, 0) } {
        fd if fd < 0 => Err(io::Error::last_os_error()),
        // SAFETY: just opened.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn connect_address(path: &CStr) -> Result<Connection, Failure> {
    let what = || format!("service address {}", path.to_string_lossy());
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    let bytes = path.to_bytes();
    if bytes.len() >= address.sun_path.len() {
        let error = io::Error::from_raw_os_error(libc::ENAMETOOLONG);
        return Err(unreachable_service(what(), &error));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len();
    let socket = seqpacket().map_err(|e| unreachable_service(what(), &e))?;
    loop {
        // SAFETY: the address is valid for `length` bytes.
        let done = unsafe {
            libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length as u32)
        };
        if done == 0 {
            return Ok(Connection { channel: Channel::new(socket), ours: false, child: None });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(unreachable_service(what(), &error));
        }
    }
}

/// A connected pair, both above the numbers of the standard streams: a host that has closed its own
/// must not have them filled, and the worker's end has to survive the worker's use of 0 to 2.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors, which nobody else owns.
    let (ours, theirs) = unsafe {
        if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
    };
    Ok((above_stdio(ours)?, above_stdio(theirs)?))
}

fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    const FIRST: RawFd = libc::STDERR_FILENO + 1;
    if fd.as_raw_fd() >= FIRST {
        return Ok(fd);
    }
    // SAFETY: duplicates an open descriptor into one that nobody else owns.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST) } {
        copy if copy < 0 => Err(io::Error::last_os_error()),
        // SAFETY: just opened.
        copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
    }
}

/// Starts a worker with one end of a socket pair, in which its first request is waiting already:
/// after the start of a program its maker may be longer in getting a processor than the program is
/// in getting ready.
fn start(
    program: &Result<Program, String>,
    settings: &Settings,
    kinship: Kinship,
    first: Option<&CriuReq>,
) -> Result<Connection, Failure> {
    let program = program.as_ref().map_err(|why| {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        unreachable_service(why, &error)
    })?;
    let (ours, theirs) = socket_pair().map_err(|e| unreachable_service("socketpair", &e))?;
    let channel = Channel::new(ours);
    first.map_or(Ok(()), |request| channel.send(request))?;
    // PID 1 adopts the worker: it is a child like any other then.
    let adopts = std::process::id() == 1;
    let mut child = (kinship == Kinship::Child || adopts).then(ChildSignal::hold);
    let inherited: Vec<RawFd> = settings.rpc.inherit_fd.iter().map(|inherit| inherit.fd).collect();
    let worker = spawn::spawn(program, theirs, &inherited, kinship)
        .map_err(|e| unreachable_service(format!("cannot start the worker {program}"), &e))?;
    if let Some(child) = &mut child {
        child.reaps(worker);
    }
    Ok(Connection { channel, ours: true, child })
}
