//! Files that watch other files.
//!
//! An entry of an epoll file is known by the watched file *and* the number it was added under.
//! That number may have been closed or reused since, and the fdinfo does not tell: only a
//! comparison by kcmp finds the file. The image names targets by number, as they stand in the table
//! of the epoll file's first holder. Where that is not right, the number that leads to the file
//! there goes into `tfd` (for other readers of the format) and `dev`, which no restore reads, says
//! that `inode` and `pos` are the target's file id and the number it was added under.
//!
//! The restore adds each target under its number in a thread with a table of its own, where any
//! number can be used. Only a signalfd has to be added by the process it belongs to: watching ties
//! it to that process's signals.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, OwnedFd};

use super::fdinfo::Target;
use super::opened::{Captured, Opened};
use super::{Collector, Fate, OpenFiles, set_status_flags};
use crate::error::{Context, Error, Refusals, Result};
use crate::images::proto::{EventpollFileEntry, EventpollTfdEntry, FdTypes, FileEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::kcmp::{self, EpollSlot};
use crate::kernel::{descriptor, epoll};

/// `dev` of an entry whose `inode` is a file id and whose `pos` is the number.
const BY_FILE_ID: u32 = u32::MAX;

/// An epoll file whose targets are still to be found.
#[derive(Debug)]
pub(super) struct Pending {
    id: u32,
    pid: i32,
    fd: i32,
    place: String,
    targets: Vec<Target>,
}

pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    file.is_anonymous("eventpoll")
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    let epfd = EventpollFileEntry { id, flags: file.flags(), fown: file.owner, tfd: Vec::new() };
    collector.put(FileEntry {
        r#type: FdTypes::Eventpoll as i32,
        id,
        epfd: Some(epfd),
        ..Default::default()
    });
    collector.epolls.push(Pending {
        id,
        pid: file.pid,
        fd: file.fd,
        place: file.place.clone(),
        targets: file.info.targets.clone(),
    });
    Ok(FdTypes::Eventpoll)
}

/// Finds the targets of all epoll files, once all tables are known.
pub(super) fn resolve(collector: &mut Collector, refusals: &mut Refusals) -> Result<()> {
    for pending in std::mem::take(&mut collector.epolls) {
        let holder = first_holder(collector, pending.id);
        let mut met: HashMap<u32, u32> = HashMap::new();
        for target in &pending.targets {
            let seen = met.entry(target.number).or_default();
            let slot = EpollSlot { efd: pending.fd as u32, tfd: target.number, toff: *seen };
            *seen += 1;
            match find(collector, &pending, target, slot)? {
                Some(id) => {
                    let entry = tfd_entry(target, id, &holder);
                    let file = collector.out.files.get_mut(&pending.id);
                    if let Some(epoll) = file.and_then(|file| file.epfd.as_mut()) {
                        epoll.tfd.push(entry);
                    }
                }
                None => refusals.refuse(
                    pending.place.clone(),
                    format!("epoll entry {}", target.number),
                    "it watches a file that no process of the tree has open",
                    "dump the processes that have it open too",
                ),
            }
        }
    }
    Ok(())
}

/// The table that numbers of targets refer to: that of the lowest pid that has the epoll file.
fn first_holder(collector: &Collector, id: u32) -> BTreeMap<i32, u32> {
    let mut tables = collector.tables.values();
    tables.find(|table| table.values().any(|held| *held == id)).cloned().unwrap_or_default()
}

/// The file id of a target: most likely what stands under its number, else what kcmp says.
fn find(
    collector: &Collector,
    pending: &Pending,
    target: &Target,
    slot: EpollSlot,
) -> Result<Option<u32>> {
    let same = |pid: i32, fd: i32| {
        kcmp::compare_epoll(pid, fd, pending.pid, slot).map(Ordering::is_eq).doing(|| {
            format!("{}: compare entry {} with pid {pid} fd {fd}", pending.place, slot.tfd)
        })
    };
    let number = target.number.cast_signed();
    let likely = collector.tables.get(&pending.pid).and_then(|table| table.get(&number));
    if let Some(id) = likely
        && same(pending.pid, number)?
    {
        return Ok(Some(*id));
    }
    for known in collector.known().iter().filter(|known| known.ino == target.ino) {
        if let Fate::Carried(id, _) = known.fate
            && same(known.pid, known.fd)?
        {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn tfd_entry(target: &Target, id: u32, holder: &BTreeMap<i32, u32>) -> EventpollTfdEntry {
    let plain = EventpollTfdEntry {
        id: 0,
        tfd: target.number,
        events: target.events,
        data: target.data,
        dev: Some(target.dev),
        inode: Some(target.ino),
        pos: Some(target.pos),
    };
    if holder.get(&target.number.cast_signed()) == Some(&id) {
        return plain;
    }
    let elsewhere = holder.iter().find(|(_, held)| **held == id).map(|(number, _)| *number);
    EventpollTfdEntry {
        tfd: elsewhere.map_or(target.number, i32::cast_unsigned),
        dev: Some(BY_FILE_ID),
        inode: Some(id.into()),
        pos: Some(target.number.into()),
        ..plain
    }
}

/// A target to be added: which file, under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub epoll: u32,
    pub target: u32,
    pub number: i32,
    pub events: u32,
    pub data: u64,
}

/// All targets of all epoll files, as far as they are held by a table of descriptors.
pub(super) fn watches(snapshot: &Snapshot) -> Result<Vec<Watch>> {
    let mut all = Vec::new();
    for epoll in snapshot.files.values().filter_map(|file| file.epfd.as_ref()) {
        let table = snapshot
            .tree
            .iter()
            .filter_map(|task| super::table_of(snapshot, task.pid))
            .find(|table| table.iter().any(|entry| entry.id == epoll.id));
        let Some(table) = table else { continue };
        let table: HashMap<u32, u32> = table.iter().map(|entry| (entry.fd, entry.id)).collect();
        for tfd in &epoll.tfd {
            all.push(watch(epoll.id, tfd, &table)?);
        }
    }
    Ok(all)
}

fn watch(epoll: u32, tfd: &EventpollTfdEntry, table: &HashMap<u32, u32>) -> Result<Watch> {
    let (target, number) = if tfd.dev == Some(BY_FILE_ID) {
        (tfd.inode.and_then(|id| u32::try_from(id).ok()), tfd.pos.unwrap_or_default() as u32)
    } else {
        (table.get(&tfd.tfd).copied(), tfd.tfd)
    };
    let Some(target) = target else {
        let cause = format!("epoll file {epoll} watches descriptor {number}, which is not there");
        return Err(Error::image("files.img", cause));
    };
    let (events, data) = (tfd.events, tfd.data);
    Ok(Watch { epoll, target, number: number.cast_signed(), events, data })
}

pub(super) fn validate(snapshot: &Snapshot) -> Result<()> {
    for watch in watches(snapshot)? {
        if watch.number < 0 || !snapshot.files.contains_key(&watch.target) {
            let cause = format!("epoll file {} watches an impossible file", watch.epoll);
            return Err(Error::image("files.img", cause));
        }
    }
    Ok(())
}

/// Makes an epoll file that watches nothing yet.
pub(super) fn open(entry: &EventpollFileEntry) -> Result<OwnedFd> {
    let made = epoll::create().doing(|| "make an epoll file")?;
    set_status_flags(&made, entry.flags).doing(|| "set the flags of an epoll file")?;
    Ok(made)
}

/// Adds every target that the engine can add; the others are left to the tasks.
pub(super) fn watch_all(files: &OpenFiles<'_>) -> Result<()> {
    let watches = watches(files.snapshot)?;
    let mut ours = Vec::new();
    for watch in watches.into_iter().filter(|watch| !is_late(files.snapshot, watch)) {
        ours.push((files.number(watch.epoll)?, files.number(watch.target)?, watch));
    }
    if ours.is_empty() {
        return Ok(());
    }
    let mut failed = None;
    let done = descriptor::with_private_table(|| {
        for (epoll, target, watch) in &ours {
            if let Err(errno) = add(*epoll, *target, watch) {
                failed = Some(*watch);
                return Err(errno);
            }
        }
        Ok(())
    });
    done.doing(|| match failed {
        Some(watch) => format!("watch descriptor {} by an epoll file", watch.number),
        None => "make a thread for epoll files".to_string(),
    })
}

/// Whether only the process it belongs to can add it.
pub(super) fn is_late(snapshot: &Snapshot, watch: &Watch) -> bool {
    let target = snapshot.files.get(&watch.target);
    target.is_some_and(|file| file.r#type == FdTypes::Signalfd as i32)
}

/// In a table of our own: adds `target` as if it stood at its number.
fn add(epoll: i32, target: i32, watch: &Watch) -> nix::Result<()> {
    let number = watch.number;
    if target == number {
        return epoll::add(epoll, number, watch.events, watch.data);
    }
    // Whatever of ours stands there is needed again, the epoll file possibly at once.
    let aside = if descriptor::is_open(number) {
        Some(descriptor::duplicate_above(number, 3)?)
    } else {
        None
    };
    let epoll =
        if epoll == number { aside.as_ref().map_or(epoll, AsRawFd::as_raw_fd) } else { epoll };
    descriptor::duplicate_to(target, number)?;
    let added = epoll::add(epoll, number, watch.events, watch.data);
    match &aside {
        Some(aside) => descriptor::duplicate_to(aside.as_raw_fd(), number)?,
        None => descriptor::close(number)?,
    }
    added
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use crate::kernel::{eventfd, signalfd};
    use crate::tracee::blank::Blank;
    use std::os::fd::AsFd;

    fn targets(holder: &Blank, number: i32) -> Vec<(u32, u32, u64)> {
        let info = super::super::fdinfo::Fdinfo::read(holder.pid(), number).unwrap();
        let mut all: Vec<_> =
            info.targets.iter().map(|one| (one.number, one.events, one.data)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn targets_come_back_also_under_lost_and_reused_numbers() {
        let (out, into) = nix::unistd::pipe().unwrap();
        let counter = eventfd::create(0).unwrap();
        let signals = signalfd::create(1 << 9).unwrap();
        let (epoll, outer) = (epoll::create().unwrap(), epoll::create().unwrap());
        let inner = epoll.as_raw_fd();
        let edge = libc::EPOLLET.cast_unsigned() | 1;
        descriptor::with_private_table(|| {
            let aside = |file: &OwnedFd| descriptor::duplicate_above(file.as_raw_fd(), 700);
            let (watcher, out, into) = (aside(&epoll)?, aside(&out)?, aside(&into)?);
            let (counter, signals) = (aside(&counter)?, aside(&signals)?);
            for (number, file, events, data) in [
                (10, &out, edge, 1),
                (20, &out, 1, 2),
                (30, &into, 4, 3),
                (30, &out, 1, 4),
                (11, &counter, 1, 5),
                (12, &signals, 1, 6),
            ] {
                descriptor::duplicate_to(file.as_raw_fd(), number)?;
                epoll::add(watcher.as_raw_fd(), number, events, data)?;
                descriptor::close(number)?;
            }
            Ok(())
        })
        .unwrap();
        epoll::add(outer.as_raw_fd(), inner, 1, 7).unwrap();
        // 10 is right, 20 is closed, 30 is right for one of two, 11 is another file now.
        let fds = [
            (10, &out),
            (30, &into),
            (11, &into),
            (13, &counter),
            (12, &signals),
            (14, &epoll),
            (15, &outer),
        ];
        let holder = hold(&fds);
        let before = (targets(&holder, 14), targets(&holder, 15));
        assert_eq!(before.0.len(), 6);
        let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
        let tfds = &entry_of(&snapshot, 14).epfd.as_ref().unwrap().tfd;
        let odd = tfds.iter().filter(|tfd| tfd.dev == Some(BY_FILE_ID)).count();
        assert_eq!(odd, 3);
        drop((holder, out, into, counter, signals, epoll, outer));
        let restored = restore(&snapshot).unwrap();
        assert_eq!((targets(&restored, 14), targets(&restored, 15)), before);
        nix::unistd::write(copy_of(&restored, 13), &1u64.to_ne_bytes()).unwrap();
        let mut events = [nix::sys::epoll::EpollEvent::empty(); 8];
        let again = nix::sys::epoll::Epoll(copy_of(&restored, 14));
        let timeout = nix::sys::epoll::EpollTimeout::ZERO;
        let ready = again.wait(&mut events, timeout).unwrap();
        let mut data: Vec<u64> = events[..ready].iter().map(|event| event.data()).collect();
        data.sort_unstable();
        assert_eq!(data, [3, 5], "the pipe can be written, the counter counted");
        let _ = again.0.as_fd();
    }

    #[test]
    fn a_file_nobody_has_is_refused() {
        let (out, _into) = nix::unistd::pipe().unwrap();
        let epoll = epoll::create().unwrap();
        epoll::add(epoll.as_raw_fd(), out.as_raw_fd(), 1, 0).unwrap();
        let text = capture_all(&hold(&[(3, &epoll)]), lenient()).unwrap_err().to_string();
        assert!(text.contains("it watches a file that no process of the tree has open"), "{text}");
    }
}
