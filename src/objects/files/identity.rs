//! Which descriptors lead to the same open file.
//!
//! kcmp decides. The open files that were met are sorted into buckets by what is cheap to know
//! (mount, inode, position, flags) and by the order of kcmp within each bucket, so that a new
//! descriptor costs a few comparisons. Before that the guess is tried that a task has the same file
//! under the same number as the task before it, which is right for nearly every forked child.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::fdinfo::Fdinfo;
use super::kind::FileId;
use crate::error::{Context, Refusal, Result};
use crate::images::proto::FdTypes;
use crate::kernel::kcmp::{self, Kcmp};
use crate::kernel::pid::HostPid;

/// What is cheap to know of an open file, and mostly differs between different ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    mnt_id: i32,
    ino: u64,
    pos: u64,
    flags: u32,
}

impl Key {
    fn of(info: &Fdinfo) -> Self {
        let flags = info.flags & !libc::O_CLOEXEC.cast_unsigned();
        Self { mnt_id: info.mnt_id, ino: info.ino, pos: info.pos, flags }
    }
}

/// An open file that was met: where it was first, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub pid: HostPid,
    pub fd: i32,
    pub ino: u64,
    pub fate: Fate,
}

#[derive(Clone, Debug)]
pub(super) enum Fate {
    Carried(FileId, FdTypes),
    Refused(Refusal),
}

/// What a descriptor leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// An open file that was met before: its index.
    Known(usize),
    /// One that was not.
    New(Vacancy),
}

/// Where a new open file belongs in the order.
#[derive(Debug)]
pub(super) struct Vacancy {
    key: Key,
    at: usize,
}

/// Every open file that was met.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    known: Vec<Known>,
    buckets: HashMap<Key, Vec<usize>>,
    by_number: HashMap<i32, usize>,
}

impl KnownFiles {
    /// Every open file that was met, in that order.
    pub fn all(&self) -> &[Known] {
        &self.known
    }

    /// Which open file a descriptor leads to.
    pub fn find(&mut self, pid: HostPid, fd: i32, info: &Fdinfo) -> Result<Found> {
        if let Some(&guess) = self.by_number.get(&fd)
            && self.order(guess, pid, fd)?.is_eq()
        {
            return Ok(Found::Known(guess));
        }
        let key = Key::of(info);
        let bucket = self.buckets.get(&key).map_or(&[][..], Vec::as_slice);
        match kcmp::search(bucket, |known| self.order(*known, pid, fd))? {
            Ok(at) => {
                let found = bucket[at];
                self.by_number.insert(fd, found);
                Ok(Found::Known(found))
            }
            Err(at) => Ok(Found::New(Vacancy { key, at })),
        }
    }

    /// Adds what was not met before; its index.
    pub fn add(&mut self, vacancy: Vacancy, pid: HostPid, fd: i32, fate: Fate) -> usize {
        let Vacancy { key, at } = vacancy;
        let new = self.known.len();
        self.known.push(Known { pid, fd, ino: key.ino, fate });
        self.buckets.entry(key).or_default().insert(at, new);
        self.by_number.insert(fd, new);
        new
    }

    /// How a known open file is ordered against that of a descriptor.
    fn order(&self, known: usize, pid: HostPid, fd: i32) -> Result<Ordering> {
        let one = &self.known[known];
        kcmp::compare(one.pid, pid, Kcmp::File, one.fd as u64, fd as u64)
            .doing(|| format!("compare pid {pid} fd {fd} with pid {} fd {}", one.pid, one.fd))
    }
}
