//! Paths of open files. An entry has the path, flags and position, and the file's size, mode and
//! build id, which the restore compares.
//!
//! Every kind whose files are found by a path uses this module. A path that does not lead to the
//! file any more is remapped: [`ghost`](super::ghost) is about files that have no name left, and
//! [`link`](super::link) about files that only other names lead to. The request may leave a file to
//! be brought from outside at restore.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::kind::FileId;
use super::opened::{Captured, DEVPTS_FS, NotCaptured, Opened, PROC_FS, silent, without_deleted};
use super::{build_id, ghost, link};
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{FdTypes, FileEntry, RegFileEntry, RemapType};
use crate::images::snapshot::Snapshot;
use crate::objects::place::{Place, reopen};

/// The position of a file that cannot be positioned.
const NO_POSITION: u64 = u64::MAX;
const KMSG_MINOR: u32 = 11;
const O_TMPFILE_BIT: i32 = 0o20_000_000;

/// Stores the path of an open file of another kind, whose entry refers to the path by this id.
pub(super) fn put(file: &Opened, cx: &mut DumpCx<'_>) -> Captured<FileId> {
    let id = cx.gathered.new_id();
    let reg = entry(file, id, cx)?;
    cx.put(entry_of(reg));
    Ok(id)
}

/// The entry of files.img for a path.
pub(super) fn entry_of(reg: RegFileEntry) -> FileEntry {
    FileEntry { r#type: FdTypes::Reg as i32, id: reg.id, reg: Some(reg), ..FileEntry::default() }
}

/// The entry of a path.
pub(super) fn entry(file: &Opened, id: FileId, cx: &mut DumpCx<'_>) -> Captured<RegFileEntry> {
    let external = format!("file[{:x}:{:x}]", file.info.mnt_id, file.stat.st_ino);
    let is_external = cx.is_external(&external);
    let name = if is_external { external } else { name(file, id, cx)? };
    let checked = file.is(SFlag::S_IFREG) && !is_log(file.flags());
    let build_id = if checked && cx.options.build_ids {
        build_id_of(file).unwrap_or_default()
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

fn build_id_of(file: &Opened) -> Option<Vec<u32>> {
    match &file.head {
        Some(head) => build_id::read_mapped(head),
        None => build_id::read(&file.copy_to_read().ok()??),
    }
}

/// Whether a file is only appended to, so that it may grow between dump and restore.
fn is_log(flags: u32) -> bool {
    let flags = flags.cast_signed();
    flags & libc::O_ACCMODE == libc::O_WRONLY && flags & libc::O_APPEND != 0
}

/// The position; the kernel's log has none when it is open for writing.
fn position(file: &Opened) -> u64 {
    let kmsg = file.is(SFlag::S_IFCHR)
        && libc::minor(file.stat.st_rdev) == KMSG_MINOR
        && file.flags().cast_signed() & libc::O_ACCMODE == libc::O_WRONLY;
    if kmsg && file.info.pos == 0 { NO_POSITION } else { file.info.pos }
}

/// The name to open the file by at restore. It is remapped if it does not lead to the file.
fn name(file: &Opened, id: FileId, cx: &mut DumpCx<'_>) -> Captured<String> {
    let path = file.path()?;
    match file.fs_type {
        PROC_FS => return proc_name(file, path),
        DEVPTS_FS => return Ok(without_deleted(path).to_string()),
        _ => {}
    }
    if file.stat.st_nlink == 0 {
        ghost::capture(file, id, cx)?;
        return Ok(without_deleted(path).to_string());
    }
    let (follow, mount) = (!file.is(SFlag::S_IFLNK), file.info.mnt_id);
    let Some(found) = cx.served.stat(Path::new(path), follow, mount)? else {
        return Err(NotCaptured::Refused(silent(file.place.clone(), &file.link)));
    };
    match found {
        Ok(found) if (found.st_dev, found.st_ino) == (file.stat.st_dev, file.stat.st_ino) => {
            Ok(path.to_string())
        }
        Ok(_) => Err(file.refuse("another file has its name now", "move the other file away")),
        Err(Errno::ENOENT) => link::capture(file, id, cx),
        Err(errno) => Err(Error::sys(format!("stat {path}"), errno).into()),
    }
}

/// The name of a file of procfs. Those of a dead process cannot be opened again.
fn proc_name(file: &Opened, path: &str) -> Captured<String> {
    let mut parts = path.splitn(4, '/').skip(2);
    let pid = parts.next().map(without_deleted).filter(|part| part.parse::<u32>().is_ok());
    match pid {
        Some(pid)
            if path.ends_with(" (deleted)")
                || !Place::in_tree(&format!("/proc/{pid}")).exists() =>
        {
            Err(file.refuse("it belongs to a process that is dead", "close it"))
        }
        _ => Ok(path.to_string()),
    }
}

/// Checks an entry before anything is restored.
pub(super) fn validate(entry: &RegFileEntry) -> Result<()> {
    if entry.ext != Some(true) && !entry.name.starts_with('/') {
        let cause = format!("file {} has the name {:?}, which is no path", entry.id, entry.name);
        return Err(Error::image("files.img", cause));
    }
    Ok(())
}

/// The inodes of remapped files, by the ids of the paths that do not lead to them.
pub(super) type Remapped = BTreeMap<FileId, OwnedFd>;

/// Opens the file of an entry as it was, at its position.
pub(super) fn open(entry: &RegFileEntry, cx: &RestoreCx<'_>) -> Result<OwnedFd> {
    let file = open_with(entry, cx, entry.flags)?;
    let path_only = entry.flags.cast_signed() & libc::O_PATH != 0;
    if !path_only && entry.pos != NO_POSITION {
        let pos = entry.pos.cast_signed();
        nix::unistd::lseek(&file, pos, nix::unistd::Whence::SeekSet)
            .doing(|| format!("seek {} to {pos}", entry.name))?;
    }
    Ok(file)
}

/// Opens the file of an entry with these flags, at no position.
pub(super) fn open_with(entry: &RegFileEntry, cx: &RestoreCx<'_>, flags: u32) -> Result<OwnedFd> {
    let flags = open_flags(flags);
    if entry.ext == Some(true) {
        return cx.inherited(&entry.name)?.ok_or_else(|| {
            let cause = format!("{} was left to be brought from outside", entry.name);
            Error::new(Kind::BadOptions, cause).remedy("give a descriptor for it (--inherit-fd)")
        });
    }
    if let Some(file) = cx.inherited(entry.name.trim_start_matches('/'))? {
        return Ok(file);
    }
    let file = match cx.remapped.get(&entry.id) {
        Some(inode) => open_remapped(inode, flags, &entry.name)?,
        None => Place::in_tree(&entry.name).open(flags).map_err(|error| gone(entry, error))?,
    };
    check(entry, &file, cx)?;
    Ok(file)
}

/// Opens a remapped file by a descriptor of its inode.
fn open_remapped(inode: &OwnedFd, flags: i32, name: &str) -> Result<OwnedFd> {
    let symlink_itself = libc::O_PATH | libc::O_NOFOLLOW;
    if flags & symlink_itself == symlink_itself {
        return inode.try_clone().doing(|| format!("copy the descriptor of {name}"));
    }
    reopen(inode, flags & !libc::O_NOFOLLOW)
        .map_err(|error| error.context(format!("open the unlinked {name}")))
}

/// The flags to open a file with again: without those by which the first open made or emptied it.
fn open_flags(flags: u32) -> i32 {
    let mut flags = flags.cast_signed();
    if flags & O_TMPFILE_BIT != 0 {
        flags &= !libc::O_TMPFILE;
    }
    flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC)
}

fn gone(entry: &RegFileEntry, error: Error) -> Error {
    match error.errno() {
        Some(Errno::ENOENT | Errno::ENOTDIR) => {
            let cause = format!("{} is gone since the dump", entry.name);
            Error::new(Kind::BadImages, cause)
                .remedy("bring it back, or give another file in its place (--inherit-fd)")
        }
        _ => error,
    }
}

/// Compares the file that was opened with the one that was dumped.
fn check(entry: &RegFileEntry, file: &OwnedFd, cx: &RestoreCx<'_>) -> Result<()> {
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
        let mask = if cx.options.skip_mode_check { !0o777 } else { !0 };
        if mode & mask != now.st_mode & mask {
            return changed(format!("its mode was {mode:o} and is {:o}", now.st_mode)).map_err(
                |error| {
                    error.remedy("put the mode back, or skip the check (--skip-file-rwx-check)")
                },
            );
        }
    }
    if cx.options.build_ids && !entry.build_id.is_empty() {
        let found = build_id::read(file).unwrap_or_default();
        if !found.is_empty() && found != entry.build_id {
            return changed("it is another build".into())
                .map_err(|error| error.remedy("put back the file that was dumped"));
        }
    }
    Ok(())
}

/// A path, and what is special about the file that it leads to.
pub(super) fn describe(entry: &RegFileEntry, all: &Snapshot) -> Description {
    let mut parts = Vec::new();
    if entry.pos != 0 {
        parts.push(format!("at {}", entry.pos));
    }
    if let Some(remap) = all.remaps.iter().find(|remap| remap.orig_id == entry.id) {
        parts.push(match remap.remap_type() {
            RemapType::Ghost => "unlinked, its contents are in the dump".to_owned(),
            RemapType::Linked => "unlinked, linked back for the dump".to_owned(),
            RemapType::Procfs => "of a process that is gone".to_owned(),
        });
    }
    Description::named(&entry.name).opened_with(entry.flags).and_saying(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use std::fs::File;

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
}
