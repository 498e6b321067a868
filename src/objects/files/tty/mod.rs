//! Terminals.
//!
//! A pseudo terminal has a number, a master side and a slave side. An open file of either side is a
//! `tty_file_entry`, which refers to a path and to the `tty_info_entry` of the side (whose id is
//! twice the number, plus one for the master). `/dev/tty` counts as a side of its own, since it
//! leads to the terminal of the session that opens it. Session and foreground group are read from
//! `/proc/PID/stat`: a slave tells them only to its own session.
//!
//! A slave without its master in the tree is a terminal from outside, as that of a shell is. It is
//! dumped if the request allows that, and the restorer's terminal takes its place. [`rebuild`]
//! makes terminals anew, [`unread`] takes unread data and puts it back.

mod rebuild;
mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::kind::{FileId, FileKind, Step, held_as};
use super::opened::{Captured, Opened};
use super::paths;
use crate::error::{Context, Error, Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{
    FdTypes, FownEntry, RegFileEntry, TermiosEntry, TtyFileEntry, TtyInfoEntry, TtyPtyEntry,
    TtyType, WinsizeEntry,
};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, Stat};
use crate::kernel::tty::{self, Termios, Winsize};
use crate::objects::phases::Phase;
use crate::objects::pids;

const TTY_MAJOR: u32 = 4;
const TTYAUX_MAJOR: u32 = 5;
const PTY_MASTER_MAJORS: std::ops::Range<u32> = 128..136;
const PTY_SLAVE_MAJORS: std::ops::Range<u32> = 136..144;
const USB_SERIAL_MAJOR: u32 = 188;
const SERIAL_MAJOR: u32 = 204;
/// Numbers of terminals that are no pseudo terminals, as CRIU has them.
const CTTY_INDEX: u32 = 1006;
const EXTERNAL_INDEX: u32 = 1012;
/// How many control characters there are, and how many words the image has for them.
const CC_WORDS: usize = 19;

/// What a terminal file is a side of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Master,
    Slave,
    /// `/dev/tty`
    Own,
    Other,
}

pub(super) struct Tty;

impl FileKind for Tty {
    const TYPE: FdTypes = FdTypes::Tty;
    const NAME: &'static str = "tty";
    type Entry = TtyFileEntry;
    type Met = Terminals;
    type Made = ();
    held_as!(tty);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        let major = libc::major(file.stat.st_rdev);
        let known = [TTY_MAJOR, TTYAUX_MAJOR, USB_SERIAL_MAJOR, SERIAL_MAJOR].contains(&major)
            || PTY_MASTER_MAJORS.contains(&major)
            || PTY_SLAVE_MAJORS.contains(&major);
        file.is(SFlag::S_IFCHR) && known && !file.is_path_only()
    }

    fn capture(
        file: &Opened,
        id: FileId,
        met: &mut Terminals,
        cx: &mut DumpCx<'_>,
    ) -> Captured<TtyFileEntry> {
        let key = external_key(file.stat.st_rdev, file.stat.st_dev);
        let (tty_info_id, regf_id) = if cx.is_external(&key) {
            (capture_external(file, met, cx)?, None)
        } else {
            let (kind, info_id) = known_side(file, &key)?;
            let regf_id = paths::put(file, cx)?;
            note_side(file, info_id, kind, met, cx)?;
            (info_id, Some(regf_id))
        };
        Ok(TtyFileEntry { id, tty_info_id, flags: file.flags(), fown: file.owner, regf_id })
    }

    fn settle(met: &mut Terminals, cx: &mut DumpCx<'_>, refusals: &mut Refusals) -> Result<()> {
        settle(met, cx, refusals)
    }

    /// Takes unread data of terminals that have both sides in the tree, and puts it back at once.
    fn touch(met: Terminals, cx: &mut DumpCx<'_>) -> Result<()> {
        capture_data(&met.sides, cx)
    }

    fn validate(entry: &TtyFileEntry, all: &Snapshot) -> Result<()> {
        let Some(info) = all.tty_info.iter().find(|info| info.id == entry.tty_info_id) else {
            return Err(wrong(format!(
                "file {} is of terminal {}, which is not there",
                entry.id, entry.tty_info_id
            )));
        };
        if path(entry, all).is_none() && info.r#type != TtyType::ExtTty as i32 {
            return Err(wrong(format!("file {} of a terminal has no path", entry.id)));
        }
        Ok(())
    }

    fn validate_all(all: &Snapshot) -> Result<()> {
        all.tty_info.iter().try_for_each(validate_info)?;
        validate_masters(all)
    }

    /// The steps open the two sides of a terminal together, and `/dev/tty` later.
    fn open(_: &TtyFileEntry, _: &mut (), _: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    const STEPS: &'static [(Phase, Step<()>)] = &[
        (Phase::Open, Step::Tree(rebuild::open_all)),
        (Phase::Terminals, Step::Tree(rebuild::attach_all)),
    ];

    fn owner<'a>(entry: &'a TtyFileEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &TtyFileEntry, all: &Snapshot) -> Description {
        let name = path(entry, all).map(|reg| reg.name.clone()).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| terminal(entry.tty_info_id, all));
        Description::named(name).opened_with(entry.flags)
    }
}

/// Terminals met so far.
#[derive(Debug, Default)]
pub(super) struct Terminals {
    sides: BTreeMap<u32, Met>,
    external: u32,
}

/// A side that was met: where, and a descriptor of it.
#[derive(Debug)]
struct Met {
    place: String,
    object: String,
    file: OwnedFd,
    pid: HostPid,
}

fn side(file: &Opened) -> Side {
    match (libc::major(file.stat.st_rdev), libc::minor(file.stat.st_rdev)) {
        (TTYAUX_MAJOR, 2) => Side::Master,
        (TTYAUX_MAJOR, 0) => Side::Own,
        (major, _) if PTY_MASTER_MAJORS.contains(&major) => Side::Master,
        (major, _) if PTY_SLAVE_MAJORS.contains(&major) => Side::Slave,
        _ => Side::Other,
    }
}

/// What kind of terminal a file is, and the number of its side in the image.
fn known_side(file: &Opened, key: &str) -> Captured<(TtyType, u32)> {
    let what = || format!("{}: ask {}", file.place, file.object());
    match side(file) {
        Side::Master => Ok((TtyType::Pty, (tty::pty_index(&file.file).doing(what)? << 1) + 1)),
        Side::Slave => Ok((TtyType::Pty, slave_index(file.stat.st_rdev) << 1)),
        Side::Own => Ok((TtyType::Ctty, CTTY_INDEX << 1)),
        Side::Other => {
            let remedy = format!("bring it from outside at restore (--external {key})");
            Err(file.refuse("only pseudo terminals are carried", remedy))
        }
    }
}

/// The key by which a terminal is left to be brought from outside.
fn external_key(rdev: u64, dev: u64) -> String {
    format!("tty[{rdev:x}:{dev:x}]")
}

fn capture_external(file: &Opened, met: &mut Terminals, cx: &mut DumpCx<'_>) -> Result<u32> {
    met.external += 1;
    let info_id = (EXTERNAL_INDEX + met.external) << 1;
    note_side(file, info_id, TtyType::ExtTty, met, cx)?;
    Ok(info_id)
}

fn slave_index(rdev: u64) -> u32 {
    (libc::major(rdev) - PTY_SLAVE_MAJORS.start) * 256 + libc::minor(rdev)
}

/// Stores the info of a side, when it is met first.
fn note_side(
    file: &Opened,
    id: u32,
    kind: TtyType,
    met: &mut Terminals,
    cx: &mut DumpCx<'_>,
) -> Result<()> {
    if met.sides.contains_key(&id) {
        return Ok(());
    }
    let what = || format!("{}: read the state of {}", file.place, file.object());
    let master = kind == TtyType::Pty && id % 2 == 1;
    let mut info = TtyInfoEntry {
        id,
        r#type: kind as i32,
        locked: master && tty::is_locked(&file.file).doing(what)?,
        exclusive: tty::is_exclusive(&file.file).unwrap_or(false),
        packet_mode: master && tty::is_packet_mode(&file.file).doing(what)?,
        rdev: file.stat.st_rdev as u32,
        dev: Some(file.stat.st_dev as u32),
        uid: Some(file.stat.st_uid),
        gid: Some(file.stat.st_gid),
        pty: (kind == TtyType::Pty).then_some(TtyPtyEntry { index: id >> 1 }),
        ..Default::default()
    };
    if master {
        info.sid = pids::tree(tty::session(&file.file).unwrap_or_default()).number();
        info.pgrp = pids::tree(tty::foreground(&file.file).unwrap_or_default()).number();
    }
    match tty::termios(&file.file) {
        Ok(termios) => {
            let locked = tty::locked_termios(&file.file).doing(what)?;
            info.termios = Some(to_entry(&termios));
            info.termios_locked = Some(to_entry(&locked));
            info.winsize = Some(to_winsize(tty::winsize(&file.file).doing(what)?));
        }
        // The master of this slave is closed: it is hung up, and has no settings.
        Err(Errno::EIO) => {}
        Err(errno) => return Err(Error::sys(what(), errno)),
    }
    cx.out.tty_info.push(info);
    let copy = file.file.try_clone().doing(what)?;
    let side = Met { place: file.place.clone(), object: file.object(), file: copy, pid: file.pid };
    met.sides.insert(id, side);
    Ok(())
}

/// Settings as the image holds them, with the bytes of `c_cc` packed into words.
fn to_entry(termios: &Termios) -> TermiosEntry {
    let mut bytes = [0u8; CC_WORDS.next_multiple_of(4)];
    bytes[..CC_WORDS].copy_from_slice(&termios.cc);
    let mut words = vec![0u32; CC_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    TermiosEntry {
        c_iflag: termios.iflag,
        c_oflag: termios.oflag,
        c_cflag: termios.cflag,
        c_lflag: termios.lflag,
        c_line: termios.line.into(),
        c_ispeed: 0,
        c_ospeed: 0,
        c_cc: words,
    }
}

/// Settings from the image. Words behind the bytes of `c_cc` have no meaning.
fn from_entry(entry: &TermiosEntry) -> Termios {
    let mut cc = [0u8; CC_WORDS];
    let bytes = entry.c_cc.iter().flat_map(|word| word.to_le_bytes());
    for (place, byte) in cc.iter_mut().zip(bytes) {
        *place = byte;
    }
    Termios {
        iflag: entry.c_iflag,
        oflag: entry.c_oflag,
        cflag: entry.c_cflag,
        lflag: entry.c_lflag,
        line: entry.c_line as u8,
        cc,
    }
}

fn to_winsize(size: Winsize) -> WinsizeEntry {
    WinsizeEntry {
        ws_row: size.row.into(),
        ws_col: size.col.into(),
        ws_xpixel: size.xpixel.into(),
        ws_ypixel: size.ypixel.into(),
    }
}

/// Fills in sessions and foreground groups, and refuses terminals that could not be made anew.
fn settle(met: &Terminals, cx: &mut DumpCx<'_>, refusals: &mut Refusals) -> Result<()> {
    if cx.out.tty_info.is_empty() {
        return Ok(());
    }
    let mut stats = BTreeMap::new();
    for pid in cx.out.tree.iter().map(|task| pids::host(task.tree_pid())) {
        stats.insert(pid, proc::stat(pid)?);
    }
    let mut outside = BTreeSet::new();
    for info in &mut cx.out.tty_info {
        let Some(side) = met.sides.get(&info.id) else { continue };
        sit(info, side.pid, &stats);
        let leader_in_tree =
            info.sid == 0 || stats.contains_key(&pids::host(TreePid::new(info.sid)));
        let lone_slave = info.r#type == TtyType::Pty as i32
            && info.id % 2 == 0
            && info.termios.is_some()
            && !met.sides.contains_key(&(info.id + 1));
        if lone_slave {
            outside.insert(info.id);
        }
        let reason = match () {
            () if info.r#type == TtyType::ExtTty as i32 => continue,
            () if lone_slave && !cx.options.shell_job => "it is a terminal from outside the tree",
            () if !leader_in_tree && !cx.options.shell_job => {
                "its session's leader is outside the tree"
            }
            () if lone_slave && outside.len() > 1 => {
                "only one terminal from outside can be replaced"
            }
            () => continue,
        };
        let remedy = if cx.options.shell_job {
            "redirect it"
        } else {
            "let the restorer's terminal take its place (--shell-job)"
        };
        refusals.refuse(side.place.clone(), side.object.clone(), reason, remedy);
    }
    Ok(())
}

/// Fills in the session whose controlling terminal a side is.
fn sit(info: &mut TtyInfoEntry, holder: HostPid, stats: &BTreeMap<HostPid, Stat>) {
    let rdev = u64::from(info.rdev);
    let stat = if info.r#type == TtyType::Ctty as i32 {
        stats.get(&holder)
    } else if info.sid == 0 {
        stats.values().find(|stat| stat.tty == rdev && rdev != 0)
    } else {
        None
    };
    if let Some(stat) = stat {
        info.sid = pids::tree(stat.session).number();
        info.pgrp = pids::tree(stat.foreground.max(HostPid::default())).number();
    }
}

fn capture_data(sides: &BTreeMap<u32, Met>, cx: &mut DumpCx<'_>) -> Result<()> {
    for info in &cx.out.tty_info {
        let pair = info.r#type == TtyType::Pty as i32 && info.id % 2 == 0 && info.termios.is_some();
        let (Some(slave), Some(master)) = (sides.get(&info.id), sides.get(&(info.id + 1))) else {
            continue;
        };
        if !pair {
            continue;
        }
        let data = unread::take(&master.file, &slave.file)
            .map_err(|error| error.context(format!("{}: {}", slave.place, slave.object)))?;
        cx.out.tty_data.extend(data.entries(info.id));
    }
    Ok(())
}

fn wrong(cause: String) -> Error {
    Error::image("tty-info.img", cause)
}

fn validate_info(info: &TtyInfoEntry) -> Result<()> {
    let kind = TtyType::try_from(info.r#type);
    if !matches!(kind, Ok(TtyType::Pty | TtyType::Ctty | TtyType::ExtTty)) {
        let cause = format!("terminal {}: only pseudo terminals are restored", info.id);
        return Err(wrong(cause));
    }
    if info.pty.is_some() != (kind == Ok(TtyType::Pty)) {
        return Err(wrong(format!("terminal {} has no number, or one too many", info.id)));
    }
    let parts = [info.termios.is_some(), info.termios_locked.is_some(), info.winsize.is_some()];
    let master = info.id % 2 == 1;
    if parts != [parts[0]; 3] || (master && !parts[0]) {
        return Err(wrong(format!("terminal {}: its settings are not whole", info.id)));
    }
    Ok(())
}

fn validate_masters(all: &Snapshot) -> Result<()> {
    let infos = all.tty_info.iter().filter(|info| info.pty.is_some() && info.id % 2 == 1);
    let masters: BTreeSet<u32> = infos.map(|info| info.id).collect();
    let mut met = BTreeSet::new();
    for tty in all.files.values().filter_map(|file| file.tty.as_ref()) {
        if masters.contains(&tty.tty_info_id) && !met.insert(tty.tty_info_id) {
            return Err(wrong(format!("terminal {} has two masters", tty.tty_info_id)));
        }
    }
    Ok(())
}

/// The path of a side, where it has one.
fn path<'a>(entry: &TtyFileEntry, all: &'a Snapshot) -> Option<&'a RegFileEntry> {
    all.path_entry(entry.regf_id?)
}

/// A name for a terminal that has no path.
fn terminal(info_id: u32, all: &Snapshot) -> String {
    let Some(info) = all.tty_info.iter().find(|info| info.id == info_id) else {
        return format!("terminal {info_id}");
    };
    match (info.r#type(), &info.pty) {
        (TtyType::Pty, Some(pty)) => format!("pseudoterminal {}", pty.index),
        (kind, _) => format!("terminal of kind {}", kind.as_str_name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_packed_as_others_pack_them() {
        let mut termios =
            Termios { iflag: 1280, oflag: 5, cflag: 191, lflag: 35387, ..Default::default() };
        let cc = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0];
        termios.cc = cc;
        let entry = to_entry(&termios);
        assert_eq!(entry.c_cc[..5], [360_651_779, 65540, 1_708_817, 370_609_938, 0]);
        assert_eq!(entry.c_cc.len(), 19);
        assert_eq!(from_entry(&entry), termios);
        let short = TermiosEntry { c_cc: vec![1], ..entry };
        assert_eq!(from_entry(&short).cc[..2], [1, 0]);
    }
}
