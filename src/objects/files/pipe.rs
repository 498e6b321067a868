//! Anonymous pipes: which open file descriptions are ends of the same pipe, its capacity and its
//! contents.
//!
//! Contents are copied with tee(), which leaves the pipe as it is and keeps the boundaries of
//! packets (O_DIRECT), at which every read of the copy ends. Each read is stored as an entry of its
//! own, so that a pipe in packet mode has one entry per packet and any other pipe has at most one.
//! CRIU does not carry packet mode, so that no other reader of the format expects anything else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use nix::unistd::pipe2;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::identity::Fate;
use super::kind::{Blanks, FileId, FileKind, Step, held_as};
use super::opened::{Captured, Opened, PIPE_FS};
use super::set_status_flags;
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::payload::{Payload, Spool};
use crate::images::proto::{FdTypes, FownEntry, PipeDataEntry, PipeEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::{fcntl, pipe, tty};
use crate::objects::phases::Phase;
use crate::objects::place::reopen;

/// As much as a pipe holds at most, unless somebody privileged allows it more.
const AT_ONCE: usize = 1 << 20;
const O_DIRECT: u32 = libc::O_DIRECT.cast_unsigned();
const O_LARGEFILE: u32 = 0o100_000;

pub(super) struct Pipe;

impl FileKind for Pipe {
    const TYPE: FdTypes = FdTypes::Pipe;
    const NAME: &'static str = "pipe";
    type Entry = PipeEntry;
    /// Pipes whose contents are stored.
    type Met = HashSet<u32>;
    type Made = Pipes;
    held_as!(pipe);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        file.is(SFlag::S_IFIFO) && file.fs_type == PIPE_FS
    }

    fn capture(
        file: &Opened,
        id: FileId,
        met: &mut HashSet<u32>,
        cx: &mut DumpCx<'_>,
    ) -> Captured<PipeEntry> {
        let pipe_id = number(file);
        if file.is_readable() && met.insert(pipe_id) {
            cx.out.pipe_data.extend(contents(file, &mut cx.gathered.spool)?);
        }
        Ok(PipeEntry { id, pipe_id, flags: file.flags(), fown: file.owner })
    }

    fn settle(_: &mut HashSet<u32>, cx: &mut DumpCx<'_>, _: &mut Refusals) -> Result<()> {
        note_lone_ends(cx);
        Ok(())
    }

    fn validate(_: &PipeEntry, _: &Snapshot) -> Result<()> {
        Ok(())
    }

    fn validate_all(all: &Snapshot) -> Result<()> {
        validate("pipes-data.img", &all.pipe_data)
    }

    fn open(entry: &PipeEntry, pipes: &mut Pipes, cx: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        open(entry, pipes, cx).map(Some)
    }

    fn opened(pipes: &mut Pipes) {
        *pipes = Pipes::default();
    }

    const STEPS: &'static [(Phase, Step<Pipes>)] = &[(Phase::Open, Step::Tree(Pipes::prepare))];

    fn owner<'a>(entry: &'a PipeEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &PipeEntry, all: &Snapshot) -> Description {
        let held = describe_contents(entry.pipe_id, &all.pipe_data);
        Description::saying(format!("pipe {}{held}", entry.pipe_id)).opened_with(entry.flags)
    }
}

/// The image's number of a pipe.
pub(super) fn number(file: &Opened) -> u32 {
    file.stat.st_ino as u32
}

/// The capacity and the contents of the pipe with this readable end: an entry for each packet, and
/// at least one entry.
pub(super) fn contents(
    file: &Opened,
    spool: &mut Spool,
) -> Captured<Vec<(PipeDataEntry, Payload)>> {
    let what = || format!("{}: read what is in {}", file.place, file.object());
    let size = pipe::size(&file.file).doing(what)?;
    let held = tty::readable(&file.file).doing(what)?;
    let mut packets = if held == 0 { Vec::new() } else { copy(file, size, spool)? };
    if packets.is_empty() {
        packets.push(Vec::new().into());
    }
    let entry = |packet: &Payload| PipeDataEntry {
        pipe_id: number(file),
        bytes: u32::try_from(packet.len()).unwrap_or(u32::MAX),
        size: Some(size.cast_unsigned()),
    };
    Ok(packets.into_iter().map(|packet| (entry(&packet), packet)).collect())
}

fn copy(file: &Opened, size: i32, spool: &mut Spool) -> Captured<Vec<Payload>> {
    let what = || format!("{}: copy what is in {}", file.place, file.object());
    let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).doing(what)?;
    match pipe::set_size(&into, size) {
        Err(Errno::EPERM) => {
            let reason = format!("it is a pipe with data and {size} bytes of capacity");
            return Err(file.refuse(reason, "raise /proc/sys/fs/pipe-max-size"));
        }
        other => other.doing(what)?,
    }
    let mut left = pipe::tee(&file.file, &into, size.cast_unsigned() as usize).doing(what)?;
    let mut source = std::fs::File::from(out);
    let mut buffer = vec![0u8; left.min(AT_ONCE)];
    let mut packets: Vec<Payload> = Vec::new();
    let mut goes_on = false;
    while left > 0 {
        let wanted = left.min(AT_ONCE);
        let got = source.read(&mut buffer[..wanted]).doing(what)?;
        if got == 0 {
            break;
        }
        match packets.last_mut().filter(|_| goes_on) {
            Some(packet) => spool.append(packet, &buffer[..got])?,
            None => packets.push(spool.keep(&buffer[..got])?),
        }
        // A read ends with a packet, none of which is as long as the buffer, or fills the buffer.
        goes_on = got == AT_ONCE;
        left -= got;
    }
    Ok(packets)
}

/// Notes pipes that have an end outside the tree. The restored end will have no other, unless the
/// caller gives a descriptor in its place.
fn note_lone_ends(cx: &mut DumpCx<'_>) {
    let mut ends: HashMap<u32, u32> = HashMap::new();
    for pipe in cx.out.files.values().filter_map(|file| file.pipe.as_ref()) {
        *ends.entry(pipe.pipe_id).or_default() |= ends_of(pipe.flags);
    }
    for known in cx.known {
        let Fate::Carried(id, FdTypes::Pipe) = known.fate else { continue };
        let pipe = cx.out.files.get(&id).and_then(|file| file.pipe.as_ref());
        let Some(PipeEntry { pipe_id, .. }) = pipe else { continue };
        if ends.remove(pipe_id).is_some_and(|ends| ends != 3) {
            cx.gathered.notes.push(format!(
                "pid {} fd {}: pipe:[{pipe_id}] has its other end outside the tree: it is \
                 restored without, unless a descriptor is given for it (--inherit-fd)",
                known.pid, known.fd
            ));
        }
    }
}

/// 1: can be read; 2: can be written.
fn ends_of(flags: u32) -> u32 {
    match flags.cast_signed() & libc::O_ACCMODE {
        libc::O_RDONLY => 1,
        libc::O_WRONLY => 2,
        _ => 3,
    }
}

/// Checks that no pipe holds more than its capacity, and that all its bytes are there.
pub(super) fn validate(name: &str, stored: &[(PipeDataEntry, Payload)]) -> Result<()> {
    for (entry, bytes) in stored {
        if u64::from(entry.bytes) != bytes.len() {
            let cause = format!(
                "pipe {} has {} bytes instead of {}",
                entry.pipe_id,
                bytes.len(),
                entry.bytes
            );
            return Err(Error::image(name, cause));
        }
        if entry.size.is_some_and(|size| size > i32::MAX.cast_unsigned() || size < entry.bytes) {
            let cause = format!("pipe {} holds more than its capacity", entry.pipe_id);
            return Err(Error::image(name, cause));
        }
    }
    Ok(())
}

/// What the image says about its pipes, and those that have been made, by their number.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    made: BTreeMap<u32, Ends>,
    packet_mode: HashSet<u32>,
    /// Indices of a pipe's contents among those of all pipes.
    stored: HashMap<u32, Vec<usize>>,
}

impl Pipes {
    fn prepare(&mut self, cx: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
        let ends = cx.snapshot.files.values().filter_map(|file| file.pipe.as_ref());
        let packets = ends.filter(|pipe| ends_of(pipe.flags) != 1 && pipe.flags & O_DIRECT != 0);
        self.packet_mode.extend(packets.map(|pipe| pipe.pipe_id));
        for (at, (entry, _)) in cx.snapshot.pipe_data.iter().enumerate() {
            self.stored.entry(entry.pipe_id).or_default().push(at);
        }
        Ok(())
    }

    fn make(&self, pipe_id: u32, all: &Snapshot) -> Result<Ends> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).doing(|| format!("make pipe:[{pipe_id}]"))?;
        let stored = self.stored.get(&pipe_id).into_iter().flatten();
        let stored: Vec<_> = stored.map(|at| &all.pipe_data[*at]).collect();
        fill(&write, pipe_id, &stored, self.packet_mode.contains(&pipe_id))?;
        Ok(Ends { read, write, read_taken: false, write_taken: false })
    }
}

/// Both ends of a new pipe. Each open file description that pipe() made can become that of one
/// entry.
#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    read_taken: bool,
    write_taken: bool,
}

/// Makes the open file description of an entry, and the pipe for the first of its entries.
fn open(entry: &PipeEntry, pipes: &mut Pipes, cx: &RestoreCx<'_>) -> Result<OwnedFd> {
    let what = || format!("open pipe:[{}] again", entry.pipe_id);
    let flags = entry.flags.cast_signed();
    if let Some(inherited) = cx.inherited(&format!("pipe:[{}]", entry.pipe_id))? {
        return reopen(inherited, flags).doing(what);
    }
    if !pipes.made.contains_key(&entry.pipe_id) {
        let ends = pipes.make(entry.pipe_id, cx.snapshot)?;
        pipes.made.insert(entry.pipe_id, ends);
    }
    let Some(ends) = pipes.made.get_mut(&entry.pipe_id) else {
        return Err(Error::new(Kind::Internal, what()));
    };
    // The open file descriptions that pipe() makes do not have O_LARGEFILE; others have it.
    let original = entry.flags & O_LARGEFILE == 0;
    let (end, taken) = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => (&ends.write, &mut ends.write_taken),
        _ => (&ends.read, &mut ends.read_taken),
    };
    let made = if original && ends_of(entry.flags) != 3 && !std::mem::replace(taken, true) {
        end.try_clone().doing(what)?
    } else {
        reopen(end, flags & !libc::O_DIRECT).doing(what)?
    };
    set_status_flags(&made, entry.flags).doing(what)?;
    Ok(made)
}

/// Gives a pipe its capacity, then its contents.
pub(super) fn fill(
    write: &OwnedFd,
    pipe_id: u32,
    mine: &[&(PipeDataEntry, Payload)],
    packets: bool,
) -> Result<()> {
    let what = || format!("refill pipe:[{pipe_id}]");
    if let Some(size) = mine.first().and_then(|(entry, _)| entry.size) {
        set_size(write, size).map_err(|error| error.context(what()))?;
    }
    let before = fcntl::flags(write).doing(what)?;
    let mode = if packets || mine.len() > 1 { libc::O_DIRECT } else { 0 };
    fcntl::set_flags(write, before | libc::O_NONBLOCK | mode).doing(what)?;
    for (_, bytes) in mine {
        let mut done = 0;
        bytes.pieces(|piece| {
            done += match nix::unistd::write(write, piece) {
                // It is full.
                Err(Errno::EAGAIN) => 0,
                written => written.doing(what)? as u64,
            };
            Ok(())
        })?;
        if done != bytes.len() {
            let cause = format!("{}: it takes {done} of {} bytes", what(), bytes.len());
            return Err(Error::new(Kind::BadImages, cause));
        }
    }
    fcntl::set_flags(write, before).doing(what)
}

fn set_size(pipe: &OwnedFd, size: u32) -> Result<()> {
    if pipe::size(pipe) == Ok(size.cast_signed()) {
        return Ok(());
    }
    match pipe::set_size(pipe, size.cast_signed()) {
        Err(Errno::EPERM) => Err(Error::sys(format!("set its capacity to {size}"), Errno::EPERM)
            .remedy("raise /proc/sys/fs/pipe-max-size")),
        other => other.doing(|| format!("set its capacity to {size}")),
    }
}

/// What is in a pipe, for people.
pub(super) fn describe_contents(pipe_id: u32, stored: &[(PipeDataEntry, Payload)]) -> String {
    match stored.iter().find(|(entry, _)| entry.pipe_id == pipe_id) {
        Some((entry, _)) if entry.bytes > 0 => format!(", holds {} bytes", entry.bytes),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use std::os::fd::OwnedFd;

    fn read(end: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0u8; 1 << 17];
        let len = nix::unistd::read(end, &mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn contents_size_and_identity_come_back() {
        let (out, into) = pipe2(OFlag::O_NONBLOCK).unwrap();
        pipe::set_size(&into, 1 << 17).unwrap();
        let data: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
        assert_eq!(nix::unistd::write(&into, &data).unwrap(), data.len());
        let both = reopen(&out, libc::O_RDWR).unwrap();
        let copy_of_out = out.try_clone().unwrap();
        let fds = vec![(4, out), (5, into), (6, both), (7, copy_of_out)];
        let (snapshot, restored) = round_trip(fds);
        assert_eq!(snapshot.pipe_data.len(), 1);
        assert_eq!(entry_of(&snapshot, 4).id, entry_of(&snapshot, 7).id);
        assert_ne!(entry_of(&snapshot, 4).id, entry_of(&snapshot, 6).id);
        assert_eq!(link(&restored, 4), link(&restored, 6));
        let out = copy_of(&restored, 4);
        assert_eq!(pipe::size(&out), Ok(1 << 17));
        assert_eq!(fcntl::flags(&out).unwrap() & libc::O_NONBLOCK, libc::O_NONBLOCK);
        assert_eq!(read(&out), data);
        nix::unistd::write(copy_of(&restored, 5), b"more").unwrap();
        assert_eq!(read(&copy_of(&restored, 7)), b"more");
        let end = fcntl::flags(copy_of(&restored, 6)).unwrap() & libc::O_ACCMODE;
        assert_eq!(end, libc::O_RDWR);
    }

    #[test]
    fn a_pipe_that_holds_more_than_others_may_comes_back() {
        let (out, into) = pipe2(OFlag::O_NONBLOCK).unwrap();
        if pipe::set_size(&into, 1 << 23) == Err(Errno::EPERM) {
            return;
        }
        let data: Vec<u8> = (0..(5 << 20) + 7u32).map(|number| (number >> 5) as u8).collect();
        assert_eq!(nix::unistd::write(&into, &data).unwrap(), data.len());
        let (snapshot, restored) = round_trip(vec![(4, out), (5, into)]);
        assert_eq!(snapshot.pipe_data.len(), 1);
        let mut again = vec![0; data.len() + 1];
        assert_eq!(nix::unistd::read(copy_of(&restored, 4), &mut again), Ok(data.len()));
        assert!(again[..data.len()] == data);
    }

    #[test]
    fn packets_keep_their_boundaries() {
        let (out, into) = pipe2(OFlag::O_DIRECT).unwrap();
        for packet in [&b"one"[..], b"three", &[7; 904]] {
            nix::unistd::write(&into, packet).unwrap();
        }
        let (_, restored) = round_trip(vec![(3, out), (4, into)]);
        let out = copy_of(&restored, 3);
        assert_eq!(read(&out), b"one");
        assert_eq!(read(&out), b"three");
        assert_eq!(read(&out), [7; 904]);
        nix::unistd::write(copy_of(&restored, 4), b"a").unwrap();
        nix::unistd::write(copy_of(&restored, 4), b"b").unwrap();
        assert_eq!(read(&out), b"a", "the mode is kept");
    }

    #[test]
    fn an_end_without_the_other_is_noted_and_comes_back() {
        let (out, into) = pipe2(OFlag::empty()).unwrap();
        let holder = hold(&[(1, &into)]);
        let (snapshot, collected) = capture_all(&holder, lenient()).unwrap();
        assert!(collected.notes[0].contains("has its other end outside the tree"));
        drop((out, holder));
        let restored = restore(&snapshot).unwrap();
        assert!(pipe::hung_up(copy_of(&restored, 1)).unwrap());
    }
}
