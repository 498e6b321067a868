//! File locks: POSIX locks belong to a process, BSD and open-file-description locks to an open
//! file. The fdinfo lists exactly those that belong to the file and, of POSIX locks, to the table.

use std::collections::HashSet;

use super::fdinfo::Lock;
use super::{Collector, OpenFiles};
use crate::args;
use crate::error::{Context, Error, Refusals, Result};
use crate::images::proto::FileLockEntry;
use crate::images::snapshot::Snapshot;
use crate::kernel::lock;
use crate::kernel::lock::RangeLock;
use crate::tracee::batch::Batch;

/// `FileLockEntry.flag`.
const POSIX: u32 = 1;
const FLOCK: u32 = 2;
const OPEN_FILE: u32 = 4;

/// Locks met so far: class, process (of those that belong to one), file, first byte.
pub(super) type Met = HashSet<(u32, i32, usize, u64)>;

/// Captures the locks that a descriptor shows, where `file` is the identity of its open file.
pub(super) fn capture(
    collector: &mut Collector,
    (pid, number): (i32, i32),
    file: usize,
    locks: &[Lock],
    refusals: &mut Refusals,
) {
    for lock in locks {
        let (place, object) = (format!("pid {pid} fd {number}"), format!("{} lock", lock.class));
        let Some(entry) = entry(lock, pid, number) else {
            refusals.refuse(place, object, "leases and such locks are not carried", "release it");
            continue;
        };
        // Every copy of the descriptor shows the same lock.
        let holder = if entry.flag == POSIX { pid } else { 0 };
        if !collector.locked.insert((entry.flag, holder, file, lock.start)) {
            continue;
        }
        if collector.options.file_locks {
            collector.out.file_locks.push(entry);
        } else {
            refusals.refuse(place, object, "the file is locked", "dump locks too (--file-locks)");
        }
    }
}

fn entry(lock: &Lock, pid: i32, number: i32) -> Option<FileLockEntry> {
    let flag = match lock.class.as_str() {
        "POSIX" => POSIX,
        "FLOCK" => FLOCK,
        "OFDLCK" => OPEN_FILE,
        _ => return None,
    };
    let kind = match lock.access.as_str() {
        "READ" => libc::F_RDLCK,
        "WRITE" => libc::F_WRLCK,
        _ => return None,
    };
    let len = lock.end.map_or(0, |end| end - lock.start + 1);
    Some(FileLockEntry {
        flag,
        r#type: kind.cast_unsigned(),
        pid,
        fd: number,
        start: lock.start.cast_signed(),
        len: len.cast_signed(),
    })
}

pub(super) fn validate(snapshot: &Snapshot) -> Result<()> {
    for lock in &snapshot.file_locks {
        let kind = lock.r#type.cast_signed();
        let known = [POSIX, FLOCK, OPEN_FILE].contains(&lock.flag)
            && [libc::F_RDLCK, libc::F_WRLCK].contains(&kind);
        if !known || lock.start < 0 || lock.len < 0 || file_of(snapshot, lock).is_none() {
            let cause = format!("impossible lock of pid {} on fd {}", lock.pid, lock.fd);
            return Err(Error::image("filelocks.img", cause));
        }
    }
    Ok(())
}

fn file_of(snapshot: &Snapshot, lock: &FileLockEntry) -> Option<u32> {
    let table = super::table_of(snapshot, lock.pid.cast_unsigned())?;
    table.iter().find(|entry| entry.fd == lock.fd.cast_unsigned()).map(|entry| entry.id)
}

/// Puts the locks that belong to open file descriptions, which name no process.
pub(super) fn lock_files(files: &OpenFiles<'_>) -> Result<()> {
    // Other writers of the format may list the lock of a description once per holder.
    let mut done = HashSet::new();
    for lock in files.snapshot.file_locks.iter().filter(|lock| lock.flag == OPEN_FILE) {
        let Some(id) = file_of(files.snapshot, lock) else { continue };
        if done.insert((id, lock.start)) {
            let what = || format!("lock descriptor {} of pid {} again", lock.fd, lock.pid);
            lock::lock_open_file(files.fd(id)?, range(lock)).doing(what)?;
        }
    }
    Ok(())
}

/// The calls by which process `pid` gets its locks back, once its table is in place: POSIX locks
/// are its own, and a BSD lock tells who took it.
pub(super) fn process_locks(snapshot: &Snapshot, pid: u32, batch: &mut Batch) {
    for lock in snapshot.file_locks.iter().filter(|lock| lock.pid.cast_unsigned() == pid) {
        let what = format!("lock descriptor {} of pid {pid} again", lock.fd);
        match lock.flag {
            POSIX => {
                let place = batch.bytes(&range(lock).to_bytes());
                batch.must(what, libc::SYS_fcntl, args![lock.fd, libc::F_SETLK, place]);
            }
            FLOCK => {
                let shared = lock.r#type.cast_signed() == libc::F_RDLCK;
                let operation = if shared { libc::LOCK_SH } else { libc::LOCK_EX };
                batch.must(what, libc::SYS_flock, args![lock.fd, operation | libc::LOCK_NB]);
            }
            _ => {}
        }
    }
}

fn range(lock: &FileLockEntry) -> RangeLock {
    RangeLock { kind: lock.r#type.cast_signed(), start: lock.start, len: lock.len }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use std::os::fd::OwnedFd;

    #[test]
    fn locks_need_leave_and_come_back() {
        let scratch = Scratch::new();
        let path = scratch.path("locked");
        std::fs::write(&path, b"0123456789").unwrap();
        let open = || super::super::open_for(&path, libc::O_RDWR).unwrap();
        let (whole, range): (OwnedFd, OwnedFd) = (open(), open());
        lock::flock(&whole, libc::LOCK_SH).unwrap();
        let part = RangeLock { kind: libc::F_WRLCK, start: 2, len: 3 };
        lock::lock_open_file(&range, part).unwrap();
        let mut holder = hold(&[(3, &whole), (4, &range)]);
        let mut batch = Batch::new();
        let place = batch.bytes(&RangeLock { kind: libc::F_RDLCK, start: 7, len: 0 }.to_bytes());
        batch.must("lock", libc::SYS_fcntl, args![3, libc::F_SETLK, place]);
        holder.run(batch).unwrap();
        let text = capture_all(&holder, super::super::CollectorOptions::default()).unwrap_err();
        assert_eq!(text.to_string().lines().count(), 3, "{text}");
        let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
        let kinds: Vec<_> = snapshot.file_locks.iter().map(|lock| (lock.flag, lock.fd)).collect();
        assert_eq!(kinds.len(), 3);
        assert!([(POSIX, 3), (FLOCK, 3), (OPEN_FILE, 4)].iter().all(|kind| kinds.contains(kind)));
        drop((holder, whole, range));
        let restored = restore(&snapshot).unwrap();
        let outsider = open();
        let taken = Err(nix::errno::Errno::EAGAIN);
        assert_eq!(lock::flock(&outsider, libc::LOCK_EX | libc::LOCK_NB), taken);
        assert_eq!(lock::flock(&outsider, libc::LOCK_SH | libc::LOCK_NB), Ok(()));
        assert_eq!(lock::lock_open_file(&outsider, RangeLock { start: 4, len: 1, ..part }), taken);
        assert_eq!(lock::lock_open_file(&outsider, RangeLock { start: 0, len: 2, ..part }), Ok(()));
        let part = RangeLock { kind: libc::F_WRLCK, start: 8, len: 1 };
        assert_eq!(lock::lock_open_file(&outsider, part), taken, "that of the process");
        drop(restored);
    }
}
