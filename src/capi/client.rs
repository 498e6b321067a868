//! One request and its answer over the socket.

use std::ffi::c_int;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use prost::Message;

use super::notes::keep_descriptor;
use super::settings::Notify;
use crate::images::proto::{CriuReq, CriuReqType, CriuResp};

/// Why a verb fails: what it returns, what it leaves in errno, what `criu_last_error()` says.
#[derive(Debug)]
pub struct Failure {
    pub code: c_int,
    pub errno: c_int,
    pub message: String,
}

impl Failure {
    /// A failure by its negative code, with the code's number as errno.
    pub fn new(code: c_int, message: impl Into<String>) -> Self {
        Self { code, errno: code.saturating_neg(), message: message.into() }
    }

    /// No message could be sent or received.
    pub fn comm(what: &str, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EPROTO);
        Self { code: -libc::ECOMM, errno, message: format!("{what}: {error}") }
    }

    /// The worker did as it was told, and said no.
    pub fn refused(response: &CriuResp) -> Self {
        let message = match response.cr_errmsg.as_deref() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => "the worker failed and gave no reason; its log may tell".to_owned(),
        };
        Self { code: -libc::EBADE, errno: response.cr_errno.unwrap_or(0), message }
    }

    /// The answer lacks what it should hold.
    pub fn bad_answer(what: &str) -> Self {
        Self::new(-libc::EBADMSG, format!("the worker's answer {what}"))
    }
}

/// A SOCK_SEQPACKET socket with a worker at its other end.
pub struct Channel(OwnedFd);

/// Room for the descriptors of one message: one is meant, more are closed.
const CONTROL_ROOM: usize = 256;

impl Channel {
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sends a request, which need not be read before this returns.
    pub fn send(&self, request: &CriuReq) -> Result<(), Failure> {
        self.write(request).map_err(|e| Failure::comm("cannot send the request", &e))
    }

    fn write(&self, request: &CriuReq) -> io::Result<()> {
        let bytes = request.encode_to_vec();
        loop {
            // SAFETY: the buffer is valid for its length. MSG_NOSIGNAL: no SIGPIPE for the host.
            let sent = unsafe {
                libc::send(self.raw(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)
            };
            match again(sent)? {
                Some(_) => return Ok(()),
                None => continue,
            }
        }
    }

    /// The length of the next message; 0 if the worker is gone.
    ///
    /// A self-dump is dumped while it blocks here, and its clone wakes up here: a plain recv() that
    /// the kernel restarts, not a poll() with a deadline of its own.
    fn next_length(&self) -> io::Result<usize> {
        loop {
            // SAFETY: a zero-length buffer is never written to.
            let length = unsafe {
                libc::recv(self.raw(), ptr::null_mut(), 0, libc::MSG_TRUNC | libc::MSG_PEEK)
            };
            if let Some(length) = again(length)? {
                return Ok(length);
            }
        }
    }

    fn receive(&self) -> io::Result<CriuResp> {
        let length = self.next_length()?;
        if length == 0 {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        let mut bytes = vec![0u8; length];
        let length = self.receive_into(&mut bytes)?;
        let message = CriuResp::decode(&bytes[..length.min(bytes.len())]);
        message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Receives a message and keeps a descriptor that came with it.
    fn receive_into(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut control = [0u64; CONTROL_ROOM / 8];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: all pointers are valid for the lengths given, until the call returns.
        let (length, header) = unsafe {
            let mut header: libc::msghdr = MaybeUninit::zeroed().assume_init();
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_ROOM;
            let length = loop {
                let flags = libc::MSG_CMSG_CLOEXEC;
                if let Some(length) = again(libc::recvmsg(self.raw(), &raw mut header, flags))? {
                    break length;
                }
            };
            (length, header)
        };
        // The first one is the caller's; the rest close here.
        if let Some(fd) = descriptors(&header).into_iter().next() {
            keep_descriptor(fd);
        }
        Ok(length)
    }

    /// Waits until the worker is gone, which it is soon: it has nothing more to do.
    pub fn finish(self) {
        const LONGEST_MS: c_int = 1000;
        let mut socket = std::os::unix::net::UnixStream::from(self.0);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut wait = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `wait` is one valid entry.
        while unsafe { libc::poll(&raw mut wait, 1, LONGEST_MS) } > 0 {
            match socket.read(&mut [0; 64]) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}

/// The value of a call; None if it was interrupted.
fn again(value: isize) -> io::Result<Option<usize>> {
    match usize::try_from(value) {
        Ok(value) => Ok(Some(value)),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EINTR) => Ok(None),
            error => Err(error),
        },
    }
}

fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: the kernel filled the control buffer, which the caller keeps alive; the descriptors
    // in it were opened for this process and belong to nobody else.
    unsafe {
        let mut part = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = part.as_ref() {
            if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
                let bytes = head.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(part).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    found.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            part = libc::CMSG_NXTHDR(header, part);
        }
    }
    found
}

/// Sends a request and waits for the response to it.
pub fn converse(channel: &Channel, notify: Notify, request: &CriuReq) -> Result<CriuResp, Failure> {
    channel.send(request)?;
    response(channel, notify, request)
}

/// Waits for the response to a request that was sent, and answers the notifications before it.
///
/// A callback that refuses is told to the worker, which undoes what it did and may notify about
/// that; its message is worth having, so the wait goes on to the final answer.
pub fn response(channel: &Channel, notify: Notify, request: &CriuReq) -> Result<CriuResp, Failure> {
    let mut refusal: Option<(c_int, String)> = None;
    let response = loop {
        let response = match (channel.receive(), refusal.take()) {
            (Ok(response), kept) => {
                refusal = kept;
                response
            }
            (Err(_), Some((code, stage))) => return Err(callback_refused(code, &stage, None)),
            (Err(e), None) => return Err(Failure::comm("cannot receive the answer", &e)),
        };
        if response.r#type() != CriuReqType::Notify {
            break response;
        }
        let note = response.notify.unwrap_or_default();
        let stage = note.script.unwrap_or_default();
        let code = notify.call(&stage, note.pid);
        if code != 0 && refusal.is_none() {
            refusal = Some((code, stage));
        }
        let answer = CriuReq {
            r#type: CriuReqType::Notify.into(),
            notify_success: Some(code == 0),
            ..Default::default()
        };
        if let Err(e) = channel.write(&answer) {
            return Err(match refusal {
                Some((code, stage)) => callback_refused(code, &stage, None),
                None => Failure::comm("cannot answer a notification", &e),
            });
        }
    };
    match refusal {
        Some((code, stage)) => Err(callback_refused(code, &stage, response.cr_errmsg.as_deref())),
        None => matching(request, response),
    }
}

/// The callback's own value is the verb's, if it can be told from success.
pub fn callback_refused(code: c_int, stage: &str, detail: Option<&str>) -> Failure {
    let detail = detail.filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
    let message = format!("the callback refused {stage} with {code}{}", detail.unwrap_or_default());
    let code = if code < 0 { code } else { -libc::EBADE };
    Failure { code, errno: 0, message }
}

/// Checks that the response answers the request.
fn matching(request: &CriuReq, response: CriuResp) -> Result<CriuResp, Failure> {
    if response.r#type == request.r#type {
        return Ok(response);
    }
    if response.r#type() == CriuReqType::Empty && !response.success {
        let refused = Failure::refused(&response);
        return Err(Failure { code: -libc::EINVAL, ..refused });
    }
    Err(Failure::bad_answer(&format!(
        "is of type {} instead of {}",
        response.r#type, request.r#type
    )))
}
