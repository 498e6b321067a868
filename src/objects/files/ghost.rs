//! Unlinked files: no name leads to them any more, so that their contents go into the image.
//!
//! A ghost is made anew under its old name and unlinked at once: `/proc/PID/fd/N` then reads
//! "name (deleted)" as before. It is opened through a descriptor of ours from then on, which gives
//! every holder a description of its own. Files, directories, named pipes, devices and symbolic
//! links can be ghosts.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, lseek};

use super::context::DumpCx;
use super::kind::FileId;
use super::link;
use super::opened::{Captured, Opened};
use super::paths::Remapped;
use crate::error::{Context, Error, Result};
use crate::images::payload::{Payload, Source};
use crate::images::proto::{GhostFileEntry, RemapFilePathEntry, RemapType, Timeval};
use crate::images::snapshot::{GhostFile, Snapshot};
use crate::kernel::descriptor::own_path;
use crate::objects::place::Place;

/// Smaller files are stored in one piece, holes included.
const CHUNKED_FROM: i64 = 3 * 4096;
const BLOCK: u64 = 512;

/// Captures the unlinked file that file `id` leads to.
pub(super) fn capture(file: &Opened, id: FileId, cx: &mut DumpCx<'_>) -> Captured<()> {
    let key = (file.stat.st_dev, file.stat.st_ino);
    let ghost_id = match cx.gathered.ghosts.get(&key) {
        Some(known) => *known,
        None => {
            let held = file.stat.st_blocks.cast_unsigned() * BLOCK;
            if held > cx.options.ghost_limit {
                let reason = format!(
                    "it is unlinked and holds {held} bytes, more than the {} allowed",
                    cx.options.ghost_limit
                );
                return Err(file.refuse(reason, "allow more (--ghost-limit)"));
            }
            let new = u32::try_from(cx.gathered.ghosts.len() + 1).unwrap_or(u32::MAX);
            cx.gathered.ghosts.insert(key, new);
            let ghost = contents(file)?;
            if !ghost.chunks.is_empty() {
                cx.gathered.will_hold_more()?;
            }
            cx.out.ghosts.insert(new, ghost);
            new
        }
    };
    cx.out.remaps.push(RemapFilePathEntry {
        orig_id: id,
        remap_id: ghost_id,
        remap_type: Some(RemapType::Ghost as i32),
    });
    Ok(())
}

fn contents(file: &Opened) -> Result<GhostFile> {
    let stat = &file.stat;
    let regular = file.is(SFlag::S_IFREG);
    let chunked = regular && stat.st_size >= CHUNKED_FROM;
    let device = file.is(SFlag::S_IFCHR) || file.is(SFlag::S_IFBLK);
    let time = |seconds: i64, nanoseconds: i64| Timeval {
        tv_sec: seconds.cast_unsigned(),
        tv_usec: (nanoseconds / 1000).cast_unsigned(),
    };
    let entry = GhostFileEntry {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode,
        dev: Some(kernel_dev(stat.st_dev)),
        ino: Some(stat.st_ino),
        rdev: device.then_some(stat.st_rdev as u32),
        atim: Some(time(stat.st_atime, stat.st_atime_nsec)),
        mtim: Some(time(stat.st_mtime, stat.st_mtime_nsec)),
        chunks: chunked.then_some(true),
        size: chunked.then_some(stat.st_size.cast_unsigned()),
        symlnk_target: target(file)?,
    };
    let chunks = if regular && stat.st_size > 0 { chunks(file, chunked)? } else { Vec::new() };
    Ok(GhostFile { entry, chunks })
}

/// A device number as the image has it here: in the kernel's own form.
fn kernel_dev(dev: u64) -> u32 {
    libc::major(dev) << 20 | libc::minor(dev)
}

fn target(file: &Opened) -> Result<Option<String>> {
    if !file.is(SFlag::S_IFLNK) {
        return Ok(None);
    }
    let target = nix::fcntl::readlinkat(&file.file, "")
        .doing(|| format!("{}: read the symbolic link", file.place))?;
    Ok(Some(target.to_string_lossy().into_owned()))
}

/// What the file holds, to be read through a description of our own that does not touch its times.
fn chunks(file: &Opened, skip_holes: bool) -> Result<Vec<(u64, Payload)>> {
    let source = File::options()
        .read(true)
        .custom_flags(libc::O_NOATIME)
        .open(own_path(file.file.as_fd()))
        .doing(|| format!("{}: open {} again", file.place, file.object()))?;
    let size = file.stat.st_size.cast_unsigned();
    let runs = if skip_holes { data_runs(&source, size)? } else { vec![(0, size)] };
    let source = Source::open(source, file.object());
    let chunk = |(offset, len)| (offset, Payload::stretch(&source, offset, len));
    Ok(runs.into_iter().map(chunk).collect())
}

/// Offset and length of everything that is not a hole.
fn data_runs(source: &File, size: u64) -> Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut at = 0i64;
    while at.cast_unsigned() < size {
        let data = match lseek(source, at, Whence::SeekData) {
            Ok(data) => data,
            Err(nix::errno::Errno::ENXIO) => break,
            Err(errno) => return Err(Error::sys("seek data in an unlinked file", errno)),
        };
        let hole = lseek(source, data, Whence::SeekHole).doing(|| "seek a hole")?;
        runs.push((data.cast_unsigned(), (hole - data).cast_unsigned()));
        at = hole;
    }
    Ok(runs)
}

/// What ghost files have to satisfy before anything is restored.
pub(super) fn validate(snapshot: &Snapshot) -> Result<()> {
    for remap in &snapshot.remaps {
        let file = snapshot.path_entry(remap.orig_id);
        let wrong = |cause: String| Err(Error::image("remap-fpath.img", cause));
        if file.is_none() {
            return wrong(format!("it remaps file {}, which is not there", remap.orig_id));
        }
        match remap.remap_type.map(RemapType::try_from) {
            Some(Ok(RemapType::Ghost)) if !snapshot.ghosts.contains_key(&remap.remap_id) => {
                return wrong(format!("ghost file {} is not there", remap.remap_id));
            }
            Some(Ok(RemapType::Linked)) if !snapshot.files.contains_key(&remap.remap_id) => {
                return wrong(format!("link {} is not there", remap.remap_id));
            }
            Some(Ok(RemapType::Procfs)) => {
                return wrong("files of dead processes are not restored".to_string());
            }
            Some(Ok(_)) => {}
            _ => return wrong("it has an unknown kind of remap".to_string()),
        }
    }
    Ok(())
}

/// Makes every file that has lost its name; by the id of the file entry that leads to it.
pub(super) fn make_all(snapshot: &Snapshot) -> Result<Remapped> {
    let mut by_ghost: BTreeMap<u32, OwnedFd> = BTreeMap::new();
    let mut by_file = BTreeMap::new();
    for remap in &snapshot.remaps {
        let Some(name) = snapshot.path_entry(remap.orig_id) else { continue };
        let name = Path::new(&name.name);
        let linked = remap.remap_type == Some(RemapType::Linked as i32);
        let inode = if linked {
            link::open(snapshot, remap.remap_id, name)?
        } else {
            let ghost = &snapshot.ghosts[&remap.remap_id];
            let made = match by_ghost.entry(remap.remap_id) {
                std::collections::btree_map::Entry::Occupied(made) => made.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(make(ghost, remap.remap_id, name)?)
                }
            };
            made.try_clone().doing(|| format!("copy the descriptor of {}", name.display()))?
        };
        by_file.insert(remap.orig_id, inode);
    }
    Ok(by_file)
}

fn make(ghost: &GhostFile, id: u32, name: &Path) -> Result<OwnedFd> {
    let parents = Parents::make(name)?;
    let taken = Place::in_tree(name).exists();
    let path = if taken { beside(name, id) } else { name.to_path_buf() };
    let doing = || format!("make the unlinked file {}", path.display());
    create(ghost, &path).map_err(|error| error.context(doing()))?;
    let is_dir = SFlag::from_bits_truncate(ghost.entry.mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    let made = attributes(&ghost.entry, &path)
        .and_then(|()| Place::in_tree(&path).open(libc::O_PATH | libc::O_NOFOLLOW));
    let removed = if is_dir { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
    drop(parents);
    let made = made.map_err(|error| error.context(doing()))?;
    removed.doing(|| format!("unlink {}", path.display()))?;
    Ok(made)
}

/// A name for a ghost whose own name another file has got since.
pub(super) fn beside(name: &Path, id: u32) -> PathBuf {
    let mut text = name.as_os_str().to_os_string();
    text.push(format!(".cr.{id:x}.ghost"));
    text.into()
}

fn create(ghost: &GhostFile, path: &Path) -> Result<()> {
    let entry = &ghost.entry;
    let what = || format!("make {}", path.display());
    let kind = SFlag::from_bits_truncate(entry.mode) & SFlag::S_IFMT;
    match kind {
        SFlag::S_IFREG => fill(ghost, path),
        SFlag::S_IFDIR => std::fs::create_dir(path).doing(what),
        SFlag::S_IFLNK => {
            let target = entry.symlnk_target.as_deref().unwrap_or_default();
            std::os::unix::fs::symlink(target, path).doing(what)
        }
        SFlag::S_IFIFO | SFlag::S_IFCHR | SFlag::S_IFBLK => {
            let device = u64::from(entry.rdev.unwrap_or(0));
            nix::sys::stat::mknod(path, kind, Mode::S_IRUSR, device).doing(what)
        }
        _ => Err(Error::image("ghost-file", format!("mode {:o} is no kind of file", entry.mode))),
    }
}

fn fill(ghost: &GhostFile, path: &Path) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path).doing(doing)?;
    if ghost.entry.chunks == Some(true) {
        file.set_len(ghost.entry.size.unwrap_or(0)).doing(doing)?;
    }
    for (offset, payload) in &ghost.chunks {
        let mut at = *offset;
        payload.pieces(|piece| {
            file.write_all_at(piece, at).doing(doing)?;
            at = at.saturating_add(piece.len() as u64);
            Ok(())
        })?;
    }
    Ok(())
}

/// Owner first: giving a file away clears its set-uid bits.
fn attributes(entry: &GhostFileEntry, path: &Path) -> Result<()> {
    let what = || format!("set the attributes of {}", path.display());
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    nix::unistd::fchownat(AT_FDCWD, path, Some(uid), Some(gid), flags).doing(what)?;
    if SFlag::from_bits_truncate(entry.mode) & SFlag::S_IFMT != SFlag::S_IFLNK {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(entry.mode & 0o7777);
        std::fs::set_permissions(path, mode).doing(what)?;
    }
    if let (Some(atime), Some(mtime)) = (&entry.atim, &entry.mtim) {
        let time = |time: &Timeval| {
            TimeSpec::new(time.tv_sec.cast_signed(), (time.tv_usec * 1000).cast_signed())
        };
        let flags = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
        nix::sys::stat::utimensat(AT_FDCWD, path, &time(atime), &time(mtime), flags).doing(what)?;
    }
    Ok(())
}

/// Directories that were made so that a name can be made in them; removed when dropped.
pub(super) struct Parents(Vec<PathBuf>);

impl Parents {
    pub(super) fn make(name: &Path) -> Result<Self> {
        let mut made = Self(Vec::new());
        let missing: Vec<&Path> = name
            .ancestors()
            .skip(1)
            .take_while(|path| !path.as_os_str().is_empty() && !Place::in_tree(*path).exists())
            .collect();
        for path in missing.into_iter().rev() {
            std::fs::create_dir(path).doing(|| format!("make {}", path.display()))?;
            made.0.push(path.to_path_buf());
        }
        Ok(made)
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use std::fs::File;

    #[test]
    fn unlinked_files_come_back_with_contents() {
        let scratch = Scratch::new();
        let path = scratch.path("ghost");
        let file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"end", 1 << 20).unwrap();
        let reader: OwnedFd = File::open(&path).unwrap().into();
        let directory = scratch.path("directory");
        std::fs::create_dir(&directory).unwrap();
        let directory_fd = Place::in_tree(&directory).open(libc::O_DIRECTORY).unwrap();
        let temporary = Place::in_tree(&scratch.0).open(libc::O_TMPFILE | libc::O_RDWR).unwrap();
        nix::unistd::write(&temporary, b"small").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        let fds = vec![(3, file.into()), (4, reader), (5, directory_fd), (6, temporary)];
        let (snapshot, restored) = round_trip(fds);
        assert_eq!(snapshot.ghosts.len(), 3);
        let held: u64 = snapshot.ghosts[&1].chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(held <= 2 * 4096, "holes are not stored");
        assert_eq!(link(&restored, 3), format!("{} (deleted)", path.display()));
        assert_eq!(link(&restored, 5), format!("{} (deleted)", directory.display()));
        let (again, reader) =
            (File::from(copy_of(&restored, 3)), File::from(copy_of(&restored, 4)));
        again.write_all_at(b"BEGIN", 0).unwrap();
        let mut bytes = [0u8; 5];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"BEGIN", "both are the same file");
        reader.read_exact_at(&mut bytes[..3], 1 << 20).unwrap();
        assert_eq!(&bytes[..3], b"end");
        let small = File::from(copy_of(&restored, 6));
        small.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"small");
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[test]
    fn a_large_ghost_is_refused_with_the_option_to_use() {
        let scratch = Scratch::new();
        let file = File::options().create_new(true).write(true).open(scratch.path("big")).unwrap();
        file.write_all_at(&vec![1; 1 << 17], 0).unwrap();
        std::fs::remove_file(scratch.path("big")).unwrap();
        let file: OwnedFd = file.into();
        let holder = hold(&[(3, &file)]);
        let options = super::super::CollectorOptions { ghost_limit: 4096, ..lenient() };
        let text = capture_all(&holder, options).unwrap_err().to_string();
        assert!(text.starts_with(&format!("pid {} fd 3: ", holder.pid())), "{text}");
        assert!(text.ends_with("allow more (--ghost-limit)"), "{text}");
    }

    #[test]
    fn a_ghost_whose_directory_is_gone_comes_back() {
        let scratch = Scratch::new();
        let directory = scratch.path("a/b");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("file"), b"data").unwrap();
        let file: OwnedFd = File::open(directory.join("file")).unwrap().into();
        std::fs::remove_dir_all(scratch.path("a")).unwrap();
        let (_, restored) = round_trip(vec![(3, file)]);
        assert!(link(&restored, 3).ends_with("/a/b/file (deleted)"));
        assert!(!scratch.path("a").exists());
    }
}
