//! The socket by which a process asked for its own dump.
//!
//! The process waits for the answer while it is dumped. The image has its socket as a closed one
//! with a mark, for which the restore makes a new pair of sockets, with the answer "you were
//! restored" in it. This kind claims no other sockets.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket, socketpair,
};
use nix::sys::stat::SFlag;
use prost::Message as _;

use super::context::{DumpCx, RestoreCx};
use super::describe::{Description, socket_type};
use super::kind::{FileId, FileKind, held_as};
use super::opened::{Captured, Opened};
use super::set_status_flags;
use crate::error::{Context, Error, Result};
use crate::images::proto::{
    CriuDumpResp, CriuReqType, CriuResp, FdTypes, FownEntry, SkOptsEntry, UnixSkEntry,
};
use crate::images::snapshot::Snapshot;
use crate::kernel::socket;

/// `UnixSkEntry.uflags`: the mark.
const SERVICE: u32 = 2;
/// `UnixSkEntry.state` of a socket without a peer.
const CLOSED: u32 = 7;
const LISTENING: u32 = 10;

pub(super) struct ServiceSocket;

impl FileKind for ServiceSocket {
    const TYPE: FdTypes = FdTypes::Unixsk;
    const NAME: &'static str = "unix";
    const IS_SOCKET: bool = true;
    type Entry = UnixSkEntry;
    type Met = ();
    type Made = ();
    held_as!(usk);

    fn claim(file: &Opened, cx: &DumpCx<'_>) -> bool {
        let Some(service) = cx.options.service_socket else { return false };
        file.is(SFlag::S_IFSOCK)
            && socket::option(&file.file, libc::SO_DOMAIN) == Ok(libc::AF_UNIX as u32)
            && matches!(peer(file.stat.st_ino as u32), Ok(Some(peer)) if u64::from(peer) == service)
    }

    fn capture(file: &Opened, id: FileId, _: &mut (), _: &mut DumpCx<'_>) -> Captured<UnixSkEntry> {
        let what = || format!("{}: read the options of {}", file.place, file.object());
        Ok(UnixSkEntry {
            id,
            ino: file.stat.st_ino as u32,
            r#type: socket::option(&file.file, libc::SO_TYPE).doing(what)?,
            state: CLOSED,
            flags: file.flags(),
            uflags: SERVICE,
            backlog: 0,
            peer: 0,
            fown: file.owner,
            opts: options(&file.file).doing(what)?,
            name: Vec::new(),
            ..Default::default()
        })
    }

    /// Images of other writers may have any unix socket; only the marked one can be restored.
    fn validate(entry: &UnixSkEntry, _: &Snapshot) -> Result<()> {
        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
        if entry.uflags & SERVICE == 0 || !kinds.contains(&entry.r#type.cast_signed()) {
            let cause =
                format!("unix socket {} (socket:[{}]) is not restored", entry.id, entry.ino);
            return Err(Error::image("files.img", cause));
        }
        Ok(())
    }

    fn open(entry: &UnixSkEntry, _: &mut (), _: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        answered(entry).map(Some)
    }

    fn owner<'a>(entry: &'a UnixSkEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    /// Describes any unix socket, since images of other writers have them.
    fn describe(entry: &UnixSkEntry, all: &Snapshot) -> Description {
        let mut text = socket_type(entry.r#type).to_owned();
        text += &match entry.name.split_first() {
            None => String::new(),
            Some((0, name)) => format!(" @{}", String::from_utf8_lossy(name)),
            Some(_) => {
                let name = entry.name.strip_suffix(&[0]).unwrap_or(&entry.name);
                format!(" {}", String::from_utf8_lossy(name))
            }
        };
        if entry.state == LISTENING {
            text += " listening";
        }
        text += &format!(", socket {}", entry.ino);
        if entry.peer != 0 {
            text += &format!(" to {}", entry.peer);
        }
        match all.socket_queues.iter().filter(|(packet, _)| packet.id_for == entry.id).count() {
            0 => {}
            count => text += &format!(", {count} packets wait"),
        }
        Description::saying(text)
    }
}

fn options(socket: &OwnedFd) -> nix::Result<SkOptsEntry> {
    let number = |name| socket::option(socket, name);
    let yes = |name| Ok::<_, nix::Error>(Some(number(name)? != 0));
    let send_time = socket::timeout(socket, libc::SO_SNDTIMEO)?;
    let receive_time = socket::timeout(socket, libc::SO_RCVTIMEO)?;
    Ok(SkOptsEntry {
        so_sndbuf: number(libc::SO_SNDBUF)?,
        so_rcvbuf: number(libc::SO_RCVBUF)?,
        so_snd_tmo_sec: send_time.0,
        so_snd_tmo_usec: send_time.1,
        so_rcv_tmo_sec: receive_time.0,
        so_rcv_tmo_usec: receive_time.1,
        so_priority: Some(number(libc::SO_PRIORITY)?),
        so_rcvlowat: Some(number(libc::SO_RCVLOWAT)?),
        reuseaddr: yes(libc::SO_REUSEADDR)?,
        so_passcred: yes(libc::SO_PASSCRED)?,
        so_passsec: yes(libc::SO_PASSSEC)?,
        so_dontroute: yes(libc::SO_DONTROUTE)?,
        so_no_check: yes(libc::SO_NO_CHECK)?,
        so_broadcast: yes(libc::SO_BROADCAST)?,
        so_keepalive: yes(libc::SO_KEEPALIVE)?,
        so_oobinline: Some(number(libc::SO_OOBINLINE)?),
        ..Default::default()
    })
}

/// Makes a pair of sockets and puts the answer into it; the result is the end that reads it.
fn answered(entry: &UnixSkEntry) -> Result<OwnedFd> {
    let what = || "make the socket of a process that asked for its own dump";
    let kind = match entry.r#type.cast_signed() {
        libc::SOCK_STREAM => SockType::Stream,
        libc::SOCK_DGRAM => SockType::Datagram,
        _ => SockType::SeqPacket,
    };
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).doing(what)?;
    let answer = CriuResp {
        r#type: CriuReqType::Dump as i32,
        success: true,
        dump: Some(CriuDumpResp { restored: Some(true) }),
        ..Default::default()
    };
    send(theirs.as_raw_fd(), &answer.encode_to_vec(), MsgFlags::MSG_NOSIGNAL).doing(what)?;
    set_options(&ours, &entry.opts).doing(what)?;
    set_status_flags(&ours, entry.flags).doing(what)?;
    Ok(ours)
}

fn set_options(socket: &OwnedFd, opts: &SkOptsEntry) -> nix::Result<()> {
    // The kernel doubles the sizes that it is given.
    socket::set_option(socket, libc::SO_SNDBUFFORCE, opts.so_sndbuf / 2)?;
    socket::set_option(socket, libc::SO_RCVBUFFORCE, opts.so_rcvbuf / 2)?;
    let send_time = (opts.so_snd_tmo_sec, opts.so_snd_tmo_usec);
    socket::set_timeout(socket, libc::SO_SNDTIMEO, send_time)?;
    let receive_time = (opts.so_rcv_tmo_sec, opts.so_rcv_tmo_usec);
    socket::set_timeout(socket, libc::SO_RCVTIMEO, receive_time)?;
    let flags = [
        (libc::SO_REUSEADDR, opts.reuseaddr),
        (libc::SO_PASSCRED, opts.so_passcred),
        (libc::SO_PASSSEC, opts.so_passsec),
        (libc::SO_KEEPALIVE, opts.so_keepalive),
        (libc::SO_BROADCAST, opts.so_broadcast),
    ];
    for (name, value) in flags {
        if value == Some(true) {
            socket::set_option(socket, name, 1)?;
        }
    }
    Ok(())
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
const HEADER: usize = 16;

/// The inode number of a unix socket's peer. None if it has no peer, or there is no such socket.
fn peer(ino: u32) -> nix::Result<Option<u32>> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(netlink.as_raw_fd(), &request(ino), MsgFlags::empty())?;
    let mut reply = [0u8; 1024];
    let len = recv(netlink.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    Ok(peer_in(&reply[..len]))
}

fn request(ino: u32) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(40u32.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0u8; 8]);
    message.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    let any = u32::MAX;
    for word in [any, ino, UDIAG_SHOW_PEER, any, any] {
        message.extend(word.to_ne_bytes());
    }
    message
}

/// The peer among the attributes of an answer, which follow two headers of equal size.
fn peer_in(reply: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(reply.get(4..6)?.try_into().ok()?);
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut attributes = reply.get(2 * HEADER..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(attributes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == UNIX_DIAG_PEER {
            return Some(u32::from_ne_bytes(attributes.get(4..8)?.try_into().ok()?));
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::fstat;

    #[test]
    fn a_peer_is_found() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let (one, other) = (fstat(&one).unwrap().st_ino, fstat(&other).unwrap().st_ino);
        assert_eq!(peer(one as u32), Ok(Some(other as u32)));
        assert_eq!(peer(0xffff_fff0), Ok(None));
    }

    #[test]
    fn the_answer_waits_in_the_socket() {
        let mut opts = SkOptsEntry { so_sndbuf: 212_992, so_rcvbuf: 212_992, ..Default::default() };
        opts.so_passcred = Some(true);
        let kind = libc::SOCK_SEQPACKET.cast_unsigned();
        let entry =
            UnixSkEntry { r#type: kind, uflags: SERVICE, opts: opts.clone(), ..Default::default() };
        let all = Snapshot::default();
        ServiceSocket::validate(&entry, &all).unwrap();
        let socket = answered(&entry).unwrap();
        let mut bytes = [0u8; 256];
        let len = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
        let answer = CriuResp::decode(&bytes[..len]).unwrap();
        assert!(answer.success);
        assert_eq!(answer.dump.unwrap().restored, Some(true));
        let now = options(&socket).unwrap();
        assert_eq!((now.so_sndbuf, now.so_passcred), (opts.so_sndbuf, Some(true)));
        let other = UnixSkEntry { uflags: 0, ..entry };
        assert!(ServiceSocket::validate(&other, &all).is_err());
    }
}
