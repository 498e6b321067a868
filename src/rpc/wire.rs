//! Messages on a SOCK_SEQPACKET socket.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, recv, send, sendmsg};
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
                Err(nix::errno::Errno::EINTR) => {}
                result => return result.doing(|| "receive an RPC message"),
            }
        }
    }

    /// Sends a message. A caller that is gone is an error, not a signal.
    pub fn send(&self, message: &impl Message) -> Result<()> {
        send(self.raw(), &message.encode_to_vec(), MsgFlags::MSG_NOSIGNAL)
            .doing(|| "send an RPC message")
            .map(drop)
    }

    /// Sends a message with a descriptor.
    pub fn send_with_fd(&self, message: &impl Message, fd: BorrowedFd<'_>) -> Result<()> {
        let bytes = message.encode_to_vec();
        let fds = [fd.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        let parts = [IoSlice::new(&bytes)];
        sendmsg::<UnixAddr>(self.raw(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None)
            .doing(|| "send an RPC message with a descriptor")
            .map(drop)
    }

    fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
