//! Files that watch other files.
//!
//! The kernel knows a target of an epoll file by the watched file *and* the descriptor number under
//! which it was added. That number may have been closed or reused since, which the fdinfo does not
//! tell: only kcmp finds the file. The images name a target by its number in the descriptor table
//! of the epoll file's first holder. Where that table has another file under the number, `tfd` is a
//! number under which it has the target (for other readers of the format), and `dev`, which no
//! restore reads, says that `inode` is the target's file id and `pos` the number it was added
//! under.
//!
//! The restore adds the targets under their numbers in a thread of the engine with a descriptor
//! table of its own, in which any number can be used. Only targets that are [watched from
//! within](FileKind::WATCHED_FROM_WITHIN) have to be added by the process itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, OwnedFd};

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::fdinfo::{Fdinfo, hex};
use super::identity::Fate;
use super::kind::{Blanks, FileId, FileKind, Step, held_as};
use super::opened::{Captured, Opened};
use super::registry::kind_of;
use super::set_status_flags;
use crate::args;
use crate::error::{Context, Error, Refusals, Result};
use crate::images::proto::{
    EventpollFileEntry, EventpollTfdEntry, FdTypes, FdinfoEntry, FownEntry,
};
use crate::images::snapshot::Snapshot;
use crate::kernel::kcmp::{self, EpollSlot};
use crate::kernel::pid::HostPid;
use crate::kernel::{descriptor, epoll};
use crate::objects::phases::{Phase, Turn};
use crate::objects::pids;
use crate::tracee::batch::Batch;
use crate::tracee::blank::Blank;

/// The value of `dev` that says that `inode` is a file id and `pos` a number.
const BY_FILE_ID: u32 = u32::MAX;

pub(super) struct Epoll;

impl FileKind for Epoll {
    const TYPE: FdTypes = FdTypes::Eventpoll;
    const NAME: &'static str = "epoll";
    type Entry = EventpollFileEntry;
    /// Epoll files whose targets are still to be found.
    type Met = Vec<Pending>;
    type Made = Late;
    held_as!(epfd);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        file.is_anonymous("eventpoll")
    }

    fn capture(
        file: &Opened,
        id: FileId,
        met: &mut Vec<Pending>,
        _: &mut DumpCx<'_>,
    ) -> Captured<EventpollFileEntry> {
        let Some(targets) = targets(&file.info) else {
            return Err(file.refuse("the kernel does not tell what it watches", ""));
        };
        met.push(Pending { id, pid: file.pid, fd: file.fd, place: file.place.clone(), targets });
        Ok(EventpollFileEntry { id, flags: file.flags(), fown: file.owner, tfd: Vec::new() })
    }

    /// Finds the targets of all epoll files.
    fn settle(met: &mut Vec<Pending>, cx: &mut DumpCx<'_>, refusals: &mut Refusals) -> Result<()> {
        for pending in std::mem::take(met) {
            let tfd = pending.find_targets(cx, refusals)?;
            let file = cx.out.files.get_mut(&pending.id);
            if let Some(epoll) = file.and_then(|file| file.epfd.as_mut()) {
                epoll.tfd = tfd;
            }
        }
        Ok(())
    }

    fn validate(entry: &EventpollFileEntry, all: &Snapshot) -> Result<()> {
        for watch in watches(entry, all)? {
            if watch.number < 0 || !all.files.contains_key(&watch.target) {
                let cause = format!("epoll file {} watches an impossible file", watch.epoll);
                return Err(Error::image("files.img", cause));
            }
        }
        Ok(())
    }

    /// Makes an epoll file that watches nothing yet.
    fn open(
        entry: &EventpollFileEntry,
        _: &mut Late,
        _: &RestoreCx<'_>,
    ) -> Result<Option<OwnedFd>> {
        let made = epoll::create().doing(|| "make an epoll file")?;
        set_status_flags(&made, entry.flags).doing(|| "set the flags of an epoll file")?;
        Ok(Some(made))
    }

    const STEPS: &'static [(Phase, Step<Late>)] = &[
        (Phase::Watch, Step::Tree(watch_all)),
        (Phase::EmptyTable, Step::Process(watch_from_within)),
    ];

    fn owner<'a>(entry: &'a EventpollFileEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &EventpollFileEntry, _: &Snapshot) -> Description {
        let numbers: Vec<String> = entry.tfd.iter().map(|tfd| tfd.tfd.to_string()).collect();
        let numbers = if numbers.is_empty() { "nothing".into() } else { numbers.join(" ") };
        Description::saying(format!("watches {numbers}"))
    }
}

/// A file watched by an epoll file, as the kernel tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Target {
    /// The number under which it was added, which may have been closed or reused since.
    number: u32,
    events: u32,
    data: u64,
    pos: u64,
    ino: u64,
    /// The file system's device as the kernel encodes it: major << 20 | minor.
    dev: u32,
}

fn targets(info: &Fdinfo) -> Option<Vec<Target>> {
    info.values("tfd").map(Target::parse).collect()
}

impl Target {
    /// `16 events: 80000019 data: 10  pos:0 ino:555d sdev:f`
    fn parse(text: &str) -> Option<Self> {
        let spaced = text.replace(':', ": ");
        let mut words = spaced.split_whitespace();
        let mut target = Self { number: words.next()?.parse().ok()?, ..Self::default() };
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "events:" => target.events = hex(value)?.try_into().ok()?,
                "data:" => target.data = hex(value)?,
                "pos:" => target.pos = value.parse::<i64>().ok()?.cast_unsigned(),
                "ino:" => target.ino = hex(value)?,
                "sdev:" => target.dev = hex(value)?.try_into().ok()?,
                _ => {}
            }
        }
        Some(target)
    }
}

/// An epoll file whose targets are still to be found.
#[derive(Debug)]
pub(super) struct Pending {
    id: FileId,
    pid: HostPid,
    fd: i32,
    place: String,
    targets: Vec<Target>,
}

/// The files of a descriptor table, by number.
type Numbers = HashMap<u32, FileId>;

fn numbers(table: Option<&[FdinfoEntry]>) -> Numbers {
    table.into_iter().flatten().map(|entry| (entry.fd, entry.id)).collect()
}

/// The table that numbers of targets refer to.
fn first_holders(id: FileId, all: &Snapshot) -> Option<&[FdinfoEntry]> {
    all.table_of(all.first_holder(id)?)
}

impl Pending {
    fn find_targets(
        &self,
        cx: &DumpCx<'_>,
        refusals: &mut Refusals,
    ) -> Result<Vec<EventpollTfdEntry>> {
        let own = numbers(cx.out.table_of(pids::tree(self.pid)));
        let holders = numbers(first_holders(self.id, cx.out));
        let mut met: HashMap<u32, u32> = HashMap::new();
        let mut found = Vec::new();
        for target in &self.targets {
            let seen = met.entry(target.number).or_default();
            let slot = EpollSlot { efd: self.fd as u32, tfd: target.number, toff: *seen };
            *seen += 1;
            match self.find(target, slot, own.get(&target.number), cx)? {
                Some(id) => found.push(tfd_entry(target, id, &holders)),
                None => refusals.refuse(
                    self.place.clone(),
                    format!("epoll entry {}", target.number),
                    "it watches a file that no process of the tree has open",
                    "dump the processes that have it open too",
                ),
            }
        }
        Ok(found)
    }

    /// The file id of a target: most likely that of its number in the table of the epoll file's
    /// holder, which is compared first.
    fn find(
        &self,
        target: &Target,
        slot: EpollSlot,
        likely: Option<&FileId>,
        cx: &DumpCx<'_>,
    ) -> Result<Option<FileId>> {
        let same = |pid: HostPid, fd: i32| {
            kcmp::compare_epoll(pid, fd, self.pid, slot).map(Ordering::is_eq).doing(|| {
                format!("{}: compare entry {} with pid {pid} fd {fd}", self.place, slot.tfd)
            })
        };
        if let Some(id) = likely
            && same(self.pid, target.number.cast_signed())?
        {
            return Ok(Some(*id));
        }
        for known in cx.known.iter().filter(|known| known.ino == target.ino) {
            if let Fate::Carried(id, _) = known.fate
                && same(known.pid, known.fd)?
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

fn tfd_entry(target: &Target, id: FileId, holders: &Numbers) -> EventpollTfdEntry {
    let plain = EventpollTfdEntry {
        id: 0,
        tfd: target.number,
        events: target.events,
        data: target.data,
        dev: Some(target.dev),
        inode: Some(target.ino),
        pos: Some(target.pos),
    };
    if holders.get(&target.number) == Some(&id) {
        return plain;
    }
    let elsewhere = holders.iter().filter(|(_, held)| **held == id).map(|(number, _)| *number);
    EventpollTfdEntry {
        tfd: elsewhere.min().unwrap_or(target.number),
        dev: Some(BY_FILE_ID),
        inode: Some(id.into()),
        pos: Some(target.number.into()),
        ..plain
    }
}

/// A target that is to be added to an epoll file, under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watch {
    epoll: FileId,
    target: FileId,
    number: i32,
    events: u32,
    data: u64,
}

/// The targets of an epoll file. There are none if no process of the tree has it open.
fn watches(entry: &EventpollFileEntry, all: &Snapshot) -> Result<Vec<Watch>> {
    let Some(table) = first_holders(entry.id, all) else { return Ok(Vec::new()) };
    let table = numbers(Some(table));
    entry.tfd.iter().map(|tfd| watch(entry.id, tfd, &table)).collect()
}

fn watch(epoll: FileId, tfd: &EventpollTfdEntry, table: &Numbers) -> Result<Watch> {
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

/// Targets that processes have to add themselves, by the id of the table that has the epoll file.
#[derive(Debug, Default)]
pub(super) struct Late(BTreeMap<u32, Vec<Watch>>);

/// Adds every target that the engine can add; the others are left to the processes.
fn watch_all(late: &mut Late, cx: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
    let all = cx.snapshot;
    let mut ours = Vec::new();
    for entry in all.files.values().filter_map(|file| file.epfd.as_ref()) {
        for watch in watches(entry, all)? {
            let kind = all.files.get(&watch.target).and_then(kind_of);
            if kind.is_some_and(|kind| kind.watched_from_within) {
                late.0.entry(holders_table(entry.id, all)).or_default().push(watch);
            } else {
                ours.push((cx.number(watch.epoll)?, cx.number(watch.target)?, watch));
            }
        }
    }
    if ours.is_empty() { Ok(()) } else { add_all(&ours) }
}

fn holders_table(id: FileId, all: &Snapshot) -> u32 {
    let ids = all.first_holder(id).and_then(|pid| all.tasks.get(&pid)?.ids.as_ref());
    ids.map_or(0, |ids| ids.files_id)
}

/// Adds targets to epoll files in a private descriptor table. Both are given by their numbers in
/// the engine.
fn add_all(watches: &[(i32, i32, Watch)]) -> Result<()> {
    let mut failed = None;
    let done = descriptor::with_private_table(|| {
        for (epoll, target, watch) in watches {
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

/// Adds `target` under its number, in a private descriptor table.
fn add(epoll: i32, target: i32, watch: &Watch) -> nix::Result<()> {
    let number = watch.number;
    if target == number {
        return epoll::add(epoll, number, watch.events, watch.data);
    }
    // The engine's descriptor of that number is needed again; it may even be the epoll file's.
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

/// Has the process whose table is to be filled add its targets, while all numbers are free.
fn watch_from_within(late: &Late, cx: &RestoreCx<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let task = cx.snapshot.tasks.get(&pids::tree(turn.pid()));
    let ids = task.and_then(|task| task.ids.as_ref());
    let Some(late) = ids.and_then(|ids| late.0.get(&ids.files_id)) else { return Ok(()) };
    let blank = turn.blank()?;
    let above = late.iter().map(|watch| watch.number + 1).max().unwrap_or(0);
    if blank.service_fd().is_none_or(|service| service.0 < above) {
        blank.move_service_fd(above)?;
    }
    late.iter().try_for_each(|watch| add_from_within(watch, above, cx, blank))
}

/// Has a process add one target. No target has a number from `above` on.
fn add_from_within(watch: &Watch, above: i32, cx: &RestoreCx<'_>, blank: &mut Blank) -> Result<()> {
    let received = blank.send_fds(&[cx.fd(watch.epoll)?, cx.fd(watch.target)?])?;
    let mut batch = Batch::new();
    let moved = [received[0], received[1]].map(|number| {
        batch.must("move it aside", libc::SYS_fcntl, args![number, libc::F_DUPFD, above])
    });
    for number in received {
        batch.must("close it", libc::SYS_close, args![number]);
    }
    let outcome = blank.run(batch)?;
    let [epoll, target] = moved.map(|call| outcome.ret(call).doing(|| "move it aside"));
    let (epoll, target) = (epoll?, target?);
    let mut batch = Batch::new();
    let event = [&watch.events.to_le_bytes()[..], &watch.data.to_le_bytes()].concat();
    let event = batch.bytes(&event);
    let what = format!("pid {}: watch descriptor {}", blank.pid(), watch.number);
    let add = args![epoll, libc::EPOLL_CTL_ADD, watch.number, event];
    batch.must("place it", libc::SYS_dup3, args![target, watch.number, libc::O_CLOEXEC]);
    batch.must(what, libc::SYS_epoll_ctl, add);
    for number in [i64::from(watch.number), epoll, target] {
        batch.must("close it", libc::SYS_close, args![number]);
    }
    blank.run(batch).map(drop)
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
        let all = super::targets(&info).unwrap();
        let mut all: Vec<_> = all.iter().map(|one| (one.number, one.events, one.data)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn the_kernel_tells_targets() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n\
            tfd:       16 events: 80000019 data:               10  pos:0 ino:555d sdev:f\n\
            tfd:       23 events:       19 data:     7f2600000017  pos:7 ino:518406 sdev:fe00000\n";
        let told = super::targets(&Fdinfo::parse(text.into()).unwrap()).unwrap();
        let first =
            Target { number: 16, events: 0x8000_0019, data: 0x10, pos: 0, ino: 0x555d, dev: 15 };
        assert_eq!(told[0], first);
        assert_eq!((told[1].data, told[1].pos), (0x7f26_0000_0017, 7));
        assert_eq!(super::targets(&Fdinfo::parse("tfd: x\n".into()).unwrap()), None);
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
        // 10 still leads to its target, 20 is closed, 30 leads to one of its two targets, and 11
        // to another file.
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
