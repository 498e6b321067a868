//! The few readers of `/proc` that freezing and injecting need.
//!
//! Each parser takes text, so that it is tested on saved text.

use std::fs;
use std::ops::Range;

use crate::error::{Context, Error, Kind, Result};

/// What `/proc/PID/status` says that matters here. Signal sets have bit `n - 1` for signal `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The letter of the state: `R`, `S`, `D`, `T`, `t`, `Z`, `X`.
    pub state: char,
    /// The process that made it, or adopted it.
    pub parent: i32,
    /// The thread that traces it, 0 if none.
    pub tracer: i32,
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
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.map(str::trim).next()
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
pub fn status(pid: i32, tid: i32) -> Result<Status> {
    let path = format!("/proc/{pid}/task/{tid}/status");
    let text = read(&path, pid)?;
    Status::parse(&text)
        .ok_or_else(|| Error::new(Kind::Internal, format!("{path}: not understood")))
}

/// Names of programs need not be UTF-8; nothing that is parsed here is spoilt by that.
fn read(path: &str, pid: i32) -> Result<String> {
    let bytes = fs::read(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => gone(pid),
        _ => Error::io(format_args!("read {path}"), &error),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The error of a process that does not exist.
pub fn gone(pid: i32) -> Error {
    Error::new(Kind::NoSuchTask, format!("pid {pid}: no such process"))
}

/// The threads of a process as listed now, in the order of their ids.
pub fn threads(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => gone(pid),
        _ => Error::io(format_args!("read {path}"), &error),
    })?;
    let mut tids = Vec::new();
    for entry in entries {
        let entry = entry.doing(|| format!("read {path}"))?;
        tids.extend(entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
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
pub fn maps(pid: i32) -> Result<Vec<Mapping>> {
    let path = format!("/proc/{pid}/maps");
    // Not `read_to_string`: the name of a mapped file may be any bytes.
    let bytes = fs::read(&path).doing(|| format!("read {path}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let parsed: Option<Vec<Mapping>> = text.lines().map(Mapping::parse).collect();
    parsed.ok_or_else(|| Error::new(Kind::Internal, format!("{path}: not understood")))
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
        assert_eq!((status.state, status.parent, status.tracer), ('t', 4, 12));
        assert_eq!(status.threads, 3);
        assert_eq!((status.pending, status.shared_pending), (1, 0x200));
        assert_eq!((status.ignored, status.caught), (0x1000, 0x1_8000_4002));
        assert_eq!(status.seccomp, 2);
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
        assert_eq!(status(0, 0).unwrap_err().kind(), Kind::NoSuchTask);
        assert_eq!(threads(0).unwrap_err().kind(), Kind::NoSuchTask);
    }
}
