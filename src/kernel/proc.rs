//! The few readers of `/proc` that freezing and injecting need.
//!
//! Each parser takes text, so that it is tested on saved text.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::str::FromStr;

use super::pid::HostPid;
use crate::error::{Context, Error, Kind, Result};

/// What `/proc/PID/status` says that matters here. Signal sets have bit `n - 1` for signal `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The letter of the state: `R`, `S`, `D`, `T`, `t`, `Z`, `X`.
    pub state: char,
    /// The parent, which made or adopted the process.
    pub parent: HostPid,
    /// The thread that traces it, 0 if none.
    pub tracer: HostPid,
    /// How many threads the process has.
    pub threads: usize,
    /// Signals pending for this thread.
    pub pending: u64,
    /// Signals pending for the process.
    pub shared_pending: u64,
    /// Signals the process ignores.
    pub ignored: u64,
    /// Signals the process has handlers for.
    pub caught: u64,
    /// 0 none, 1 strict, 2 filtered.
    pub seccomp: u32,
}

impl Status {
    /// Reads the file's contents.
    pub fn of(contents: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(contents);
        Self::parse(&text)
            .ok_or_else(|| Error::new(Kind::Internal, format!("status: cannot read {text:?}")))
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| {
            let found = lines.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.trim())
        };
        let set = |name| u64::from_str_radix(field(name)?, 16).ok();
        Some(Self {
            state: field("State")?.chars().next()?,
            parent: field("PPid")?.parse().ok()?,
            tracer: field("TracerPid")?.parse().ok()?,
            threads: field("Threads")?.parse().ok()?,
            pending: set("SigPnd")?,
            shared_pending: set("ShdPnd")?,
            ignored: set("SigIgn")?,
            caught: set("SigCgt")?,
            seccomp: field("Seccomp").map_or(Some(0), |text| text.parse().ok())?,
        })
    }
}

/// The status of one thread; [`Kind::NoSuchTask`] if it is gone.
pub fn status(pid: HostPid, tid: HostPid) -> Result<Status> {
    let path = format!("/proc/{pid}/task/{tid}/status");
    let text = read(&path, pid)?;
    Status::parse(&text)
        .ok_or_else(|| Error::new(Kind::Internal, format!("{path}: not understood")))
}

fn read(path: &str, pid: HostPid) -> Result<String> {
    text(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => gone(pid),
        _ => Error::io(format_args!("read {path}"), &error),
    })
}

/// The text of a file of `/proc`. Names in it may be any bytes: those that are no UTF-8 are
/// replaced.
pub fn text(path: &str) -> std::io::Result<String> {
    contents(path).map(lossy)
}

/// Bytes as text, with those that are no UTF-8 replaced.
pub fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The bytes of a file of `/proc`. Such files report a size of 0, for which `std::fs::read` would
/// read them in tiny pieces.
pub fn contents(path: &str) -> std::io::Result<Vec<u8>> {
    const ROOM: usize = 4096;
    let mut file = fs::File::open(path)?;
    let mut bytes = vec![0; ROOM];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len == bytes.len() {
            bytes.resize(2 * len, 0);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// The error of a process that does not exist.
pub fn gone(pid: HostPid) -> Error {
    Error::new(Kind::NoSuchTask, format!("pid {pid}: no such process"))
}

/// Whether `/proc/PID/stat` shows us the true wait status of a zombie. The kernel shows 0 to a
/// reader who may not trace the process. Such a reader may not read the links under `/proc/PID/ns`
/// either, which is what is tried here.
pub fn tells_exit_code(pid: HostPid) -> bool {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/user"));
    !link.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// What `/proc/PID/stat` says of a process and its place in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, which may contain anything.
    pub comm: String,
    /// The letter of the state.
    pub state: char,
    /// The parent.
    pub ppid: HostPid,
    /// The process group.
    pub pgrp: HostPid,
    /// The session.
    pub session: HostPid,
    /// Device number of the controlling terminal; 0 for none.
    pub tty: u64,
    /// The foreground process group of that terminal; -1 for none.
    pub foreground: HostPid,
    /// Flags of the task (`PF_*`).
    pub flags: u32,
    /// How many threads the process has.
    pub num_threads: usize,
    /// Pages in memory, roughly.
    pub resident: u64,
    /// The wait status of a zombie; see [`tells_exit_code`].
    pub exit_code: i32,
}

impl Stat {
    /// Reads the file's text.
    pub fn of(text: &str) -> Result<Self> {
        Self::parse(text)
            .ok_or_else(|| Error::new(Kind::Internal, format!("stat: cannot read {text:?}")))
    }

    fn parse(text: &str) -> Option<Self> {
        let fields = StatFields::of(text)?;
        Some(Self {
            comm: fields.comm.to_owned(),
            state: fields.get(3)?,
            ppid: fields.get(4)?,
            pgrp: fields.get(5)?,
            session: fields.get(6)?,
            tty: device(fields.get::<i32>(7)?.cast_unsigned()),
            foreground: fields.get(8)?,
            flags: fields.get(9)?,
            num_threads: fields.get(20)?,
            resident: fields.get_or_default(24)?,
            exit_code: fields.get_or_default(52)?,
        })
    }
}

/// A device number as the kernel packs it into 32 bits.
fn device(packed: u32) -> u64 {
    libc::makedev((packed >> 8) & 0xfff, (packed & 0xff) | ((packed >> 12) & 0xf_ff00))
}

/// The fields of `/proc/PID/stat`, by the numbers that proc(5) gives them from 1 on.
#[derive(Clone, Debug)]
pub struct StatFields<'a> {
    /// The second field, without its parentheses; it may contain parentheses and spaces itself.
    comm: &'a str,
    after: Vec<&'a str>,
}

impl<'a> StatFields<'a> {
    /// Splits the file's text.
    pub fn of(text: &'a str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let comm = before.split_once('(')?.1;
        Some(Self { comm, after: after.split_ascii_whitespace().collect() })
    }

    fn text(&self, number: usize) -> Option<&'a str> {
        const AFTER_COMM: usize = 3;
        self.after.get(number.checked_sub(AFTER_COMM)?).copied()
    }

    /// A field from the third on; none if it is not there or of another type.
    pub fn get<T: FromStr>(&self, number: usize) -> Option<T> {
        self.text(number)?.parse().ok()
    }

    /// The same of a field that older kernels do not write.
    fn get_or_default<T: FromStr + Default>(&self, number: usize) -> Option<T> {
        self.text(number).map_or_else(|| Some(T::default()), |text| text.parse().ok())
    }
}

/// The stat of a process; [`Kind::NoSuchTask`] if it is gone.
pub fn stat(pid: HostPid) -> Result<Stat> {
    Stat::of(&stat_text(pid)?)
}

/// The text of `/proc/PID/stat`; [`Kind::NoSuchTask`] if the process is gone.
pub fn stat_text(pid: HostPid) -> Result<String> {
    read(&format!("/proc/{pid}/stat"), pid)
}

/// The children of a process, of all its threads; none if it is gone.
pub fn children(pid: HostPid) -> Vec<HostPid> {
    let threads = threads(pid).unwrap_or_default();
    threads.into_iter().flat_map(|tid| children_of(pid, tid)).collect()
}

/// The children of one thread; none if it is gone.
pub fn children_of(pid: HostPid, tid: HostPid) -> Vec<HostPid> {
    let text = text(&format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).map(HostPid::new).collect()
}

/// The threads of a process as listed now, in the order of their ids.
pub fn threads(pid: HostPid) -> Result<Vec<HostPid>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => gone(pid),
        _ => Error::io(format_args!("read {path}"), &error),
    })?;
    let mut tids = Vec::new();
    for entry in entries {
        let entry = entry.doing(|| format!("read {path}"))?;
        tids.extend(
            entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).map(HostPid::new),
        );
    }
    tids.sort_unstable();
    Ok(tids)
}

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// `rwxp` or the like.
    pub perms: [u8; 4],
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The inode, 0 without a file.
    pub inode: u64,
    /// The path or `[name]`, empty if there is none.
    pub name: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let range = hex(start)?..hex(end)?;
        let perms = fields.next()?.as_bytes().try_into().ok()?;
        let offset = hex(fields.next()?)?;
        let inode = fields.nth(1)?.parse().ok()?;
        let name = fields.next().unwrap_or("").trim_start().to_owned();
        Some(Self { range, perms, offset, inode, name })
    }

    /// Whether its code can be executed.
    pub fn is_executable(&self) -> bool {
        self.perms[2] == b'x'
    }

    /// Whether writes to it stay its own.
    pub fn is_private(&self) -> bool {
        self.perms[3] == b'p'
    }
}

/// The mappings of a process, in the order of their addresses.
pub fn maps(pid: HostPid) -> Result<Vec<Mapping>> {
    let path = format!("/proc/{pid}/maps");
    // Not `read_to_string`: the name of a mapped file may be any bytes.
    let bytes = contents(&path).doing(|| format!("read {path}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let parsed: Option<Vec<Mapping>> = text.lines().map(Mapping::parse).collect();
    parsed.ok_or_else(|| Error::new(Kind::Internal, format!("{path}: not understood")))
}

/// Whether this is the machine's own pid namespace, whose init is the global one: its namespace
/// file has a fixed number (linux/nsfs.h, PID_NS_INIT_INO).
pub fn in_first_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_parsed() {
        let text = "Name:\tState: odd\nState:\tt (tracing stop)\nPPid:\t4\nTracerPid:\t12\nThreads:\t3\n\
            SigQ:\t0/9\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000200\n\
            SigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180004002\n\
            Seccomp:\t2\nSeccomp_filters:\t1\n";
        let status = Status::parse(text).unwrap();
        assert_eq!(
            (status.state, status.parent, status.tracer),
            ('t', HostPid::new(4), HostPid::new(12))
        );
        assert_eq!(status.threads, 3);
        assert_eq!((status.pending, status.shared_pending), (1, 0x200));
        assert_eq!((status.ignored, status.caught), (0x1000, 0x1_8000_4002));
        assert_eq!(status.seccomp, 2);
    }

    #[test]
    fn stat_is_parsed() {
        let zeros = "0 ".repeat(27);
        let text = format!(
            "7 (a) b (c) Z 1 5 6 34816 8 4194304 9 0 0 0 0 0 0 0 20 0 3 0 0 0 12 {zeros}256\n"
        );
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state), ("a) b (c", 'Z'));
        let ids = [stat.ppid, stat.pgrp, stat.session, stat.foreground].map(HostPid::number);
        assert_eq!((ids, stat.flags), ([1, 5, 6, 8], 4194304));
        assert_eq!(stat.tty, libc::makedev(136, 0));
        assert_eq!((stat.num_threads, stat.resident, stat.exit_code), (3, 12, 256));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn mappings_are_parsed() {
        let line = "7f00-8f00 r-xp 00001000 08:01 42                         /a b (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.range, 0x7f00..0x8f00);
        assert!(mapping.is_executable() && mapping.is_private());
        assert_eq!((mapping.offset, mapping.inode), (0x1000, 42));
        assert_eq!(mapping.name, "/a b (deleted)");
        let anon = Mapping::parse("7f00-8f00 rw-s 00000000 00:00 0 ").unwrap();
        assert!(anon.name.is_empty() && !anon.is_executable() && !anon.is_private());
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        assert_eq!(status(HostPid::NONE, HostPid::NONE).unwrap_err().kind(), Kind::NoSuchTask);
        assert_eq!(threads(HostPid::NONE).unwrap_err().kind(), Kind::NoSuchTask);
    }
}
