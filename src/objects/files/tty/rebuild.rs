//! Makes terminals anew.
//!
//! The kernel gives a new pseudo terminal the lowest free number. So masters are opened until one
//! has the wanted number, and then the others are closed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::super::context::RestoreCx;
use super::super::kind::Blanks;
use super::super::set_status_flags;
use super::unread::{self, Unread};
use super::{external_key, from_entry};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{RegFileEntry, TtyFileEntry, TtyInfoEntry, TtyType, WinsizeEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::pidfd;
use crate::kernel::remote::RemoteFd;
use crate::kernel::threads::in_own_thread;
use crate::kernel::tty::{self, Winsize};
use crate::objects::pids;
use crate::objects::place::{Place, reopen};
use crate::tracee::batch::Batch;
use crate::tracee::blank::Blank;

/// How many masters are opened at most to reach a number.
const MOST_TRIES: usize = 4096;
/// How often, and how long each time, a number that is in use is waited for: a process that is
/// dying, or that was forked to start a program, closes its descriptors in a moment.
const MOMENTS: u32 = 40;
const MOMENT: Duration = Duration::from_millis(1);
const O_LARGEFILE: i32 = 0o100_000;

/// One pseudo terminal of the image.
struct Pair<'s> {
    index: u32,
    master_info: Option<&'s TtyInfoEntry>,
    slave_info: Option<&'s TtyInfoEntry>,
    master: Option<&'s TtyFileEntry>,
    slaves: Vec<&'s TtyFileEntry>,
}

/// Opens all terminals but `/dev/tty`.
pub(super) fn open_all(_: &mut (), cx: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
    for pair in pairs(cx.snapshot) {
        let index = pair.index;
        open_pair(&pair, cx).map_err(|error| error.context(format!("pty {index}")))?;
    }
    for (info, tty) in sides(cx.snapshot) {
        if is_external(info) {
            let terminal = open_external(info, cx)?;
            cx.put(tty.id, terminal);
        }
    }
    Ok(())
}

/// Every file that is a side of a terminal, with the side.
fn sides(snapshot: &Snapshot) -> impl Iterator<Item = (&TtyInfoEntry, &TtyFileEntry)> {
    let files = snapshot.files.values().filter_map(|file| file.tty.as_ref());
    files.filter_map(|tty| {
        let info = snapshot.tty_info.iter().find(|info| info.id == tty.tty_info_id)?;
        Some((info, tty))
    })
}

/// A side of a pseudo terminal, which has a number.
fn pty_info(id: u32, snapshot: &Snapshot) -> Option<&TtyInfoEntry> {
    snapshot.tty_info.iter().find(|info| info.id == id && info.pty.is_some())
}

fn pairs(snapshot: &Snapshot) -> Vec<Pair<'_>> {
    let infos = snapshot.tty_info.iter();
    let numbers: BTreeSet<u32> = infos.filter_map(|info| info.pty.map(|pty| pty.index)).collect();
    let info = |id: u32| pty_info(id, snapshot);
    let files =
        |id: u32| sides(snapshot).filter(move |(info, _)| info.id == id).map(|(_, tty)| tty);
    let pair = |index: u32| Pair {
        index,
        master_info: info(index * 2 + 1),
        slave_info: info(index * 2),
        master: files(index * 2 + 1).next(),
        slaves: files(index * 2).collect(),
    };
    numbers.into_iter().map(pair).collect()
}

fn open_pair(pair: &Pair<'_>, cx: &mut RestoreCx<'_>) -> Result<()> {
    let hung_up = pair.slave_info.is_none_or(|info| info.termios.is_none());
    let from_outside = pair.master.is_none() && !hung_up;
    if from_outside && !cx.options.orphan_masters {
        return open_from_outside(pair, cx);
    }
    let path = pair.master.map(|master| path_of(master, cx.snapshot)).transpose()?;
    let path = path.map_or("/dev/ptmx", |reg| reg.name.as_str());
    let flags = pair.master.map_or(libc::O_RDWR, |master| master.flags.cast_signed());
    let master = open_master(Place::in_tree(path), pair.index, flags)?;
    tty::set_locked(&master, false).doing(|| "unlock it")?;
    let mut slaves = Vec::new();
    for file in &pair.slaves {
        let slave = open_slave(file, &master, pair.index, cx.snapshot)?;
        set_status_flags(&slave, file.flags).doing(|| "set the flags of a slave")?;
        slaves.push((file.id, slave));
    }
    let spare = match slaves.first() {
        Some((_, slave)) => slave.try_clone().doing(|| "copy the descriptor of a slave")?,
        None => tty::open_slave(&master, libc::O_RDWR | libc::O_NOCTTY).doing(|| "open a slave")?,
    };
    settle(pair, cx.snapshot, &master, &spare)?;
    slaves.into_iter().for_each(|(id, slave)| cx.put(id, slave));
    if from_outside {
        cx.for_caller.push(master);
    } else if let (Some(file), Some(info)) = (pair.master, pair.master_info) {
        tty::set_packet_mode(&master, info.packet_mode).doing(|| "set packet mode")?;
        tty::set_locked(&master, info.locked).doing(|| "lock it")?;
        set_status_flags(&master, file.flags).doing(|| "set the flags of a master")?;
        cx.put(file.id, master);
    }
    Ok(())
}

/// Gives a terminal its settings, owner and unread data. Exclusive mode is last, since it keeps the
/// terminal from being opened again.
fn settle(pair: &Pair<'_>, snapshot: &Snapshot, master: &OwnedFd, slave: &OwnedFd) -> Result<()> {
    let data = |id: u32| {
        let entry = snapshot.tty_data.iter().find(|data| data.tty_id == id);
        entry.map(|entry| entry.data.clone()).unwrap_or_default()
    };
    if let Some(info) = pair.slave_info.or(pair.master_info) {
        apply_settings(slave, info, true)?;
    }
    if let (Some(info), Some(uid), Some(gid)) =
        (pair.slave_info, pair.slave_info.and_then(|i| i.uid), pair.slave_info.and_then(|i| i.gid))
    {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        nix::unistd::fchown(slave, owner.0, owner.1).doing(|| format!("give it to {}", info.id))?;
    }
    let line = data(pair.index * 2);
    let lines = line.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    unread::restore(master, slave, &Unread { master: data(pair.index * 2 + 1), slave: lines })?;
    if pair.slave_info.or(pair.master_info).is_some_and(|info| info.exclusive) {
        tty::set_exclusive(slave).doing(|| "close it to others")?;
    }
    Ok(())
}

fn apply_settings(side: &OwnedFd, info: &TtyInfoEntry, with_size: bool) -> Result<()> {
    if let Some(locked) = &info.termios_locked {
        let bits = from_entry(locked);
        // Other writers leave arbitrary bytes in the control characters of this field.
        let bits = tty::Termios { cc: [0; 19], ..bits };
        if bits != tty::Termios::default() {
            tty::lock_termios(side, &bits).doing(|| "lock its settings")?;
        }
    }
    if let Some(termios) = &info.termios {
        tty::set_termios(side, &from_entry(termios)).doing(|| "set its settings")?;
    }
    if let (Some(size), true) = (&info.winsize, with_size) {
        tty::set_winsize(side, &winsize(size)).doing(|| "set its window size")?;
    }
    Ok(())
}

fn winsize(entry: &WinsizeEntry) -> Winsize {
    Winsize {
        row: entry.ws_row as u16,
        col: entry.ws_col as u16,
        xpixel: entry.ws_xpixel as u16,
        ypixel: entry.ws_ypixel as u16,
    }
}

fn open_master(place: Place<'_>, index: u32, flags: i32) -> Result<OwnedFd> {
    in_a_moment(|| try_open_master(place, index, flags))?.ok_or_else(|| {
        Error::new(Kind::System, format!("number {index} is in use by another program"))
            .remedy("end that program, or restore with a /dev/pts of its own")
    })
}

/// Repeats an attempt until it has a result, or for a while.
fn in_a_moment<T>(mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    for _ in 0..MOMENTS {
        if let Some(there) = attempt()? {
            return Ok(Some(there));
        }
        std::thread::sleep(MOMENT);
    }
    attempt()
}

/// Opens the master with this number. None if the number is in use.
fn try_open_master(place: Place<'_>, index: u32, flags: i32) -> Result<Option<OwnedFd>> {
    let mut others = Vec::new();
    for _ in 0..MOST_TRIES {
        let master = place.open(flags)?;
        let number = tty::pty_index(&master)
            .doing(|| format!("{}: ask its number", place.path().display()))?;
        if number == index {
            return Ok(Some(master));
        }
        if number > index {
            break;
        }
        others.push(master);
    }
    Ok(None)
}

/// Opens a slave by its path; by its master if it was opened so, or if the path leads elsewhere.
fn open_slave(
    file: &TtyFileEntry,
    master: &OwnedFd,
    index: u32,
    all: &Snapshot,
) -> Result<OwnedFd> {
    let reg = path_of(file, all)?;
    let place = Place::in_tree(&reg.name);
    let flags = file.flags.cast_signed();
    let expected = libc::makedev(136 + index / 256, index % 256);
    // A slave that was opened by its master (TIOCGPTPEER) does not have O_LARGEFILE.
    let by_path = flags & O_LARGEFILE != 0;
    let slave = if by_path && place.stat().is_ok_and(|stat| stat.st_rdev == expected) {
        place.open(flags)?
    } else {
        tty::open_slave(master, flags | libc::O_NOCTTY).doing(|| format!("open {}", reg.name))?
    };
    if let Some(mode) = reg.mode {
        let mode = Mode::from_bits_truncate(mode);
        nix::sys::stat::fchmod(&slave, mode).doing(|| format!("set the mode of {}", reg.name))?;
    }
    Ok(slave)
}

fn path_of<'s>(file: &TtyFileEntry, all: &'s Snapshot) -> Result<&'s RegFileEntry> {
    super::path(file, all)
        .ok_or_else(|| Error::image("files.img", format!("terminal {} has no path", file.id)))
}

/// Opens the restorer's terminal in place of one from outside. It keeps the size of its window.
fn open_from_outside(pair: &Pair<'_>, cx: &mut RestoreCx<'_>) -> Result<()> {
    let Some(terminal) = &cx.options.terminal else {
        return Err(Error::new(Kind::BadOptions, "the terminal was outside of the tree")
            .remedy("restore from a terminal, which then takes its place (--shell-job)"));
    };
    let opened = pair.slaves.iter().map(|file| {
        let slave = reopen(terminal, file.flags.cast_signed())?;
        Ok((file.id, slave))
    });
    let opened = opened.collect::<Result<Vec<_>>>()?;
    if let Some(info) = pair.slave_info {
        // If the restorer is in the background, the attempt fails, and must not stop it (SIGTTOU).
        let set = in_own_thread(|| apply_settings(terminal, info, false).map_err(|_| Errno::EIO));
        set.doing(|| "set up the terminal that takes its place")?;
    }
    opened.into_iter().for_each(|(id, slave)| cx.put(id, slave));
    Ok(())
}

fn is_external(info: &TtyInfoEntry) -> bool {
    info.r#type == TtyType::ExtTty as i32
}

fn open_external(info: &TtyInfoEntry, cx: &RestoreCx<'_>) -> Result<OwnedFd> {
    let key = external_key(info.rdev.into(), info.dev.unwrap_or(0).into());
    let Some(terminal) = cx.inherited(&key)? else {
        let cause = format!("the terminal {key} was left to be brought from outside");
        return Err(
            Error::new(Kind::BadOptions, cause).remedy("give a descriptor for it (--inherit-fd)")
        );
    };
    apply_settings(&terminal, info, true).map_err(|error| error.context(key))?;
    Ok(terminal)
}

/// Gives sessions their controlling terminals and foreground groups, then opens `/dev/tty` for
/// those that have it open.
pub(super) fn attach_all(_: &mut (), cx: &mut RestoreCx<'_>, blanks: &mut Blanks) -> Result<()> {
    let mut done = BTreeSet::new();
    for info in &cx.snapshot.tty_info {
        let sid = pids::host(TreePid::new(info.sid));
        let external = is_external(info);
        if (info.pty.is_none() && !external) || info.sid == 0 || !done.insert(sid) {
            continue;
        }
        match blanks.get_mut(&sid) {
            Some(leader) => attach(leader, info, cx)?,
            // It is the caller's affair to which session an external terminal belongs.
            None if external => {}
            None => bring_to_foreground(cx)?,
        }
    }
    open_own_terminals(cx, blanks)
}

fn attach(leader: &mut Blank, info: &TtyInfoEntry, cx: &RestoreCx<'_>) -> Result<()> {
    let index = info.id >> 1;
    let what = format!("pid {}: take pty {index} as controlling terminal", leader.pid());
    let slave = match is_external(info) {
        true => opened_side(info, cx),
        false => slave_of(index, cx).doing(|| what.clone())?,
    };
    let Some(slave) = slave else { return Ok(()) };
    let sent = leader.send_fds(&[slave.as_fd()])?;
    let number = sent[0];
    let group = info.pgrp.cast_signed();
    let alive = cx.snapshot.tree.iter().any(|task| task.pgid.cast_signed() == group);
    let mut batch = Batch::new();
    batch.must(what, libc::SYS_ioctl, args![number, libc::TIOCSCTTY, 1]);
    if alive {
        let place = batch.bytes(&group.to_le_bytes());
        let what = format!("pid {}: make {group} the foreground group", leader.pid());
        batch.must(what, libc::SYS_ioctl, args![number, libc::TIOCSPGRP, place]);
    }
    batch.must("close the terminal", libc::SYS_close, args![number]);
    leader.run(batch).map(drop)
}

/// A descriptor of a side of a terminal, if some process has it open.
fn opened_side(info: &TtyInfoEntry, cx: &RestoreCx<'_>) -> Option<OwnedFd> {
    let (_, tty) = sides(cx.snapshot).find(|(side, _)| side.id == info.id)?;
    cx.fd(tty.id).ok()?.try_clone_to_owned().ok()
}

/// A slave of a pseudo terminal: one of the images, or else one that is opened for the moment.
fn slave_of(index: u32, cx: &RestoreCx<'_>) -> nix::Result<Option<OwnedFd>> {
    let side = |id: u32| opened_side(pty_info(id, cx.snapshot)?, cx);
    if let Some(slave) = side(index * 2) {
        return Ok(Some(slave));
    }
    let Some(master) = side(index * 2 + 1) else { return Ok(None) };
    let locked = tty::is_locked(&master)?;
    tty::set_locked(&master, false)?;
    let slave = tty::open_slave(&master, libc::O_RDWR | libc::O_NOCTTY)?;
    tty::set_locked(&master, locked)?;
    Ok(Some(slave))
}

/// Makes the restored tasks the foreground job of the restorer's terminal, so that they get the
/// input.
fn bring_to_foreground(cx: &RestoreCx<'_>) -> Result<()> {
    let Some(terminal) = &cx.options.terminal else { return Ok(()) };
    let root = cx.snapshot.root();
    let group = if root.pgid == root.pid {
        pids::host(TreePid::new(root.pgid))
    } else {
        HostPid::new(nix::unistd::getpgrp().as_raw())
    };
    in_own_thread(|| tty::set_foreground(terminal, group))
        .doing(|| format!("make {group} the foreground group of the terminal"))
}

fn open_own_terminals(cx: &mut RestoreCx<'_>, blanks: &mut Blanks) -> Result<()> {
    let own = sides(cx.snapshot).filter(|(info, _)| info.r#type == TtyType::Ctty as i32);
    for (_, file) in own {
        let holder = cx.snapshot.first_holder(file.id);
        let Some(blank) = holder.and_then(|pid| blanks.get_mut(&pids::host(pid))) else {
            continue;
        };
        let path = path_of(file, cx.snapshot)?;
        let terminal = open_own(blank, &path.name, file.flags)?;
        cx.put(file.id, terminal);
    }
    Ok(())
}

fn open_own(blank: &mut Blank, path: &str, flags: u32) -> Result<OwnedFd> {
    let pid = blank.pid();
    let mut batch = Batch::new();
    let name = batch.cstr(path);
    let opened = batch.must(
        format!("pid {pid}: open {path}"),
        libc::SYS_openat,
        args![libc::AT_FDCWD, name, flags],
    );
    let outcome = blank.run(batch)?;
    let number = RemoteFd(outcome.ret(opened).doing(|| "open")? as i32);
    let pidfd = pidfd::open(pid).doing(|| format!("pid {pid}: pidfd_open"))?;
    let copy = pidfd::getfd(&pidfd, number).doing(|| format!("pid {pid}: copy {path}"))?;
    let mut batch = Batch::new();
    batch.must(format!("close {path}"), libc::SYS_close, args![number]);
    blank.run(batch)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::fd::AsFd;
    use std::time::Instant;

    use super::super::super::testing::*;
    use super::super::super::{CollectorOptions, OpenFiles, RestoreOptions, validate};
    use super::*;
    use crate::objects::phases::Phase;
    use crate::tracee::blank::Delivery;

    /// Makes the process a session leader with `number` as controlling terminal.
    fn sit_down(holder: &mut Blank, number: i32) {
        let mut batch = Batch::new();
        batch.must("setsid", libc::SYS_setsid, args![]);
        batch.must("TIOCSCTTY", libc::SYS_ioctl, args![number, libc::TIOCSCTTY, 0]);
        let path = batch.cstr("/dev/tty");
        batch.must("open", libc::SYS_openat, args![libc::AT_FDCWD, path, libc::O_RDWR]);
        holder.run(batch).unwrap();
    }

    #[test]
    fn a_session_with_its_terminal_comes_back() {
        let _alone = terminals();
        let (master, slave) = pty();
        let index = tty::pty_index(&master).unwrap();
        let mut termios = tty::termios(&slave).unwrap();
        termios.lflag &= !libc::ECHO;
        tty::set_termios(&slave, &termios).unwrap();
        tty::set_winsize(&slave, &Winsize { row: 30, col: 90, xpixel: 1, ypixel: 2 }).unwrap();
        tty::set_packet_mode(&master, true).unwrap();
        nix::unistd::write(&master, b"typed\n").unwrap();
        nix::unistd::write(&slave, b"shown\n").unwrap();
        let mut holder = hold(&[(0, &slave), (1, &slave), (2, &master)]);
        sit_down(&mut holder, 0);
        let (mut snapshot, _) = capture_all(&holder, lenient()).unwrap();
        assert_eq!(entry_of(&snapshot, 3).tty.as_ref().unwrap().tty_info_id, 2012);
        let info = snapshot.tty_info.iter().find(|info| info.id == index * 2).unwrap();
        assert_eq!(
            (info.sid, info.pgrp),
            (pids::tree(holder.pid()).number(), pids::tree(holder.pid()).number())
        );
        drop((holder, master, slave));
        let mut again = crate::tracee::blank::tests::support::blank();
        let pid = pids::tree(again.pid()).number();
        for info in snapshot.tty_info.iter_mut().filter(|info| info.sid != 0) {
            (info.sid, info.pgrp) = (pid, pid);
        }
        let snapshot = with_pid(&snapshot, again.pid());
        validate(&snapshot).unwrap();
        let mut batch = Batch::new();
        batch.must("setsid", libc::SYS_setsid, args![]);
        again.run(batch).unwrap();
        let mut files = OpenFiles::made(&snapshot, RestoreOptions::default()).unwrap();
        let mut blanks = BTreeMap::from([(again.pid(), again)]);
        files.run(Phase::Terminals, &mut blanks).unwrap();
        let mut again = blanks.pop_first().unwrap().1;
        let mut delivery = Delivery::to(&mut again);
        files.install_table(&mut delivery, snapshot.table_of(TreePid::new(pid)).unwrap()).unwrap();
        delivery.flush().unwrap();
        drop(files);
        check(&again, index, &termios);
    }

    fn check(again: &Blank, index: u32, termios: &tty::Termios) {
        let (slave, master) = (copy_of(again, 0), copy_of(again, 2));
        assert_eq!(link(again, 0), format!("/dev/pts/{index}"));
        assert_eq!(tty::pty_index(&master), Ok(index));
        assert_eq!(tty::termios(&slave).unwrap(), *termios);
        assert_eq!(tty::winsize(&slave).unwrap().col, 90);
        assert!(tty::is_packet_mode(&master).unwrap());
        assert_eq!(tty::session(&master), Ok(again.pid()));
        assert_eq!(tty::foreground(&master), Ok(again.pid()));
        let mut bytes = [0u8; 64];
        let len = nix::unistd::read(&slave, &mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"typed\n");
        assert_eq!(tty::readable(&master), Ok(7));
        let len = nix::unistd::read(&master, &mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"\0shown\r\n");
        assert_eq!(link(again, 3), "/dev/tty");
        nix::unistd::write(copy_of(again, 3), b"x").unwrap();
        assert_eq!(tty::readable(&master), Ok(1), "it leads to this terminal");
    }

    #[test]
    fn a_terminal_from_outside_needs_leave_and_is_replaced() {
        let _alone = terminals();
        let (_master, slave) = pty();
        let holder = hold(&[(1, &slave)]);
        let text = capture_all(&holder, lenient()).unwrap_err().to_string();
        assert!(text.contains("it is a terminal from outside the tree"), "{text}");
        assert!(text.contains("--shell-job"), "{text}");
        let options = CollectorOptions { shell_job: true, ..lenient() };
        let (snapshot, _) = capture_all(&holder, options).unwrap();
        let text = OpenFiles::made(&snapshot, RestoreOptions::default()).unwrap_err();
        assert!(text.to_string().contains("--shell-job"), "{text}");
        let (_other_master, other) = pty();
        let terminal = Some(other.as_fd().try_clone_to_owned().unwrap());
        let options = RestoreOptions { terminal, ..Default::default() };
        let files = OpenFiles::made(&snapshot, options).unwrap();
        let id = entry_of(&snapshot, 1).id;
        let rdev = |file: std::os::fd::BorrowedFd<'_>| nix::sys::stat::fstat(file).unwrap().st_rdev;
        assert_eq!(rdev(files.fd(id).unwrap()), rdev(other.as_fd()));
    }

    #[test]
    fn the_master_of_a_terminal_from_outside_can_be_left_to_the_caller() {
        let _alone = terminals();
        let (master, slave) = pty();
        let index = tty::pty_index(&master).unwrap();
        tty::set_winsize(&slave, &Winsize { row: 30, col: 91, xpixel: 0, ypixel: 0 }).unwrap();
        let holder = hold(&[(1, &slave)]);
        let options = CollectorOptions { shell_job: true, ..lenient() };
        let (snapshot, _) = capture_all(&holder, options).unwrap();
        drop((holder, slave, master));
        let options = RestoreOptions { orphan_masters: true, ..Default::default() };
        let mut files = OpenFiles::made(&snapshot, options).unwrap();
        let orphans = files.take_for_caller();
        assert_eq!(orphans.len(), 1);
        assert_eq!(tty::pty_index(&orphans[0]), Ok(index));
        let ours = files.fd(entry_of(&snapshot, 1).id).unwrap();
        assert_eq!(tty::winsize(ours).unwrap().col, 91);
        nix::unistd::write(&orphans[0], b"typed\n").unwrap();
        let mut bytes = [0u8; 64];
        let len = nix::unistd::read(ours, &mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"typed\n");
    }

    #[test]
    fn a_number_that_is_about_to_be_free_is_waited_for() {
        let _alone = terminals();
        let (master, slave) = pty();
        let index = tty::pty_index(&master).unwrap();
        let error = open_master(Place::in_tree("/dev/ptmx"), index, libc::O_RDWR).unwrap_err();
        let why = format!("number {index} is in use by another program");
        assert!(error.to_string().contains(&why), "{error}");
        // The engine asks again until there is an answer, and not for ever.
        let mut answers = [None, None, Some(index)].into_iter();
        let found = in_a_moment(|| Ok(answers.next().expect("no more answers are needed")));
        assert_eq!(found.unwrap(), Some(index));
        let mut asked = 0;
        let found: Option<()> = in_a_moment(|| {
            asked += 1;
            Ok(None)
        })
        .unwrap();
        assert_eq!((found, asked), (None, MOMENTS + 1));
        drop((master, slave));
        // The kernel gives the number back in its own time, and a child of another test may have been
        // forked meanwhile: a minute is over only if the number is never seen to be free.
        let given_up = Instant::now() + Duration::from_secs(60);
        while try_open_master(Place::in_tree("/dev/ptmx"), index, libc::O_RDWR).unwrap().is_none() {
            assert!(Instant::now() < given_up, "number {index} is not free again");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_hung_up_slave_stays_hung_up() {
        let _alone = terminals();
        let (master, slave) = pty();
        let holder = hold(&[(1, &slave)]);
        drop(master);
        let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
        drop((holder, slave));
        let restored = restore(&snapshot).unwrap();
        assert_eq!(tty::termios(copy_of(&restored, 1)), Err(nix::errno::Errno::EIO));
    }

    #[test]
    fn a_terminal_is_brought_from_outside() {
        let _alone = terminals();
        let (_master, slave) = pty();
        let stat = nix::sys::stat::fstat(&slave).unwrap();
        let key = external_key(stat.st_rdev, stat.st_dev);
        let holder = hold(&[(1, &slave)]);
        let options = CollectorOptions { external: vec![key.clone().into()], ..lenient() };
        let (snapshot, _) = capture_all(&holder, options).unwrap();
        validate(&snapshot).unwrap();
        let text = OpenFiles::made(&snapshot, RestoreOptions::default()).unwrap_err();
        assert!(text.to_string().contains("--inherit-fd"), "{text}");
        let options = RestoreOptions { inherit: vec![(key.into(), slave)], ..Default::default() };
        assert!(OpenFiles::made(&snapshot, options).is_ok());
    }
}
