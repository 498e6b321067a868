//! Messages on a SOCK_SEQPACKET socket.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, recv, send, sendmsg, setsockopt};
use nix::sys::time::TimeVal;
use prost::Message;

use crate::error::{Context, Error, Kind, Result};

/// No request is near this; a datagram larger than the socket's buffer cannot be sent anyway.
const MAX_MESSAGE: usize = 16 << 20;

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Wraps a connected socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Neither a message nor room for one is waited for longer than these seconds; zero is no
    /// limit.
    pub fn with_patience(self, seconds: u32) -> Result<Self> {
        let limit = TimeVal::new(seconds.into(), 0);
        setsockopt(&self.socket, ReceiveTimeout, &limit)
            .and_then(|()| setsockopt(&self.socket, SendTimeout, &limit))
            .doing(|| "set the time limits of the RPC socket")?;
        Ok(self)
    }

    /// Inode number of this end.
    pub fn inode(&self) -> Result<u64> {
        let stat = nix::sys::stat::fstat(&self.socket).doing(|| "stat of the RPC socket")?;
        Ok(stat.st_ino)
    }

    /// The next message, or `None` if the other end is closed.
    pub fn receive<M: Message + Default>(&self) -> Result<Option<M>> {
        let length = self.receive_into(&mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
        if length > MAX_MESSAGE {
            let cause = format!("a message of {length} bytes is too large");
            return Err(Error::new(Kind::BadOptions, cause));
        }
        let mut bytes = vec![0; length];
        if self.receive_into(&mut bytes, MsgFlags::empty())? == 0 {
            return Ok(None);
        }
        let message = M::decode(bytes.as_slice());
        message.map(Some).map_err(|error| Error::new(Kind::BadOptions, error.to_string()))
    }

    fn receive_into(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<usize> {
        loop {
            match recv(self.raw(), buffer, flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(out_of_patience("said nothing")),
                result => return result.doing(|| "receive an RPC message"),
            }
        }
    }

    /// Sends a message. A caller that is gone is an error, not a signal.
    pub fn send(&self, message: &impl Message) -> Result<()> {
        sent(send(self.raw(), &message.encode_to_vec(), MsgFlags::MSG_NOSIGNAL))
    }

    /// Sends a message with a descriptor.
    pub fn send_with_fd(&self, message: &impl Message, fd: BorrowedFd<'_>) -> Result<()> {
        let bytes = message.encode_to_vec();
        let fds = [fd.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        let parts = [IoSlice::new(&bytes)];
        sent(sendmsg::<UnixAddr>(self.raw(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None))
    }

    fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn sent(result: nix::Result<usize>) -> Result<()> {
    match result {
        Err(Errno::EAGAIN) => Err(out_of_patience("read nothing")),
        result => result.doing(|| "send an RPC message").map(drop),
    }
}

fn out_of_patience(what: &str) -> Error {
    let cause = format!("the caller {what} for as long as the service waits");
    Error::new(Kind::TimedOut, cause).remedy("criu service --timeout says how long that is")
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
