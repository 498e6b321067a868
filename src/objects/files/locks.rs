//! File locks. POSIX locks belong to a process; BSD locks and open file description locks belong to
//! an open file description. A descriptor's fdinfo lists the locks of its open file description,
//! and the POSIX locks that were taken on its file through its table.

use std::collections::HashSet;

use super::context::{DumpCx, RestoreCx};
use super::fdinfo::Fdinfo;
use super::kind::{Blanks, Descriptor, DescriptorAttribute, FileId, Step};
use crate::args;
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::FileLockEntry;
use crate::images::snapshot::Snapshot;
use crate::kernel::lock::{self, RangeLock};
use crate::kernel::pid::HostPid;
use crate::objects::phases::{Phase, Turn};
use crate::objects::pids;

/// `FileLockEntry.flag`.
const POSIX: u32 = 1;
const FLOCK: u32 = 2;
const OPEN_FILE: u32 = 4;

pub(super) struct Locks;

impl DescriptorAttribute for Locks {
    /// Locks met so far: class, process (if it belongs to one, else 0), open file, first byte.
    type Met = HashSet<(u32, HostPid, usize, u64)>;

    fn capture(
        descriptor: &Descriptor<'_>,
        met: &mut Self::Met,
        cx: &mut DumpCx<'_>,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let (pid, number) = (descriptor.pid, descriptor.number);
        let place = || format!("pid {pid} fd {number}");
        let locks = locks(descriptor.info).ok_or_else(|| {
            Error::new(Kind::System, format!("{}: its locks are not understood", place()))
        })?;
        for lock in locks {
            let object = format!("{} lock", lock.class);
            let Some(entry) = entry(&lock, pid, number) else {
                let reason = "leases and such locks are not carried";
                refusals.refuse(place(), object, reason, "release it");
                continue;
            };
            // Every descriptor of the open file shows the same lock.
            let holder = if entry.flag == POSIX { pid } else { HostPid::NONE };
            if !met.insert((entry.flag, holder, descriptor.file, lock.start)) {
                continue;
            }
            if cx.options.file_locks {
                cx.out.file_locks.push(entry);
            } else {
                let remedy = "dump locks too (--file-locks)";
                refusals.refuse(place(), object, "the file is locked", remedy);
            }
        }
        Ok(())
    }

    fn validate(all: &Snapshot) -> Result<()> {
        for lock in &all.file_locks {
            let kind = lock.r#type.cast_signed();
            let known = [POSIX, FLOCK, OPEN_FILE].contains(&lock.flag)
                && [libc::F_RDLCK, libc::F_WRLCK].contains(&kind);
            if !known || lock.start < 0 || lock.len < 0 || file_of(all, lock).is_none() {
                let cause = format!("impossible lock of pid {} on fd {}", lock.pid, lock.fd);
                return Err(Error::image("filelocks.img", cause));
            }
        }
        Ok(())
    }

    const STEPS: &'static [(Phase, Step<()>)] = &[
        (Phase::FileLocks, Step::Tree(lock_files)),
        (Phase::ProcessLocks, Step::Process(lock_process)),
    ];
}

/// A lock or lease held through an open file, as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lock {
    /// `POSIX`, `FLOCK`, `OFDLCK`, `LEASE`, `DELEG`.
    class: String,
    /// `READ`, `WRITE`, `UNLCK`.
    access: String,
    start: u64,
    /// The last byte that is locked; none if that is the end of the file.
    end: Option<u64>,
}

fn locks(info: &Fdinfo) -> Option<Vec<Lock>> {
    info.values("lock").map(Lock::parse).collect()
}

impl Lock {
    /// `1: POSIX  ADVISORY  WRITE 14591 fe:00:5342173 20 29`
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [_, class, _, access, _, _, start, end] = words[..] else { return None };
        let end = if end == "EOF" { None } else { Some(end.parse().ok()?) };
        Some(Self {
            class: class.to_string(),
            access: access.to_string(),
            start: start.parse().ok()?,
            end,
        })
    }
}

fn entry(lock: &Lock, pid: HostPid, number: i32) -> Option<FileLockEntry> {
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
        pid: pids::tree(pid).signed(),
        fd: number,
        start: lock.start.cast_signed(),
        len: len.cast_signed(),
    })
}

fn file_of(all: &Snapshot, lock: &FileLockEntry) -> Option<FileId> {
    let table = all.table_of(TreePid::new(lock.pid.cast_unsigned()))?;
    table.iter().find(|entry| entry.fd == lock.fd.cast_unsigned()).map(|entry| entry.id)
}

/// Takes the locks that belong to open file descriptions and tell nobody who took them.
fn lock_files(_: &mut (), cx: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
    // Other writers of the format may list such a lock once for each holder.
    let mut done = HashSet::new();
    for lock in cx.snapshot.file_locks.iter().filter(|lock| lock.flag == OPEN_FILE) {
        let Some(id) = file_of(cx.snapshot, lock) else { continue };
        if done.insert((id, lock.start)) {
            let what = || format!("lock descriptor {} of pid {} again", lock.fd, lock.pid);
            lock::lock_open_file(cx.fd(id)?, range(lock)).doing(what)?;
        }
    }
    Ok(())
}

/// Has a process take its POSIX locks, and its BSD locks, which tell who took them.
fn lock_process(_: &(), cx: &RestoreCx<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let (pid, batch) = (pids::tree(turn.pid()), turn.batch(0));
    for lock in cx.snapshot.file_locks.iter().filter(|lock| lock.pid == pid.signed()) {
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
    Ok(())
}

fn range(lock: &FileLockEntry) -> RangeLock {
    RangeLock { kind: lock.r#type.cast_signed(), start: lock.start, len: lock.len }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::objects::place::Place;
    use crate::tracee::batch::Batch;

    use std::os::fd::OwnedFd;

    #[test]
    fn the_kernel_tells_locks() {
        let text = "pos:\t5\nlock:\t1: POSIX  ADVISORY  WRITE 14591 fe:00:5342173 20 29\n\
                    lock:\t2: FLOCK  ADVISORY  READ 14591 fe:00:5342173 0 EOF\n";
        let lock = |class: &str, access: &str, start, end| Lock {
            class: class.into(),
            access: access.into(),
            start,
            end,
        };
        let told = [lock("POSIX", "WRITE", 20, Some(29)), lock("FLOCK", "READ", 0, None)];
        assert_eq!(locks(&Fdinfo::parse(text.into()).unwrap()).unwrap(), told);
        assert_eq!(locks(&Fdinfo::parse("lock:\t1: POSIX\n".into()).unwrap()), None);
    }

    #[test]
    fn locks_need_leave_and_come_back() {
        let scratch = Scratch::new();
        let path = scratch.path("locked");
        std::fs::write(&path, b"0123456789").unwrap();
        let open = || Place::in_tree(&path).open(libc::O_RDWR).unwrap();
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
