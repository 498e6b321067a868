//! Probes of sockets, devices and netlink.

use std::fs::File;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};

use super::{exists, missing};
use crate::error::{Context, Result};
use crate::kernel::{probe, socket};

const TUNGETFEATURES: libc::c_ulong = 0x8004_54cf;
const SIOCGSKNS: libc::c_ulong = 0x894c;
const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
const SO_BUF_LOCK: i32 = 72;
const IPV6_FREEBIND: i32 = 78;

fn open_tun() -> Result<File> {
    let path = "/dev/net/tun";
    File::options().read(true).write(true).open(path).doing(|| format!("open {path}"))
}

pub(super) fn tun() -> Result<()> {
    probe::ioctl_for_int(open_tun()?, TUNGETFEATURES).doing(|| "ioctl TUNGETFEATURES").map(drop)
}

/// A tun file without a device has no namespace, for which the call fails with EBADFD. Where the call is
/// unknown, it fails with ENOTTY.
pub(super) fn tun_ns() -> Result<()> {
    match probe::ioctl_for_fd(open_tun()?, SIOCGSKNS) {
        Ok(_) | Err(Errno::EBADFD) => Ok(()),
        Err(errno) => Err(errno).doing(|| "ioctl SIOCGSKNS on /dev/net/tun"),
    }
}

pub(super) fn sk_ns() -> Result<()> {
    let socket = UnixDatagram::unbound().doing(|| "socket AF_UNIX")?;
    probe::ioctl_for_fd(&socket, SIOCGSKNS).doing(|| "ioctl SIOCGSKNS").map(drop)
}

/// A socket that is not bound has no file, for which the call fails with ENOENT.
pub(super) fn sk_unix_file() -> Result<()> {
    let socket = UnixDatagram::unbound().doing(|| "socket AF_UNIX")?;
    match probe::ioctl_for_fd(&socket, SIOCUNIXFILE) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno).doing(|| "ioctl SIOCUNIXFILE"),
    }
}

pub(super) fn sockopt_buf_lock() -> Result<()> {
    let socket = UnixDatagram::unbound().doing(|| "socket AF_UNIX")?;
    socket::option(&socket, SO_BUF_LOCK).doing(|| "getsockopt SO_BUF_LOCK").map(drop)
}

pub(super) fn ipv6_freebind() -> Result<()> {
    let socket = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .doing(|| "socket AF_INET6")?;
    socket::set_option_of(&socket, libc::IPPROTO_IPV6, IPV6_FREEBIND, 1)
        .doing(|| "setsockopt IPV6_FREEBIND")
}

/// Whether a connection that one side has closed can be put into repair mode.
pub(super) fn tcp_half_closed() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).doing(|| "listen on 127.0.0.1")?;
    let address = listener.local_addr().doing(|| "the address of a listener")?;
    let stream = TcpStream::connect(address).doing(|| format!("connect to {address}"))?;
    let _other = listener.accept().doing(|| "accept on 127.0.0.1")?;
    stream.shutdown(Shutdown::Write).doing(|| "shutdown")?;
    let on = 1;
    socket::set_option_of(&stream, libc::IPPROTO_TCP, libc::TCP_REPAIR, on)
        .doing(|| "setsockopt TCP_REPAIR on a half-closed connection")
}

/// A netlink message: header and payload.
fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = (16 + payload.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes
}

const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;

/// Sends a request and returns the kind of the answer. An answer with an error number is an error.
fn ask(protocol: SockProtocol, request: &[u8]) -> std::result::Result<u16, Errno> {
    let socket = netlink(protocol)?;
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut answer = vec![0; 32 << 10];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let at = |from: usize, to: usize| answer[..length].get(from..to).ok_or(Errno::EBADMSG);
    let kind = u16::from_ne_bytes(at(4, 6)?.try_into().map_err(|_| Errno::EBADMSG)?);
    if kind != NLMSG_ERROR {
        return Ok(kind);
    }
    match i32::from_ne_bytes(at(16, 20)?.try_into().map_err(|_| Errno::EBADMSG)?) {
        0 => Ok(kind),
        negative => Err(Errno::from_raw(-negative)),
    }
}

fn netlink(protocol: SockProtocol) -> std::result::Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // So that nobody waits for ever for an answer that does not come.
    setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(2, 0))?;
    Ok(socket)
}

pub(super) fn net_diag_raw() -> Result<()> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    let mut request = vec![0; 56];
    request[0] = libc::AF_INET as u8;
    request[1] = libc::IPPROTO_RAW as u8;
    request[4..8].fill(0xff);
    let request = message(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, &request);
    ask(SockProtocol::NetlinkSockDiag, &request).doing(|| "sock_diag of raw sockets").map(drop)
}

pub(super) fn nsid() -> Result<()> {
    const RTM_GETNSID: u16 = 90;
    const NETNSA_PID: u16 = 2;
    let mut request = vec![0; 4];
    request.extend(attribute(NETNSA_PID, std::process::id()));
    ask(SockProtocol::NetlinkRoute, &message(RTM_GETNSID, REQUEST, &request))
        .doing(|| "RTM_GETNSID")
        .map(drop)
}

/// Where the attribute is known, the kernel refuses an id that no namespace has.
pub(super) fn link_nsid() -> Result<()> {
    const IFLA_TARGET_NETNSID: u16 = 46;
    match ask_link(RTM_GETLINK, 1, attribute(IFLA_TARGET_NETNSID, 0x7fff_0000)) {
        Err(Errno::EINVAL) => Ok(()),
        Ok(_) => missing("RTM_GETLINK ignores IFLA_TARGET_NETNSID"),
        Err(errno) => Err(errno).doing(|| "RTM_GETLINK with IFLA_TARGET_NETNSID"),
    }
}

/// Where the attribute is known, the kernel refuses an impossible index (EINVAL, ERANGE) before it looks
/// for the device, which does not exist (ENODEV).
pub(super) fn newifindex() -> Result<()> {
    const IFLA_NEW_IFINDEX: u16 = 49;
    match ask_link(RTM_SETLINK, i32::MAX, attribute(IFLA_NEW_IFINDEX, u32::MAX)) {
        Err(Errno::EINVAL | Errno::ERANGE) => Ok(()),
        Ok(_) | Err(Errno::ENODEV) => missing("RTM_SETLINK ignores IFLA_NEW_IFINDEX"),
        Err(errno) => Err(errno).doing(|| "RTM_SETLINK with IFLA_NEW_IFINDEX"),
    }
}

const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

fn ask_link(kind: u16, index: i32, attribute: Vec<u8>) -> std::result::Result<u16, Errno> {
    let mut request = vec![0; 16];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    request.extend(attribute);
    ask(SockProtocol::NetlinkRoute, &message(kind, REQUEST, &request))
}

fn attribute(kind: u16, value: u32) -> Vec<u8> {
    let mut bytes = 8u16.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value.to_ne_bytes());
    bytes
}

pub(super) fn nftables() -> Result<()> {
    const NFT_MSG_GETGEN: u16 = 10 << 8 | 16;
    ask(SockProtocol::NetlinkNetFilter, &message(NFT_MSG_GETGEN, REQUEST, &[0; 4]))
        .doing(|| "NFT_MSG_GETGEN")
        .map(drop)
}

pub(super) fn ipt_legacy() -> Result<()> {
    exists("/proc/net/ip_tables_names")
}
