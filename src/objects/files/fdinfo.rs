//! `/proc/PID/fdinfo/N`: what the kernel tells about an open file.
//!
//! What it tells of every file is parsed here; each kind finds its own lines with
//! [`Fdinfo::values`].

use crate::error::{Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::proc;

/// What stands in one file of `/proc/PID/fdinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fdinfo {
    pub pos: u64,
    /// Status flags, and O_CLOEXEC, which belongs to the descriptor.
    pub flags: u32,
    pub mnt_id: i32,
    pub ino: u64,
    text: String,
}

impl Fdinfo {
    /// Reads what is told of descriptor `fd` of `pid`.
    pub fn read(pid: HostPid, fd: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/fdinfo/{fd}");
        let text = proc::text(&path).map_err(|error| Error::io(format!("read {path}"), &error))?;
        Self::parse(text).ok_or_else(|| {
            Error::new(Kind::System, format!("{path}: the kernel wrote what is not understood"))
        })
    }

    /// Parses the whole text of such a file.
    pub fn parse(text: String) -> Option<Self> {
        let mut info = Self::default();
        for (key, value) in lines(&text) {
            match key {
                "pos" => info.pos = value.parse::<i64>().ok()?.cast_unsigned(),
                "flags" => info.flags = octal(value)?,
                "mnt_id" => info.mnt_id = value.parse().ok()?,
                "ino" => info.ino = value.parse().ok()?,
                _ => {}
            }
        }
        Some(Self { text, ..info })
    }

    /// What there is of a file without a descriptor, which is known by its path.
    pub fn of_path(mnt_id: i32) -> Self {
        Self { mnt_id, ..Self::default() }
    }

    /// The values of all lines that begin with `key`.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        lines(&self.text).filter(move |(one, _)| *one == key).map(|(_, value)| value)
    }

    /// The value of the first line that begins with `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values(key).next()
    }

    /// Whether the descriptor is closed by execve.
    pub fn is_cloexec(&self) -> bool {
        self.flags & libc::O_CLOEXEC.cast_unsigned() != 0
    }
}

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim()))
}

/// Parses a number that the kernel writes as it does flags.
pub(super) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok()
}

/// Parses a number that the kernel writes as it does masks.
pub(super) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_lines_are_parsed_and_others_kept() {
        let text = "pos:\t5\nflags:\t03102002\nmnt_id:\t27\nino:\t5342173\n\
                    lock:\t1: POSIX\nlock:\t2: FLOCK\nsettime flags: 01\n";
        let info = Fdinfo::parse(text.into()).unwrap();
        assert_eq!((info.pos, info.flags, info.mnt_id, info.ino), (5, 0o3102002, 27, 5342173));
        assert_eq!(info.values("lock").collect::<Vec<_>>(), ["1: POSIX", "2: FLOCK"]);
        assert_eq!(info.value("settime flags"), Some("01"));
        assert_eq!(info.value("flag"), None);
        assert!(info.is_cloexec());
    }

    #[test]
    fn nonsense_is_no_fdinfo() {
        assert_eq!(Fdinfo::parse("pos:\tx\n".into()), None);
        assert_eq!(Fdinfo::parse("flags:\t9\n".into()), None);
    }
}
