//! Files that have no state but their path and position: regular files, directories, symbolic links
//! opened with O_PATH, and the memory devices (`/dev/null`, `/dev/zero`, `/dev/urandom`, ...). All
//! the work is done by [`paths`].

use std::os::fd::OwnedFd;

use nix::sys::stat::SFlag;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::kind::{FileId, FileKind, held_as};
use super::opened::{Captured, Opened};
use super::paths;
use crate::error::Result;
use crate::images::proto::{FdTypes, FownEntry, RegFileEntry};
use crate::images::snapshot::Snapshot;

const MEM_MAJOR: u32 = 1;

pub(super) struct Regular;

impl FileKind for Regular {
    const TYPE: FdTypes = FdTypes::Reg;
    const NAME: &'static str = "file";
    type Entry = RegFileEntry;
    type Met = ();
    type Made = ();
    held_as!(reg);

    /// Files with a path that are no devices but memory devices; with O_PATH, anything with a path.
    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        let rooted = file.link.is_absolute();
        if file.is_path_only() {
            return rooted;
        }
        if file.is(SFlag::S_IFCHR) {
            return rooted && libc::major(file.stat.st_rdev) == MEM_MAJOR;
        }
        rooted && (file.is(SFlag::S_IFREG) || file.is(SFlag::S_IFDIR) || file.is(SFlag::S_IFLNK))
    }

    fn capture(
        file: &Opened,
        id: FileId,
        _: &mut (),
        cx: &mut DumpCx<'_>,
    ) -> Captured<RegFileEntry> {
        paths::entry(file, id, cx)
    }

    fn validate(entry: &RegFileEntry, _: &Snapshot) -> Result<()> {
        paths::validate(entry)
    }

    fn open(entry: &RegFileEntry, _: &mut (), cx: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        paths::open(entry, cx).map(Some)
    }

    fn open_to_map(
        entry: &RegFileEntry,
        _: &(),
        cx: &RestoreCx<'_>,
        flags: u32,
    ) -> Option<Result<OwnedFd>> {
        Some(paths::open_with(entry, cx, flags))
    }

    fn owner<'a>(entry: &'a RegFileEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &RegFileEntry, all: &Snapshot) -> Description {
        paths::describe(entry, all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fdinfo::Fdinfo;
    use super::super::testing::*;
    use super::*;

    use crate::objects::place::Place;
    use crate::tracee::blank::Blank;
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};
    use std::path::Path;

    fn open_raw(path: &Path, flags: i32) -> OwnedFd {
        Place::in_tree(path).open(flags).unwrap()
    }

    fn fdinfo(holder: &Blank, number: i32) -> Fdinfo {
        Fdinfo::read(holder.pid(), number).unwrap()
    }

    #[test]
    fn files_come_back_with_flags_and_position() {
        let scratch = Scratch::new();
        let path = scratch.path("log");
        let mut log = File::options().create_new(true).append(true).open(&path).unwrap();
        log.write_all(b"hello").unwrap();
        let mut both = File::options().read(true).write(true).open(&path).unwrap();
        both.seek(SeekFrom::Start(3)).unwrap();
        let path_only = open_raw(&path, libc::O_PATH);
        let directory = open_raw(&scratch.0, libc::O_DIRECTORY);
        let noatime = open_raw(&path, libc::O_NOATIME | libc::O_NONBLOCK);
        let null = open_raw(Path::new("/dev/null"), libc::O_WRONLY);
        let (log, both): (OwnedFd, OwnedFd) = (log.into(), both.into());
        let shared = both.try_clone().unwrap();
        let fds = vec![
            (0, null),
            (3, log),
            (7, both),
            (8, shared),
            (9, path_only),
            (11, directory),
            (700, noatime),
        ];
        let before: Vec<_> = {
            let holder =
                hold(&fds.iter().map(|(number, file)| (*number, file)).collect::<Vec<_>>());
            fds.iter()
                .map(|(number, _)| (fdinfo(&holder, *number), link(&holder, *number)))
                .collect()
        };
        let numbers: Vec<i32> = fds.iter().map(|(number, _)| *number).collect();
        let (snapshot, restored) = round_trip(fds);
        for (number, (info, path)) in numbers.iter().zip(before) {
            let now = fdinfo(&restored, *number);
            assert_eq!((now.pos, now.flags), (info.pos, info.flags), "fd {number}");
            assert_eq!(link(&restored, *number), path);
        }
        assert_eq!(entry_of(&snapshot, 7).id, entry_of(&snapshot, 8).id);
        let reg = entry_of(&snapshot, 3).reg.as_ref().unwrap();
        assert_eq!(reg.size, None, "a log may grow");
        assert_eq!(entry_of(&snapshot, 7).reg.as_ref().unwrap().size, Some(5));
        assert_eq!(entry_of(&snapshot, 0).reg.as_ref().unwrap().size, None);
    }
}
