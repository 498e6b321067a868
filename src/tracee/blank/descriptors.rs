//! Handing descriptors to a blank.
//!
//! A blank's table holds nothing but one end of a *service socket*, through which the engine sends
//! open files (SCM_RIGHTS). All blanks of a tree inherit the same end; the one that is made to
//! receive takes the message. The number of the socket must lie above all final descriptors, and
//! the socket is closed when the blank is finished.
//!
//! Received descriptors get the lowest free numbers. As long as a table has none of its final
//! descriptors, these numbers can be foreseen, so that a batch can receive descriptors and use them
//! as well: see [`Delivery`].

use std::cell::Cell;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use super::Blank;
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteFd;
use crate::tracee::batch::{Batch, CallId, DataRef, Outcome};

/// SCM_MAX_FD of the kernel.
const PER_MESSAGE: usize = 253;
/// Messages under way at once: few enough for the smallest socket buffer.
const MESSAGES: usize = 8;
/// `struct msghdr` and the fields of it that are set or read.
const MSGHDR_SIZE: usize = 56;
const MSG_IOV: usize = 16;
const MSG_CONTROL: usize = 32;
const MSG_FLAGS: usize = 48;
const CMSG_HEADER: usize = 16;

/// The engine's end of the socket, common to all blanks of a tree.
pub(super) struct Service {
    engine: OwnedFd,
}

impl Service {
    /// The engine's end, and the one for the blanks.
    pub fn pair() -> Result<(Rc<Self>, OwnedFd)> {
        // The socket keeps packets apart, so that two transfers cannot merge.
        let (engine, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .doing(|| "create the service socket".to_owned())?;
        Ok((Rc::new(Self { engine }), theirs))
    }

    pub fn engine_end(&self) -> RawFd {
        self.engine.as_raw_fd()
    }
}

/// Where the blanks' end stands in a table; one value for all that share the table.
pub(super) struct ServiceFd {
    service: Rc<Service>,
    /// `None` once it is closed.
    number: Cell<Option<RawFd>>,
    /// Whether the table may hold anything else.
    filled: Cell<bool>,
}

impl ServiceFd {
    pub fn new(service: Rc<Service>, number: RawFd) -> Self {
        Self { service, number: Cell::new(Some(number)), filled: Cell::new(false) }
    }

    /// The socket as it stands in a copy of this table.
    pub fn copied(&self) -> Self {
        let (number, filled) = (self.number.clone(), self.filled.clone());
        Self { service: self.service.clone(), number, filled }
    }

    pub fn engine_end(&self) -> RawFd {
        self.service.engine_end()
    }
}

/// A batch that may receive descriptors and use them.
///
/// Nothing else may be sent to any blank before it has run.
pub struct Delivery<'b> {
    blank: &'b mut Blank,
    batch: Batch,
    checks: Vec<Check>,
}

/// Judges what a batch has brought.
type Check = Box<dyn FnOnce(&Outcome) -> Result<()>>;

impl<'b> Delivery<'b> {
    /// An empty batch for the leader of `blank`.
    pub fn to(blank: &'b mut Blank) -> Self {
        Self { blank, batch: Batch::new(), checks: Vec::new() }
    }

    /// The batch, for more calls.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// The pid.
    pub fn pid(&self) -> HostPid {
        self.blank.pid()
    }

    /// The blank itself, in which what was added since the last [`flush`](Self::flush) has not run.
    pub fn blank(&mut self) -> &mut Blank {
        self.blank
    }

    /// Has what the batch brings looked at as soon as it has run.
    pub fn check(&mut self, check: impl FnOnce(&Outcome) -> Result<()> + 'static) {
        self.checks.push(Box::new(check));
    }

    /// Gives the blank copies of open files. The result is the numbers under which the calls that
    /// are added next find them. Descriptors that were received before must have been closed by
    /// calls of the batch, or be final.
    pub fn receive(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<RemoteFd>> {
        if self.blank.service.filled.get() || fds.len() > PER_MESSAGE {
            self.flush()?;
            return self.blank.send_fds(fds);
        }
        if fds.is_empty() {
            return Ok(Vec::new());
        }
        let socket = self.blank.service_number()?;
        self.blank.send_message(fds)?;
        let foreseen: Vec<RemoteFd> =
            (0..).filter(|number| *number != socket).map(RemoteFd).take(fds.len()).collect();
        let receive = add_receive(&mut self.batch, socket, fds.len());
        let (pid, due) = (self.pid(), foreseen.clone());
        self.check(move |outcome| receive.check(outcome, &due).doing(|| format!("pid {pid}")));
        Ok(foreseen)
    }

    /// To be called when the table has got descriptors that stay.
    pub fn note_filled(&mut self) {
        self.blank.service.filled.set(true);
    }

    /// Runs what was added so far.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_with(Vec::new())
    }

    /// Runs it together with batches of other threads, given by their indices.
    pub fn flush_with(&mut self, others: Vec<(usize, Batch)>) -> Result<()> {
        let (own, checks) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.checks));
        if own.is_empty() {
            return self.blank.run_in_threads(others).map(drop);
        }
        let batches = std::iter::once((0, own)).chain(others).collect();
        let outcomes = self.blank.run_in_threads(batches)?;
        checks.into_iter().try_for_each(|check| check(&outcomes[0]))
    }
}

/// One receiving call of a batch.
struct Receive {
    call: CallId,
    header: DataRef,
    control: DataRef,
    count: usize,
}

impl Blank {
    /// The number of the service socket in the blank's table, unless it is closed already.
    pub fn service_fd(&self) -> Option<RemoteFd> {
        self.service.number.get().map(RemoteFd)
    }

    /// Moves the service socket to the lowest free number that is not below `floor`.
    pub fn move_service_fd(&mut self, floor: i32) -> Result<()> {
        let old = self.service_number()?;
        let mut batch = Batch::new();
        let what = format!("move the service socket above {floor}");
        let moved = batch.must(what, libc::SYS_fcntl, args![old, libc::F_DUPFD, floor]);
        batch.must("close the old service socket", libc::SYS_close, args![old]);
        let outcome = self.run(batch)?;
        let number = outcome.ret(moved).doing(|| "move the service socket".to_owned())?;
        self.service.number.set(Some(i32::try_from(number).expect("a descriptor")));
        Ok(())
    }

    /// Gives the blank copies of open files. They land on the lowest free numbers, in order,
    /// without close-on-exec.
    pub fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<RemoteFd>> {
        let mut numbers = Vec::with_capacity(fds.len());
        for chunk in fds.chunks(PER_MESSAGE * MESSAGES) {
            numbers.extend(self.send_some(chunk)?);
        }
        Ok(numbers)
    }

    fn send_some(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<RemoteFd>> {
        let socket = self.service_number()?;
        let mut batch = Batch::new();
        let mut receives = Vec::new();
        for message in fds.chunks(PER_MESSAGE) {
            self.send_message(message)?;
            receives.push(add_receive(&mut batch, socket, message.len()));
        }
        let outcome = self.run(batch)?;
        let mut numbers = Vec::with_capacity(fds.len());
        for receive in receives {
            numbers.extend(receive.numbers(&outcome).doing(|| format!("pid {}", self.pid()))?);
        }
        Ok(numbers)
    }

    fn send_message(&self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(
            self.service.engine_end(),
            &[IoSlice::new(&[0])],
            &[ControlMessage::ScmRights(&raw)],
            flags,
            None,
        )
        .map(drop)
        .doing(|| format!("send {} descriptors to pid {}", fds.len(), self.pid()))
    }

    fn service_number(&self) -> Result<RawFd> {
        self.service.number.get().ok_or_else(|| {
            let text = format!("pid {}: the service socket is closed already", self.pid());
            Error::new(Kind::Internal, text)
        })
    }

    /// Closes the service socket in the blank's table, if it is still there.
    pub(super) fn close_service_fd(&mut self) -> Result<()> {
        let Some(number) = self.service.number.take() else { return Ok(()) };
        let mut batch = Batch::new();
        batch.must("close the service socket", libc::SYS_close, args![number]);
        self.run(batch).map(drop)
    }
}

fn add_receive(batch: &mut Batch, socket: RawFd, count: usize) -> Receive {
    let byte = batch.space(1);
    let iov = batch.bytes(&[[0; 8], 1u64.to_le_bytes()].concat());
    batch.point(iov, byte);
    let control_len = (CMSG_HEADER + 4 * count).next_multiple_of(8);
    let control = batch.space(control_len);
    let mut header = [0u8; MSGHDR_SIZE];
    header[MSG_IOV + 8] = 1;
    header[MSG_CONTROL + 8..][..8].copy_from_slice(&(control_len as u64).to_le_bytes());
    let header = batch.bytes(&header);
    batch.point(header.skip(MSG_IOV), iov);
    batch.point(header.skip(MSG_CONTROL), control);
    let what = format!("receive {count} descriptors");
    let call = batch.must(what, libc::SYS_recvmsg, args![socket, header, libc::MSG_DONTWAIT]);
    Receive { call, header, control, count }
}

impl Receive {
    /// The descriptors have to be on these numbers.
    fn check(&self, outcome: &Outcome, due: &[RemoteFd]) -> Result<()> {
        let numbers = self.numbers(outcome)?;
        if numbers == due {
            return Ok(());
        }
        let text = format!("descriptors were received as {numbers:?}, not {due:?}");
        Err(Error::new(Kind::Internal, text))
    }

    /// Where the table is full the kernel silently delivers fewer descriptors; only the lengths
    /// tell.
    fn numbers(&self, outcome: &Outcome) -> Result<Vec<RemoteFd>> {
        let got = outcome.ret(self.call).doing(|| "receive descriptors".to_owned())?;
        let flags = outcome.u32(self.header.skip(MSG_FLAGS));
        let len = outcome.u64(self.control);
        let whole = len == (CMSG_HEADER + 4 * self.count) as u64;
        if got != 1 || flags & libc::MSG_CTRUNC.cast_unsigned() != 0 || !whole {
            let text = format!("{} descriptors do not fit into its table", self.count);
            return Err(Error::new(Kind::Denied, text)
                .remedy("raise the hard limit of open files (RLIMIT_NOFILE)"));
        }
        let fds = &outcome.bytes(self.control)[CMSG_HEADER..][..4 * self.count];
        let number = |raw: &[u8]| i32::from_le_bytes(raw.try_into().expect("four bytes"));
        Ok(fds.chunks_exact(4).map(|raw| RemoteFd(number(raw))).collect())
    }
}
