//! What an open file is, in a line.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::images::proto::{FdTypes, FileEntry, InetSkEntry, RemapType, TtyType, UnixSkEntry};
use crate::images::snapshot::Snapshot;

/// An open file, for people.
#[derive(Debug, Default)]
pub struct Description {
    /// A word for its kind.
    pub kind: &'static str,
    pub is_socket: bool,
    /// `r`, `w` or `rw`, where it has one.
    pub access: &'static str,
    pub text: String,
}

/// Describes the file `id`, which may not be there.
pub fn describe(snapshot: &Snapshot, id: u32, file: Option<&FileEntry>) -> Description {
    let Some(file) = file else {
        return Description { kind: "missing", text: format!("file {id}"), ..Default::default() };
    };
    let (kind, is_socket) = kind(file.r#type());
    let mut text = name(snapshot, file);
    if let Some(more) = details(snapshot, file) {
        text = if text.is_empty() { more } else { format!("{text}, {more}") };
    }
    Description { kind, is_socket, access: access(file), text }
}

fn kind(kind: FdTypes) -> (&'static str, bool) {
    match kind {
        FdTypes::Und => ("unknown", false),
        FdTypes::Reg => ("file", false),
        FdTypes::Pipe => ("pipe", false),
        FdTypes::Fifo => ("fifo", false),
        FdTypes::Inetsk => ("inet", true),
        FdTypes::Unixsk => ("unix", true),
        FdTypes::Eventfd => ("eventfd", false),
        FdTypes::Eventpoll => ("epoll", false),
        FdTypes::Inotify => ("inotify", false),
        FdTypes::Signalfd => ("signalfd", false),
        FdTypes::Packetsk => ("packet", true),
        FdTypes::Tty => ("tty", false),
        FdTypes::Fanotify => ("fanotify", false),
        FdTypes::Netlinksk => ("netlink", true),
        FdTypes::Ns => ("namespace", false),
        FdTypes::Tunf => ("tun", false),
        FdTypes::Ext => ("external", false),
        FdTypes::Timerfd => ("timerfd", false),
        FdTypes::Memfd => ("memfd", false),
        FdTypes::Bpfmap => ("bpf map", false),
        FdTypes::Pidfd => ("pidfd", false),
        FdTypes::CtlTty => ("tty", false),
        FdTypes::AutofsPipe => ("autofs", false),
    }
}

fn access(file: &FileEntry) -> &'static str {
    let flags = [
        file.reg.as_ref().map(|f| f.flags),
        file.pipe.as_ref().map(|f| f.flags),
        file.memfd.as_ref().map(|f| f.flags),
        file.tty.as_ref().map(|f| f.flags),
    ];
    let path_only = libc::O_PATH.cast_unsigned();
    match flags.into_iter().flatten().next() {
        Some(flags) if flags & path_only != 0 => "path",
        Some(flags) => match (flags & 3).cast_signed() {
            libc::O_RDONLY => "r",
            libc::O_WRONLY => "w",
            _ => "rw",
        },
        None => "",
    }
}

/// The name of a file, where it has one.
pub fn name(snapshot: &Snapshot, file: &FileEntry) -> String {
    let path = |id: u32| {
        let reg = snapshot.files.get(&id).and_then(|file| file.reg.as_ref());
        reg.map(|reg| reg.name.clone()).unwrap_or_default()
    };
    if let Some(reg) = &file.reg {
        return reg.name.clone();
    }
    if let Some(memfd) = &file.memfd {
        let inode = snapshot.memfd_inodes.iter().find(|i| i.inode_id == u64::from(memfd.inode_id));
        return inode.map(|inode| format!("/memfd:{}", inode.name)).unwrap_or_default();
    }
    if let Some(tty) = &file.tty {
        let name = tty.regf_id.map(path).unwrap_or_default();
        return if name.is_empty() { terminal(snapshot, tty.tty_info_id) } else { name };
    }
    if let Some(fifo) = &file.fifo {
        return path(fifo.regf_id.unwrap_or(fifo.id));
    }
    String::new()
}

fn terminal(snapshot: &Snapshot, id: u32) -> String {
    let Some(info) = snapshot.tty_info.iter().find(|info| info.id == id) else {
        return format!("terminal {id}");
    };
    match (info.r#type(), &info.pty) {
        (TtyType::Pty, Some(pty)) => format!("pseudoterminal {}", pty.index),
        (kind, _) => format!("terminal of kind {}", kind.as_str_name()),
    }
}

fn details(snapshot: &Snapshot, file: &FileEntry) -> Option<String> {
    if let Some(reg) = &file.reg {
        return regular(snapshot, reg.id, reg.pos);
    }
    if let Some(pipe) = &file.pipe {
        return Some(format!("pipe {}{}", pipe.pipe_id, pipe_bytes(snapshot, pipe.pipe_id)));
    }
    if let Some(fifo) = &file.fifo {
        return Some(format!("fifo {}{}", fifo.pipe_id, pipe_bytes(snapshot, fifo.pipe_id)));
    }
    if let Some(socket) = &file.usk {
        return Some(unix(snapshot, socket));
    }
    if let Some(socket) = &file.isk {
        return Some(inet(socket));
    }
    if let Some(socket) = &file.nlsk {
        return Some(format!("protocol {}, port {}", socket.protocol, socket.portid));
    }
    if let Some(socket) = &file.psk {
        return Some(format!("protocol {:#x}, device {}", socket.protocol, socket.ifindex));
    }
    special(file)
}

fn special(file: &FileEntry) -> Option<String> {
    let watched = |count: usize| format!("{count} watched");
    let text = if let Some(event) = &file.efd {
        format!("counter {}", event.counter)
    } else if let Some(epoll) = &file.epfd {
        let fds: Vec<String> = epoll.tfd.iter().map(|tfd| tfd.tfd.to_string()).collect();
        format!("watches {}", if fds.is_empty() { "nothing".into() } else { fds.join(" ") })
    } else if let Some(signals) = &file.sgfd {
        format!("signals {:#x}", signals.sigmask)
    } else if let Some(timer) = &file.tfd {
        let every = if timer.isec | timer.insec == 0 { "" } else { ", repeats" };
        format!("clock {}, {} s left{every}", timer.clockid, timer.vsec)
    } else if let Some(inotify) = &file.ify {
        watched(inotify.wd.len())
    } else if let Some(fanotify) = &file.ffy {
        watched(fanotify.mark.len())
    } else if let Some(space) = &file.nsf {
        format!("namespace {}", space.ns_id)
    } else if let Some(tun) = &file.tunf {
        format!("device {}", tun.netdev())
    } else if let Some(pidfd) = &file.pidfd {
        format!("of pid {}", pidfd.nspid)
    } else {
        return None;
    };
    Some(text)
}

fn regular(snapshot: &Snapshot, id: u32, pos: u64) -> Option<String> {
    let mut parts = Vec::new();
    if pos != 0 {
        parts.push(format!("at {pos}"));
    }
    if let Some(remap) = snapshot.remaps.iter().find(|remap| remap.orig_id == id) {
        parts.push(match remap.remap_type() {
            RemapType::Ghost => "unlinked, its contents are in the dump".to_owned(),
            RemapType::Linked => "unlinked, linked back for the dump".to_owned(),
            RemapType::Procfs => "of a process that is gone".to_owned(),
        });
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn pipe_bytes(snapshot: &Snapshot, id: u32) -> String {
    let mut data = snapshot.pipe_data.iter().chain(&snapshot.fifo_data);
    match data.find(|(entry, _)| entry.pipe_id == id) {
        Some((entry, _)) if entry.bytes > 0 => format!(", holds {} bytes", entry.bytes),
        _ => String::new(),
    }
}

fn unix(snapshot: &Snapshot, socket: &UnixSkEntry) -> String {
    const LISTEN: u32 = 10;
    let mut text = socket_type(socket.r#type).to_owned();
    text += &match socket.name.split_first() {
        None => String::new(),
        Some((0, name)) => format!(" @{}", String::from_utf8_lossy(name)),
        Some(_) => {
            let name = socket.name.strip_suffix(&[0]).unwrap_or(&socket.name);
            format!(" {}", String::from_utf8_lossy(name))
        }
    };
    if socket.state == LISTEN {
        text += " listening";
    }
    text += &format!(", socket {}", socket.ino);
    if socket.peer != 0 {
        text += &format!(" to {}", socket.peer);
    }
    match snapshot.socket_queues.iter().filter(|(packet, _)| packet.id_for == socket.id).count() {
        0 => text,
        count => format!("{text}, {count} packets wait"),
    }
}

fn socket_type(kind: u32) -> &'static str {
    match kind.cast_signed() {
        libc::SOCK_STREAM => "stream",
        libc::SOCK_DGRAM => "datagram",
        libc::SOCK_RAW => "raw",
        libc::SOCK_SEQPACKET => "seqpacket",
        _ => "socket of an unknown type",
    }
}

fn inet(socket: &InetSkEntry) -> String {
    const ESTABLISHED: u32 = 1;
    const CLOSED: u32 = 7;
    const LISTEN: u32 = 10;
    let protocol = match socket.proto.cast_signed() {
        libc::IPPROTO_TCP => "tcp".to_owned(),
        libc::IPPROTO_UDP => "udp".to_owned(),
        libc::IPPROTO_UDPLITE => "udplite".to_owned(),
        other => format!("{} of protocol {other}", socket_type(socket.r#type)),
    };
    let state = match socket.state {
        ESTABLISHED => "established".to_owned(),
        CLOSED => "closed".to_owned(),
        LISTEN => "listening".to_owned(),
        other => format!("state {other}"),
    };
    let source = address(&socket.src_addr, socket.src_port);
    if socket.dst_port == 0 {
        return format!("{protocol} {source}, {state}");
    }
    format!("{protocol} {source} to {}, {state}", address(&socket.dst_addr, socket.dst_port))
}

/// The words of an address are in network order, as they lay in memory.
fn address(words: &[u32], port: u32) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    if let Ok(bytes) = <[u8; 16]>::try_from(&bytes[..]) {
        return format!("[{}]:{port}", Ipv6Addr::from(bytes));
    }
    match bytes.first_chunk::<4>() {
        Some(bytes) => format!("{}:{port}", Ipv4Addr::from(*bytes)),
        None => format!("?:{port}"),
    }
}
