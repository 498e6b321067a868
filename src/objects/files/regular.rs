//! Files that are known by their path: regular files, directories, symbolic links opened with
//! O_PATH, and the memory devices (`/dev/null`, `/dev/zero`, `/dev/urandom`, ...).
//!
//! The image holds path, flags, position, and size and mode for a check at restore. A path that
//! does not lead to the file any more is remapped: see [`ghost`](super::ghost) for files without a
//! name and [`link`](super::link) for files that only other names lead to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{SFlag, stat};

use super::opened::{Captured, DEVPTS_FS, Opened, PROC_FS, exists, without_deleted};
use super::{Collector, OpenFiles, build_id, ghost, link, open_for};
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{FdTypes, FileEntry, RegFileEntry};

/// Position of a file that has none.
const NO_POSITION: u64 = u64::MAX;
const MEM_MAJOR: u32 = 1;
const KMSG_MINOR: u32 = 11;
const O_TMPFILE_BIT: i32 = 0o20_000_000;

/// Everything with a path, except devices other than memory; with O_PATH, whatever is behind it.
pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    let rooted = file.link.is_absolute();
    if file.flags().cast_signed() & libc::O_PATH != 0 {
        return rooted;
    }
    if file.is(SFlag::S_IFCHR) {
        return rooted && libc::major(file.stat.st_rdev) == MEM_MAJOR;
    }
    rooted && (file.is(SFlag::S_IFREG) || file.is(SFlag::S_IFDIR) || file.is(SFlag::S_IFLNK))
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    let reg = entry(file, id, collector)?;
    collector.put(FileEntry {
        r#type: FdTypes::Reg as i32,
        id,
        reg: Some(reg),
        ..Default::default()
    });
    Ok(FdTypes::Reg)
}

/// The entry of a path: also for named pipes and terminals, which refer to one.
pub(super) fn entry(file: &Opened, id: u32, collector: &mut Collector) -> Captured<RegFileEntry> {
    let external = format!("file[{:x}:{:x}]", file.info.mnt_id, file.stat.st_ino);
    let is_external = collector.options.external.contains(&external);
    let name = if is_external { external } else { name(file, id, collector)? };
    let checked = file.is(SFlag::S_IFREG) && !is_log(file.flags());
    let build_id = if checked && collector.options.build_ids {
        build_id::read(&file.file).unwrap_or_default()
    } else {
        Vec::new()
    };
    Ok(RegFileEntry {
        id,
        flags: file.flags(),
        pos: position(file),
        fown: file.owner,
        name,
        size: checked.then(|| file.stat.st_size.cast_unsigned()),
        ext: is_external.then_some(true),
        mode: Some(file.stat.st_mode),
        build_id,
        ..RegFileEntry::default()
    })
}

/// A file that is only appended to: its size may grow between dump and restore.
fn is_log(flags: u32) -> bool {
    let flags = flags.cast_signed();
    flags & libc::O_ACCMODE == libc::O_WRONLY && flags & libc::O_APPEND != 0
}

/// The kernel's log cannot be positioned when it is open for writing.
fn position(file: &Opened) -> u64 {
    let kmsg = file.is(SFlag::S_IFCHR)
        && libc::minor(file.stat.st_rdev) == KMSG_MINOR
        && file.flags().cast_signed() & libc::O_ACCMODE == libc::O_WRONLY;
    if kmsg && file.info.pos == 0 { NO_POSITION } else { file.info.pos }
}

/// The name to open the file by, remapped if it does not lead there.
fn name(file: &Opened, id: u32, collector: &mut Collector) -> Captured<String> {
    let path = file.path()?;
    match file.fs_type {
        PROC_FS => return proc_name(file, path),
        DEVPTS_FS => return Ok(without_deleted(path).to_string()),
        _ => {}
    }
    if file.stat.st_nlink == 0 {
        ghost::capture(file, id, collector)?;
        return Ok(without_deleted(path).to_string());
    }
    let found = if file.is(SFlag::S_IFLNK) { nix::sys::stat::lstat(path) } else { stat(path) };
    match found {
        Ok(found) if (found.st_dev, found.st_ino) == (file.stat.st_dev, file.stat.st_ino) => {
            Ok(path.to_string())
        }
        Ok(_) => Err(file.refuse("another file has its name now", "move the other file away")),
        Err(nix::errno::Errno::ENOENT) => link::capture(file, id, collector),
        Err(errno) => Err(Error::sys(format!("stat {path}"), errno).into()),
    }
}

/// A file of procfs: those of a dead process cannot be opened again.
fn proc_name(file: &Opened, path: &str) -> Captured<String> {
    let mut parts = path.splitn(4, '/').skip(2);
    let pid = parts.next().map(without_deleted).filter(|part| part.parse::<u32>().is_ok());
    match pid {
        Some(pid)
            if path.ends_with(" (deleted)") || !exists(Path::new(&format!("/proc/{pid}"))) =>
        {
            Err(file.refuse("it belongs to a process that is dead", "close it"))
        }
        _ => Ok(path.to_string()),
    }
}

/// What an entry has to satisfy before anything is restored.
pub(super) fn validate(entry: &RegFileEntry) -> Result<()> {
    if entry.ext != Some(true) && !entry.name.starts_with('/') {
        let cause = format!("file {} has the name {:?}, which is no path", entry.id, entry.name);
        return Err(Error::image("files.img", cause));
    }
    Ok(())
}

/// Opens the file of an entry as it was, position included.
pub(super) fn open(entry: &RegFileEntry, files: &OpenFiles<'_>) -> Result<OwnedFd> {
    let file = open_with(entry, files, entry.flags)?;
    let path_only = entry.flags.cast_signed() & libc::O_PATH != 0;
    if !path_only && entry.pos != NO_POSITION {
        let pos = entry.pos.cast_signed();
        nix::unistd::lseek(&file, pos, nix::unistd::Whence::SeekSet)
            .doing(|| format!("seek {} to {pos}", entry.name))?;
    }
    Ok(file)
}

/// Opens the file of an entry with other flags, without a position.
pub(super) fn open_with(
    entry: &RegFileEntry,
    files: &OpenFiles<'_>,
    flags: u32,
) -> Result<OwnedFd> {
    let flags = open_flags(flags);
    if entry.ext == Some(true) {
        return files.inherited(&entry.name)?.ok_or_else(|| {
            let cause = format!("{} was left to be brought from outside", entry.name);
            Error::new(Kind::BadOptions, cause).remedy("give a descriptor for it (--inherit-fd)")
        });
    }
    if let Some(file) = files.inherited(entry.name.trim_start_matches('/'))? {
        return Ok(file);
    }
    let file = match files.remapped(entry.id) {
        Some(inode) => reopen(inode, flags, &entry.name)?,
        None => open_for(Path::new(&entry.name), flags).map_err(|error| gone(entry, error))?,
    };
    check(entry, &file, files)?;
    Ok(file)
}

/// Opens the inode behind a descriptor once more.
pub(super) fn reopen(inode: BorrowedFd<'_>, flags: i32, name: &str) -> Result<OwnedFd> {
    let symlink_itself = libc::O_PATH | libc::O_NOFOLLOW;
    if flags & symlink_itself == symlink_itself {
        return inode.try_clone_to_owned().doing(|| format!("copy the descriptor of {name}"));
    }
    open_for(Path::new(&crate::kernel::descriptor::own_path(inode)), flags & !libc::O_NOFOLLOW)
        .map_err(|error| error.context(format!("open the unlinked {name}")))
}

/// The flags to open by: those that make or empty a file acted when it was first opened.
pub(super) fn open_flags(flags: u32) -> i32 {
    let mut flags = flags.cast_signed();
    if flags & O_TMPFILE_BIT != 0 {
        flags &= !libc::O_TMPFILE;
    }
    flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC)
}

fn gone(entry: &RegFileEntry, error: Error) -> Error {
    match error.errno() {
        Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {
            let cause = format!("{} is gone since the dump", entry.name);
            Error::new(Kind::BadImages, cause)
                .remedy("bring it back, or give another file in its place (--inherit-fd)")
        }
        _ => error,
    }
}

/// Compares what was opened with what was dumped.
fn check(entry: &RegFileEntry, file: &OwnedFd, files: &OpenFiles<'_>) -> Result<()> {
    let now = nix::sys::stat::fstat(file.as_fd()).doing(|| format!("fstat {}", entry.name))?;
    let changed = |what: String| {
        let cause = format!("{} has changed since the dump: {what}", entry.name);
        Err(Error::new(Kind::BadImages, cause))
    };
    if let Some(size) = entry.size
        && size != now.st_size.cast_unsigned()
    {
        return changed(format!("it had {size} bytes and has {}", now.st_size))
            .map_err(|error| error.remedy("put the file back as it was at the dump"));
    }
    if let Some(mode) = entry.mode {
        let mask = if files.options.skip_mode_check { !0o777 } else { !0 };
        if mode & mask != now.st_mode & mask {
            return changed(format!("its mode was {mode:o} and is {:o}", now.st_mode)).map_err(
                |error| {
                    error.remedy("put the mode back, or skip the check (--skip-file-rwx-check)")
                },
            );
        }
    }
    if files.options.build_ids && !entry.build_id.is_empty() {
        let found = build_id::read(file).unwrap_or_default();
        if !found.is_empty() && found != entry.build_id {
            return changed("it is another build".into())
                .map_err(|error| error.remedy("put back the file that was dumped"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use crate::tracee::blank::Blank;
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};

    fn open_raw(path: &Path, flags: i32) -> OwnedFd {
        open_for(path, flags).unwrap()
    }

    fn fdinfo(holder: &Blank, number: i32) -> super::super::fdinfo::Fdinfo {
        super::super::fdinfo::Fdinfo::read(holder.pid(), number).unwrap()
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

    #[test]
    fn a_changed_or_missing_file_is_named() {
        let scratch = Scratch::new();
        let path = scratch.path("data");
        std::fs::write(&path, b"12345").unwrap();
        let file: OwnedFd = File::open(&path).unwrap().into();
        let holder = hold(&[(0, &file)]);
        let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
        std::fs::write(&path, b"1234567").unwrap();
        let Err(error) = restore(&snapshot) else { panic!("it has changed") };
        assert_eq!(error.kind(), Kind::BadImages);
        let text = error.to_string();
        assert!(
            text.contains("data has changed since the dump: it had 5 bytes and has 7"),
            "{text}"
        );
        std::fs::remove_file(&path).unwrap();
        let Err(error) = restore(&snapshot) else { panic!("it is gone") };
        assert!(error.to_string().contains("data is gone since the dump"), "{error}");
    }

    #[test]
    fn owners_come_back_with_their_uids() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("file"), b"").unwrap();
        let file: OwnedFd = File::open(scratch.path("file")).unwrap().into();
        let holder = hold(&[(3, &file)]);
        let owner = crate::kernel::owner::Owner { kind: 1, pid: holder.pid() };
        crate::kernel::owner::set_signal(&file, libc::SIGUSR2).unwrap();
        crate::kernel::threads::in_own_thread(|| {
            crate::kernel::owner::set_thread_uids(1234, 0)?;
            crate::kernel::owner::set(&file, owner)
        })
        .unwrap();
        nix::sys::prctl::set_dumpable(true).unwrap();
        let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
        let fown = entry_of(&snapshot, 3).reg.as_ref().unwrap().fown;
        assert_eq!((fown.uid, fown.euid, fown.signum), (1234, 0, libc::SIGUSR2 as u32));
        let restored = restore(&snapshot).unwrap();
        let again = copy_of(&restored, 3);
        let owner = crate::kernel::owner::Owner { kind: 1, pid: restored.pid() };
        assert_eq!(crate::kernel::owner::get(&again), Ok(owner));
        assert_eq!(crate::kernel::owner::uids(&again), Ok((1234, 0)));
        assert_eq!(crate::kernel::owner::signal(&again), Ok(libc::SIGUSR2));
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(true));
    }
}
