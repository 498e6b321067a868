//! Named pipes: a path, and what is in the pipe behind it.
//!
//! Opening one end waits for the other: the restore holds both ends open meanwhile, which also
//! keeps the contents.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::OwnedFd;

use nix::sys::stat::SFlag;

use super::opened::{Captured, Opened, PIPE_FS};
use super::{Collector, OpenFiles, pipe, regular};
use crate::error::{Context, Error, Result};
use crate::images::proto::{FdTypes, FifoEntry, FileEntry, RegFileEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::tty;

pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    file.is(SFlag::S_IFIFO) && file.fs_type != PIPE_FS
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    let regf_id = collector.new_id();
    let reg = regular::entry(file, regf_id, collector)?;
    let pipe_id = pipe::number(file);
    if file.is_readable() && collector.stored_pipes.insert((FdTypes::Fifo as i32, pipe_id)) {
        let data = pipe::contents(file)?;
        collector.out.fifo_data.extend(data);
    }
    collector.put(FileEntry {
        r#type: FdTypes::Reg as i32,
        id: regf_id,
        reg: Some(reg),
        ..Default::default()
    });
    let fifo = FifoEntry { id, pipe_id, regf_id: Some(regf_id) };
    collector.put(FileEntry {
        r#type: FdTypes::Fifo as i32,
        id,
        fifo: Some(fifo),
        ..Default::default()
    });
    Ok(FdTypes::Fifo)
}

/// The path entry that belongs to a named pipe.
pub(super) fn path<'s>(entry: &FifoEntry, snapshot: &'s Snapshot) -> Result<&'s RegFileEntry> {
    let id = entry.regf_id.unwrap_or(entry.id);
    snapshot.files.get(&id).and_then(|file| file.reg.as_ref()).ok_or_else(|| {
        Error::image("files.img", format!("named pipe {} has no path: {id} is not there", entry.id))
    })
}

/// The named pipes that are held open at both ends, by their number in the image.
pub(super) type Fifos = BTreeMap<u32, OwnedFd>;

pub(super) fn open(entry: &FifoEntry, files: &OpenFiles<'_>, fifos: &mut Fifos) -> Result<OwnedFd> {
    let reg = path(entry, files.snapshot)?;
    if let Entry::Vacant(place) = fifos.entry(entry.pipe_id) {
        place.insert(open_both_ends(entry, reg, files)?);
    }
    regular::open_with(reg, files, reg.flags)
}

/// Opens both ends, with the contents in between.
fn open_both_ends(entry: &FifoEntry, reg: &RegFileEntry, files: &OpenFiles<'_>) -> Result<OwnedFd> {
    let both = regular::open_with(reg, files, libc::O_RDWR.cast_unsigned())?;
    // Somebody outside the tree who has it open has kept its contents.
    if tty::readable(&both).doing(|| format!("ask what is in {}", reg.name))? == 0 {
        let stored = files.snapshot.fifo_data.iter();
        let mine: Vec<_> = stored.filter(|(data, _)| data.pipe_id == entry.pipe_id).collect();
        pipe::fill(&both, entry.pipe_id, &mine, false)
            .map_err(|error| error.context(reg.name.clone()))?;
    }
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    use std::time::Duration;

    use nix::sys::stat::Mode;

    #[test]
    fn contents_and_ends_come_back() {
        let scratch = Scratch::new();
        let path = scratch.path("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let both = super::super::open_for(&path, libc::O_RDWR).unwrap();
        let out = super::super::open_for(&path, libc::O_RDONLY | libc::O_NONBLOCK).unwrap();
        let into = super::super::open_for(&path, libc::O_WRONLY).unwrap();
        nix::unistd::write(&into, b"waiting").unwrap();
        drop(both);
        let (snapshot, restored) = round_trip(vec![(3, out), (4, into)]);
        assert_eq!(snapshot.fifo_data.len(), 1);
        assert_eq!(link(&restored, 4), path.display().to_string());
        let mut bytes = [0u8; 16];
        let out = copy_of(&restored, 3);
        assert_eq!(nix::unistd::read(&out, &mut bytes), Ok(7));
        drop(restored);
        // Processes that other tests make hold copies of everything for a moment.
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
