//! Unlinked files: no name leads to them any more, so that their contents go into the image.
//!
//! A ghost is made anew under its old name, empty and the engine's, and unlinked at once:
//! `/proc/PID/fd/N` then reads "name (deleted)" as before. It is opened through a descriptor of ours from then on, which gives
//! every holder a description of its own. Files, directories, named pipes, devices and symbolic
//! links can be ghosts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, lseek, symlinkat};

use super::context::DumpCx;
use super::kind::FileId;
use super::link;
use super::nameless::{Directory, split};
use super::opened::{Captured, Opened};
use super::paths::Remapped;
use crate::error::{Context, Error, Result};
use crate::images::payload::{Payload, Source};
use crate::images::proto::{GhostFileEntry, RemapFilePathEntry, RemapType, Timeval};
use crate::images::snapshot::{GhostFile, Snapshot};
use crate::kernel::Sys;
use crate::kernel::descriptor::own_path;
use crate::objects::place::reopen;

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

fn contents(file: &Opened) -> Captured<GhostFile> {
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

/// What the file holds.
///
/// It is read through the dumpee's descriptor if that can be read and no holes are to be looked for,
/// which would move the dumpee's position.
fn chunks(file: &Opened, skip_holes: bool) -> Captured<Vec<(u64, Payload)>> {
    let size = file.stat.st_size.cast_unsigned();
    let has_holes = file.stat.st_blocks.cast_unsigned() * BLOCK < size;
    let (runs, source) = match file.copy_to_read()? {
        Some(copy) if !(skip_holes && has_holes) => {
            (vec![(0, size)], Source::of_dumpee(copy.into(), file.object()))
        }
        _ => {
            let own = File::from(file.open_again(libc::O_RDONLY | libc::O_NOATIME)?);
            let runs = if skip_holes { data_runs(&own, size)? } else { vec![(0, size)] };
            (runs, Source::open(own, file.object()))
        }
    };
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
        let wrong = |cause: String| Err(Error::image("remap-fpath.img", cause));
        let Some(file) = snapshot.path_entry(remap.orig_id) else {
            return wrong(format!("it remaps file {}, which is not there", remap.orig_id));
        };
        match remap.remap_type.map(RemapType::try_from) {
            Some(Ok(RemapType::Ghost)) if !snapshot.ghosts.contains_key(&remap.remap_id) => {
                return wrong(format!("ghost file {} is not there", remap.remap_id));
            }
            Some(Ok(RemapType::Linked)) => {
                let link = snapshot.path_entry(remap.remap_id);
                if !link.is_some_and(|link| link::is_of_dump(&link.name, &file.name)) {
                    let cause = format!("file {} is no link that a dump makes", remap.remap_id);
                    return wrong(cause);
                }
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

/// Everything but the making itself happens when the name is gone again, so that nothing stays if it
/// fails.
fn make(ghost: &GhostFile, id: u32, name: &Path) -> Result<OwnedFd> {
    let doing = || format!("make the unlinked file {}", name.display());
    let (parent, name) = split(name)?;
    let kind = SFlag::from_bits_truncate(ghost.entry.mode) & SFlag::S_IFMT;
    let create =
        |directory: BorrowedFd<'_>, name: &OsStr| create(&ghost.entry, kind, directory, name);
    let made = Directory::make(parent)
        .and_then(|directory| {
            under_free_name(name, id, |name| directory.make_nameless(name, kind, create))
        })
        .and_then(|made| {
            if kind == SFlag::S_IFREG {
                fill(ghost, &made)?;
            }
            attributes(&ghost.entry, kind, &made)?;
            Ok(made)
        });
    made.map_err(|error| error.context(doing()))
}

/// Uses a name, or one beside it if another file has got it since.
pub(super) fn under_free_name<T>(
    name: &OsStr,
    id: u32,
    make: impl Fn(&OsStr) -> Result<T>,
) -> Result<T> {
    match make(name) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            let mut beside = name.to_os_string();
            beside.push(format!(".cr.{id:x}.ghost"));
            make(&beside)
        }
        made => made,
    }
}

fn create(entry: &GhostFileEntry, kind: SFlag, into: BorrowedFd<'_>, name: &OsStr) -> Sys<()> {
    let own = Mode::S_IRUSR | Mode::S_IWUSR;
    match kind {
        SFlag::S_IFDIR => mkdirat(into, name, Mode::S_IRWXU),
        SFlag::S_IFLNK => symlinkat(entry.symlnk_target.as_deref().unwrap_or_default(), into, name),
        SFlag::S_IFREG | SFlag::S_IFIFO => mknodat(into, name, kind, own, 0),
        _ => mknodat(into, name, kind, own, entry.rdev.unwrap_or(0).into()),
    }
}

fn fill(ghost: &GhostFile, made: &OwnedFd) -> Result<()> {
    let doing = || "write it";
    let file = File::from(reopen(made, libc::O_WRONLY)?);
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
///
/// A descriptor opened with O_PATH takes none of these calls; the path of it leads to the file itself,
/// even if that is a symbolic link.
fn attributes(entry: &GhostFileEntry, kind: SFlag, made: &OwnedFd) -> Result<()> {
    let what = || "set its attributes";
    let itself = own_path(made.as_fd());
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    nix::unistd::chown(itself.as_str(), Some(uid), Some(gid)).doing(what)?;
    if kind != SFlag::S_IFLNK {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(entry.mode & 0o7777);
        std::fs::set_permissions(&itself, mode).doing(what)?;
    }
    if let (Some(atime), Some(mtime)) = (&entry.atim, &entry.mtim) {
        let time = |time: &Timeval| {
            TimeSpec::new(time.tv_sec.cast_signed(), (time.tv_usec * 1000).cast_signed())
        };
        let follow = UtimensatFlags::FollowSymlink;
        utimensat(AT_FDCWD, itself.as_str(), &time(atime), &time(mtime), follow).doing(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    use crate::objects::place::Place;
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
    fn nobody_notices_that_a_ghost_is_read() {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let scratch = Scratch::new();
        let path = scratch.path("watched");
        std::fs::write(&path, vec![7; 20_000]).unwrap();
        let file: OwnedFd = File::open(&path).unwrap().into();
        let holder = hold(&[(3, &file)]);
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&path, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (snapshot, _collected) = capture_all(&holder, lenient()).unwrap();
        let held: Vec<u8> =
            snapshot.ghosts[&1].chunks.iter().flat_map(|(_, bytes)| bytes.bytes()).collect();
        assert!(held == vec![7; 20_000]);
        assert_eq!(watch.read_events().unwrap_err(), nix::errno::Errno::EAGAIN);
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
    fn a_ghost_that_cannot_be_filled_leaves_nothing() {
        let scratch = Scratch::new();
        let name = scratch.path("a/b/ghost");
        let source = Source::open(File::open("/dev/null").unwrap(), "what is too short".into());
        let entry = GhostFileEntry { mode: libc::S_IFREG | 0o644, ..Default::default() };
        let ghost = GhostFile { entry, chunks: vec![(0, Payload::stretch(&source, 0, 5))] };
        let text = make(&ghost, 1, &name).unwrap_err().to_string();
        assert!(text.contains("what is too short"), "{text}");
        assert!(!scratch.path("a").exists());
    }

    #[test]
    fn a_ghost_of_every_kind_has_its_attributes_and_no_name() {
        let scratch = Scratch::new();
        let entry = GhostFileEntry {
            uid: 1234,
            gid: 4321,
            atim: Some(Timeval { tv_sec: 5, tv_usec: 6 }),
            mtim: Some(Timeval { tv_sec: 7, tv_usec: 8 }),
            symlnk_target: Some("/etc/passwd".into()),
            rdev: Some(libc::makedev(1, 3) as u32),
            ..Default::default()
        };
        let before = std::fs::metadata("/etc/passwd").unwrap().modified().unwrap();
        for kind in [libc::S_IFREG, libc::S_IFDIR, libc::S_IFIFO, libc::S_IFCHR, libc::S_IFLNK] {
            let entry = GhostFileEntry { mode: kind | 0o6751, ..entry.clone() };
            let ghost = GhostFile { entry, ..Default::default() };
            let made = make(&ghost, 1, &scratch.path("ghost")).unwrap();
            let stat = nix::sys::stat::fstat(&made).unwrap();
            assert_eq!((stat.st_uid, stat.st_gid, stat.st_mtime), (1234, 4321, 7), "{kind:o}");
            let mode = if kind == libc::S_IFLNK { 0o777 } else { 0o6751 };
            assert_eq!(stat.st_mode, kind | mode);
        }
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().modified().unwrap(), before);
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[test]
    fn a_ghost_whose_name_is_taken_is_made_beside() {
        let scratch = Scratch::new();
        std::os::unix::fs::symlink("/etc/passwd", scratch.path("ghost")).unwrap();
        let entry = GhostFileEntry { mode: libc::S_IFREG | 0o6666, uid: 7, ..Default::default() };
        let ghost = GhostFile { entry, ..Default::default() };
        let before = nix::sys::stat::stat("/etc/passwd").unwrap();
        let made = make(&ghost, 10, &scratch.path("ghost")).unwrap();
        let path = std::fs::read_link(own_path(made.as_fd())).unwrap();
        assert!(path.to_str().unwrap().ends_with("/ghost.cr.a.ghost (deleted)"), "{path:?}");
        let now = nix::sys::stat::stat("/etc/passwd").unwrap();
        assert_eq!((now.st_mode, now.st_uid), (before.st_mode, before.st_uid));
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
