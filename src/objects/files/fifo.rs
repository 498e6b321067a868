//! Named pipes: a path, and what is in the pipe behind it.
//!
//! An open of one end waits for somebody to open the other. The restore holds both ends open until
//! all are opened, which also keeps the contents.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;

use nix::sys::stat::SFlag;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::kind::{FileId, FileKind, held_as};
use super::opened::{Captured, Opened, PIPE_FS};
use super::{paths, pipe};
use crate::error::{Context, Error, Result};
use crate::images::proto::{FdTypes, FifoEntry, FownEntry, RegFileEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::tty;

pub(super) struct Fifo;

impl FileKind for Fifo {
    const TYPE: FdTypes = FdTypes::Fifo;
    const NAME: &'static str = "fifo";
    type Entry = FifoEntry;
    /// Named pipes whose contents are stored.
    type Met = HashSet<u32>;
    /// Named pipes that are held open at both ends, by their number in the image.
    type Made = BTreeMap<u32, OwnedFd>;
    held_as!(fifo);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        file.is(SFlag::S_IFIFO) && file.fs_type != PIPE_FS
    }

    fn capture(
        file: &Opened,
        id: FileId,
        met: &mut HashSet<u32>,
        cx: &mut DumpCx<'_>,
    ) -> Captured<FifoEntry> {
        let regf_id = paths::put(file, cx)?;
        let pipe_id = pipe::number(file);
        if file.is_readable() && met.insert(pipe_id) {
            cx.out.fifo_data.extend(pipe::contents(file, &mut cx.gathered.spool)?);
        }
        Ok(FifoEntry { id, pipe_id, regf_id: Some(regf_id) })
    }

    fn validate(entry: &FifoEntry, all: &Snapshot) -> Result<()> {
        path(entry, all).map(drop)
    }

    fn validate_all(all: &Snapshot) -> Result<()> {
        pipe::validate("fifo-data.img", &all.fifo_data)
    }

    fn open(
        entry: &FifoEntry,
        made: &mut BTreeMap<u32, OwnedFd>,
        cx: &RestoreCx<'_>,
    ) -> Result<Option<OwnedFd>> {
        let reg = path(entry, cx.snapshot)?;
        if let Entry::Vacant(place) = made.entry(entry.pipe_id) {
            place.insert(open_both_ends(entry, reg, cx)?);
        }
        paths::open_with(reg, cx, reg.flags).map(Some)
    }

    fn opened(made: &mut BTreeMap<u32, OwnedFd>) {
        made.clear();
    }

    fn owner<'a>(entry: &'a FifoEntry, all: &'a Snapshot) -> Option<&'a FownEntry> {
        path(entry, all).ok().map(|reg| &reg.fown)
    }

    fn describe(entry: &FifoEntry, all: &Snapshot) -> Description {
        let name = path(entry, all).map(|reg| reg.name.clone()).unwrap_or_default();
        let held = pipe::describe_contents(entry.pipe_id, &all.fifo_data);
        Description::named(name).and_saying(format!("fifo {}{held}", entry.pipe_id))
    }
}

/// The path entry that belongs to a named pipe.
fn path<'s>(entry: &FifoEntry, all: &'s Snapshot) -> Result<&'s RegFileEntry> {
    let id = entry.regf_id.unwrap_or(entry.id);
    all.path_entry(id).ok_or_else(|| {
        Error::image("files.img", format!("named pipe {} has no path: {id} is not there", entry.id))
    })
}

/// Opens both ends, with the contents in between.
fn open_both_ends(entry: &FifoEntry, reg: &RegFileEntry, cx: &RestoreCx<'_>) -> Result<OwnedFd> {
    let both = paths::open_with(reg, cx, libc::O_RDWR.cast_unsigned())?;
    // If there is something in it, a process outside the tree has it open and has kept it.
    if tty::readable(&both).doing(|| format!("ask what is in {}", reg.name))? == 0 {
        let stored = cx.snapshot.fifo_data.iter();
        let mine: Vec<_> = stored.filter(|(data, _)| data.pipe_id == entry.pipe_id).collect();
        pipe::fill(&both, entry.pipe_id, &mine, false)
            .map_err(|error| error.context(reg.name.clone()))?;
    }
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::objects::place::Place;

    use std::time::Duration;

    use nix::sys::stat::Mode;

    #[test]
    fn contents_and_ends_come_back() {
        let scratch = Scratch::new();
        let path = scratch.path("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let both = Place::in_tree(&path).open(libc::O_RDWR).unwrap();
        let out = Place::in_tree(&path).open(libc::O_RDONLY | libc::O_NONBLOCK).unwrap();
        let into = Place::in_tree(&path).open(libc::O_WRONLY).unwrap();
        nix::unistd::write(&into, b"waiting").unwrap();
        drop(both);
        let (snapshot, restored) = round_trip(vec![(3, out), (4, into)]);
        assert_eq!(snapshot.fifo_data.len(), 1);
        assert_eq!(link(&restored, 4), path.display().to_string());
        let mut bytes = [0u8; 16];
        let out = copy_of(&restored, 3);
        assert_eq!(nix::unistd::read(&out, &mut bytes), Ok(7));
        drop(restored);
        // Processes that other tests fork have copies of the descriptors for a moment.
        let ended = || nix::unistd::read(&out, &mut [0u8; 16]) == Ok(0);
        let ends = (0..200).any(|_| {
            ended() || {
                std::thread::sleep(Duration::from_millis(5));
                false
            }
        });
        assert!(ends, "no end of ours stays");
    }
}
