//! Open files of kinds that are not carried, each refused by its name.

use nix::sys::stat::SFlag;

use super::opened::{NotCaptured, Opened};

/// Kinds that the kernel names: what `/proc/PID/fd/N` begins with, and what it is.
const NAMED: [(&str, &str); 22] = [
    ("anon_inode:inotify", "inotify instances are not carried"),
    ("anon_inode:[fanotify]", "fanotify groups are not carried"),
    ("anon_inode:[io_uring]", "io_uring instances are not carried"),
    ("anon_inode:[userfaultfd]", "userfaultfds are not carried"),
    ("anon_inode:[perf_event]", "performance counters are not carried"),
    ("anon_inode:bpf-map", "BPF maps are not carried"),
    ("anon_inode:bpf-prog", "BPF programs are not carried"),
    ("anon_inode:bpf_link", "BPF links are not carried"),
    ("anon_inode:btf", "BPF type information is not carried"),
    ("anon_inode:[pidfd]", "pidfds are not carried"),
    ("pidfd:", "pidfds are not carried"),
    ("anon_inode:seccomp notify", "seccomp listeners are not carried"),
    ("anon_inode:landlock", "Landlock rulesets are not carried"),
    ("anon_inode:kvm", "virtual machines are not carried"),
    ("anon_inode:[fscontext]", "file systems being configured are not carried"),
    ("anon_inode:[secretmem]", "secret memory is not carried"),
    ("/secretmem", "secret memory is not carried"),
    ("mnt:", "namespace files are not carried"),
    ("net:", "namespace files are not carried"),
    ("pid:", "namespace files are not carried"),
    ("user:", "namespace files are not carried"),
    ("mqueue:", "message queues are not carried"),
];

/// The refusal of a file that no kind claims.
pub(super) fn refuse(file: &Opened) -> NotCaptured {
    let link = file.object();
    let named = NAMED.iter().find(|(prefix, _)| link.starts_with(prefix)).map(|(_, why)| *why);
    let reason = match named {
        Some(reason) => reason.to_string(),
        None if file.is(SFlag::S_IFSOCK) => "sockets of this kind are not carried".to_string(),
        None if file.is(SFlag::S_IFCHR) || file.is(SFlag::S_IFBLK) => format!(
            "devices of number {}:{} are not carried",
            libc::major(file.stat.st_rdev),
            libc::minor(file.stat.st_rdev)
        ),
        None => "files of this kind are not carried".to_string(),
    };
    file.refuse(reason, "close it before the dump")
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
        let pidfd = crate::kernel::pidfd::open(std::process::id().cast_signed()).unwrap();
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
