//! Kinds of open files that are not carried: how the kernel names them, why they are refused, and
//! what they are in images of other writers, which can be shown. When a kind claims such files,
//! their row goes.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::sys::stat::SFlag;

use super::describe::{Description, socket_type};
use super::opened::{NotCaptured, Opened};
use crate::images::proto::{FdTypes, FileEntry, InetSkEntry};

/// A kind that is not carried.
struct Refused {
    /// What `/proc/PID/fd/N` begins with.
    links: &'static [&'static str],
    reason: &'static str,
    shown: Option<Shown>,
}

/// What images of other writers say of a kind.
struct Shown {
    file_type: FdTypes,
    word: &'static str,
    is_socket: bool,
    details: fn(&FileEntry) -> Option<String>,
}

const fn kind(links: &'static [&'static str], reason: &'static str) -> Refused {
    Refused { links, reason, shown: None }
}

impl Refused {
    const fn shown(
        self,
        file_type: FdTypes,
        word: &'static str,
        details: fn(&FileEntry) -> Option<String>,
    ) -> Self {
        Self { shown: Some(Shown { file_type, word, is_socket: false, details }), ..self }
    }
}

/// Sockets have no names of their own.
const fn socket(
    file_type: FdTypes,
    word: &'static str,
    details: fn(&FileEntry) -> Option<String>,
) -> Refused {
    let shown = Shown { file_type, word, is_socket: true, details };
    Refused { links: &[], reason: SOCKETS, shown: Some(shown) }
}

const SOCKETS: &str = "sockets of this kind are not carried";

const REFUSED: [Refused; 24] = [
    socket(FdTypes::Inetsk, "inet", |file| file.isk.as_ref().map(inet)),
    socket(FdTypes::Packetsk, "packet", |file| {
        let socket = file.psk.as_ref()?;
        Some(format!("protocol {:#x}, device {}", socket.protocol, socket.ifindex))
    }),
    socket(FdTypes::Netlinksk, "netlink", |file| {
        let socket = file.nlsk.as_ref()?;
        Some(format!("protocol {}, port {}", socket.protocol, socket.portid))
    }),
    kind(&["anon_inode:inotify"], "inotify instances are not carried").shown(
        FdTypes::Inotify,
        "inotify",
        |file| Some(watched(file.ify.as_ref()?.wd.len())),
    ),
    kind(&["anon_inode:[fanotify]"], "fanotify groups are not carried").shown(
        FdTypes::Fanotify,
        "fanotify",
        |file| Some(watched(file.ffy.as_ref()?.mark.len())),
    ),
    kind(&["anon_inode:[pidfd]", "pidfd:"], "pidfds are not carried").shown(
        FdTypes::Pidfd,
        "pidfd",
        |file| Some(format!("of pid {}", file.pidfd.as_ref()?.nspid)),
    ),
    kind(&["mnt:", "net:", "pid:", "user:"], "namespace files are not carried").shown(
        FdTypes::Ns,
        "namespace",
        |file| Some(format!("namespace {}", file.nsf.as_ref()?.ns_id)),
    ),
    kind(&["anon_inode:bpf-map"], "BPF maps are not carried").shown(
        FdTypes::Bpfmap,
        "bpf map",
        |_| None,
    ),
    kind(&["anon_inode:bpf-prog"], "BPF programs are not carried"),
    kind(&["anon_inode:bpf_link"], "BPF links are not carried"),
    kind(&["anon_inode:btf"], "BPF type information is not carried"),
    kind(&["anon_inode:[io_uring]"], "io_uring instances are not carried"),
    kind(&["anon_inode:[userfaultfd]"], "userfaultfds are not carried"),
    kind(&["anon_inode:[perf_event]"], "performance counters are not carried"),
    kind(&["anon_inode:seccomp notify"], "seccomp listeners are not carried"),
    kind(&["anon_inode:landlock"], "Landlock rulesets are not carried"),
    kind(&["anon_inode:kvm"], "virtual machines are not carried"),
    kind(&["anon_inode:[fscontext]"], "file systems being configured are not carried"),
    kind(&["anon_inode:[secretmem]", "/secretmem"], "secret memory is not carried"),
    kind(&["mqueue:"], "message queues are not carried"),
    kind(&[], OTHERS).shown(FdTypes::Tunf, "tun", |file| {
        Some(format!("device {}", file.tunf.as_ref()?.netdev()))
    }),
    kind(&[], OTHERS).shown(FdTypes::Ext, "external", |_| None),
    kind(&[], OTHERS).shown(FdTypes::CtlTty, "tty", |_| None),
    kind(&[], OTHERS).shown(FdTypes::AutofsPipe, "autofs", |_| None),
];

const OTHERS: &str = "files of this kind are not carried";

/// The refusal of a file that no kind claims.
pub(super) fn refuse(file: &Opened) -> NotCaptured {
    let link = file.object();
    let named = |row: &&Refused| row.links.iter().any(|start| link.starts_with(start));
    let reason = match REFUSED.iter().find(named) {
        Some(row) => row.reason.to_string(),
        None if file.is(SFlag::S_IFSOCK) => SOCKETS.to_string(),
        None if file.is(SFlag::S_IFCHR) || file.is(SFlag::S_IFBLK) => format!(
            "devices of number {}:{} are not carried",
            libc::major(file.stat.st_rdev),
            libc::minor(file.stat.st_rdev)
        ),
        None => OTHERS.to_string(),
    };
    file.refuse(reason, "close it before the dump")
}

/// Describes a file of an image that is of no registered kind.
pub(super) fn describe(file: &FileEntry) -> Description {
    let mut shown = REFUSED.iter().filter_map(|row| row.shown.as_ref());
    match shown.find(|shown| shown.file_type as i32 == file.r#type) {
        Some(Shown { word, is_socket, details, .. }) => Description {
            kind: word,
            is_socket: *is_socket,
            ..Description::saying(details(file).unwrap_or_default())
        },
        None => Description { kind: "unknown", ..Description::default() },
    }
}

fn watched(count: usize) -> String {
    format!("{count} watched")
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

/// An address, whose words hold it in network order as it lay in memory.
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

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    use std::os::fd::OwnedFd;

    #[test]
    fn everything_that_is_not_carried_is_named_at_once() {
        let inotify =
            nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty()).unwrap();
        let inotify: OwnedFd = inotify.into();
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket: OwnedFd = one.into();
        let net: OwnedFd = std::fs::File::open("/proc/self/ns/net").unwrap().into();
        let pidfd = crate::kernel::pidfd::open(crate::kernel::pid::HostPid::own()).unwrap();
        let holder = hold(&[(3, &inotify), (4, &socket), (5, &net), (6, &pidfd), (7, &pidfd)]);
        let text = capture_all(&holder, lenient()).unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        for (number, what) in
            [(3, "inotify"), (4, "sockets"), (5, "namespace"), (6, "pidfd"), (7, "pidfd")]
        {
            let start = format!("pid {} fd {number}: ", holder.pid());
            assert!(
                lines.iter().any(|line| line.starts_with(&start) && line.contains(what)),
                "{text}"
            );
        }
    }
}
