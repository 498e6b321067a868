//! The directory that holds a checkpoint.
//!
//! A dump in it is complete or absent: [`ImageDir::begin`] takes an older dump's inventory away
//! first, [`Creation::commit`] puts the new one in place last, by rename; a dump given up halfway
//! removes what it wrote.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat};
use parking_lot::Mutex;

use super::checksum::{Piece, Pieces};
use super::payload::Source;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::fresh;

/// Without this file a directory holds no dump.
pub const INVENTORY: &str = "inventory.img";
/// Sizes and checksums of the other files: ours alone, CRIU does not open it.
pub const MANIFEST: &str = "manifest";
const INVENTORY_TEMPORARY: &str = ".inventory.img.partial";
/// No file of messages comes near this; a larger one is not read into memory.
const MAX_METADATA: u64 = 1 << 30;

/// An open directory of images.
#[derive(Clone, Debug)]
pub struct ImageDir {
    fd: Arc<OwnedFd>,
}

impl ImageDir {
    /// Wraps an open directory.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// The same directory, with a descriptor of its own.
    pub fn copy_of(fd: BorrowedFd<'_>) -> Result<Self> {
        fd.try_clone_to_owned().map(Self::new).doing(|| "dup of the image directory")
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where it is, for messages.
    pub fn path(&self) -> String {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
            .map_or_else(|_| "images directory".into(), |path| path.display().to_string())
    }

    /// Names of the files in it.
    pub fn names(&self) -> Result<Vec<String>> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let entries = std::fs::read_dir(path).doing(|| format!("list {}", self.path()))?;
        let names = entries.map(|entry| {
            let entry = entry.doing(|| format!("list {}", self.path()))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        });
        names.collect()
    }

    /// Puts a file there, in one step, in the place of an older one.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        fresh::replace(self.fd(), name, bytes).doing(|| format!("write {}/{name}", self.path()))
    }

    /// Opens an image that is there, to change it: a file that has no other name, which might be
    /// somebody else's.
    pub fn open_to_change(&self, name: &str) -> Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(self.fd(), name, flags, Mode::empty()).map(File::from);
        let file = file.doing(|| format!("open {}/{name}", self.path()))?;
        let metadata = file.metadata().doing(|| format!("stat {}/{name}", self.path()))?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            let cause = format!("{}/{name} is no regular file of one name", self.path());
            return Err(Error::new(Kind::BadImages, cause).remedy("copy it"));
        }
        Ok(file)
    }

    /// The directory of this name in it; none if it is not there.
    pub fn subdirectory(&self, name: &str) -> Result<Option<Self>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(self.fd(), name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self::new(fd))),
            Err(Errno::ENOENT) if !self.is_dangling(name) => Ok(None),
            Err(errno) => Err(Error::sys(format!("open {}/{name}", self.path()), errno)),
        }
    }

    fn is_dangling(&self, name: &str) -> bool {
        nix::fcntl::readlinkat(self.fd(), name).is_ok()
    }

    /// Whether it seems to hold a dump, of whatever worth.
    pub fn has_dump(&self) -> bool {
        fstatat(self.fd(), INVENTORY, AtFlags::AT_SYMLINK_NOFOLLOW) != Err(Errno::ENOENT)
    }

    /// Starts a dump: from here on the directory holds no valid older one.
    pub fn begin(&self) -> Result<Creation> {
        for stale in [INVENTORY, MANIFEST, INVENTORY_TEMPORARY] {
            self.remove(stale)?;
        }
        Ok(Creation {
            dir: self.clone(),
            written: Mutex::default(),
            pieces: Mutex::default(),
            committed: AtomicBool::new(false),
        })
    }

    fn remove(&self, name: &str) -> Result<()> {
        fresh::remove(self.fd(), name).map_err(|errno| {
            Error::sys(format!("remove {}/{name}", self.path()), errno)
                .remedy("give an images directory that the caller may write to")
        })
    }

    /// Opens an image for reading.
    pub fn open(&self, name: &str) -> Result<File> {
        self.open_sized(name).map(|(file, _)| file)
    }

    /// The same; how many bytes it has, too.
    pub fn open_sized(&self, name: &str) -> Result<(File, u64)> {
        self.try_open_sized(name)?.ok_or_else(|| {
            Error::new(Kind::BadImages, format!("{}: {name} is missing", self.path()))
        })
    }

    /// Opens an image for reading; a missing file is none.
    pub fn try_open(&self, name: &str) -> Result<Option<File>> {
        Ok(self.try_open_sized(name)?.map(|(file, _)| file))
    }

    /// Nothing but a regular file is an image: a FIFO would be waited for, a device has no end.
    fn try_open_sized(&self, name: &str) -> Result<Option<(File, u64)>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match openat(self.fd(), name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Error::sys(format!("open {}/{name}", self.path()), errno)),
        };
        let metadata = file.metadata().doing(|| format!("stat {}/{name}", self.path()))?;
        if !metadata.is_file() {
            return Err(Error::image(name, "is no regular file"));
        }
        Ok(Some((file, metadata.len())))
    }

    /// An image that is read in pieces, whatever its size; a missing file is none.
    pub fn stream(&self, name: &str) -> Result<Option<Stream>> {
        let Some((file, len)) = self.try_open_sized(name)? else { return Ok(None) };
        Ok(Some(Stream { file, len, source: Source::image(self.clone(), name.to_owned()) }))
    }

    /// A file that is gone when it is closed.
    pub(super) fn create_nameless(&self) -> Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let owners = Mode::from_bits_truncate(0o600);
        match openat(self.fd(), ".", flags, owners) {
            Ok(fd) => Ok(fd.into()),
            // Not every file system has files that never had a name.
            Err(_) => {
                let name = ".waiting.partial";
                self.remove(name)?;
                let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let file = openat(self.fd(), name, flags, owners)
                    .doing(|| format!("create {}/{name}", self.path()))?;
                self.remove(name).map(|()| file.into())
            }
        }
    }

    /// Reads a file of messages wholly; a missing file is none.
    pub fn try_read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((file, len)) = self.try_open_sized(name)? else { return Ok(None) };
        self.read_opened(name, file, len).map(Some)
    }

    /// Reads an opened file of messages that has `len` bytes now.
    pub fn read_opened(&self, name: &str, file: File, len: u64) -> Result<Vec<u8>> {
        if len > MAX_METADATA {
            return Err(Error::image(name, format!("{len} bytes are too many for this image")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).expect("below the limit"));
        file.take(len).read_to_end(&mut bytes).doing(|| format!("read {}/{name}", self.path()))?;
        Ok(bytes)
    }
}

/// An open image that is read in pieces.
#[derive(Debug)]
pub struct Stream {
    pub(super) file: File,
    pub(super) len: u64,
    /// Where what is in it is to be found later.
    pub(super) source: Arc<Source>,
}

/// A dump being written.
#[derive(Debug)]
pub struct Creation {
    dir: ImageDir,
    written: Mutex<Vec<String>>,
    /// Checksums of what was written at offsets, by file.
    pieces: Mutex<HashMap<String, Pieces>>,
    committed: AtomicBool,
}

impl Creation {
    /// The directory it is written to.
    pub fn dir(&self) -> &ImageDir {
        &self.dir
    }

    /// Creates a file of the dump.
    ///
    /// A file of an older dump is removed, not truncated: file systems such as ext4 write a file out
    /// at once when it replaces what was cut off.
    pub fn create(&self, name: &str) -> Result<File> {
        let file = fresh::create(self.dir.fd(), name, OFlag::O_RDWR).map_err(|errno| {
            Error::sys(format!("create {}/{name}", self.dir.path()), errno)
                .remedy("give an images directory that the caller may write to")
        })?;
        self.pieces.lock().remove(name);
        self.written.lock().push(name.to_owned());
        Ok(file)
    }

    /// Creates a file with these contents.
    pub fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = self.create(name)?;
        self.append(&file, name, bytes)
    }

    /// Writes behind what was written before.
    pub(super) fn append(&self, mut file: &File, name: &str, bytes: &[u8]) -> Result<()> {
        file.write_all(bytes).map_err(|error| self.full(name, &error))
    }

    /// Writes at an offset; safe from several threads.
    pub fn write_at(&self, file: &File, name: &str, bytes: &[u8], offset: u64) -> Result<()> {
        file.write_all_at(bytes, offset).map_err(|error| self.full(name, &error))?;
        // Now, while the bytes are in the processor's cache.
        let piece = Piece::new(offset, bytes);
        self.pieces.lock().entry(name.to_owned()).or_default().add(piece);
        Ok(())
    }

    /// Bytes and CRC-32 of a file that was written by [`write_at`](Self::write_at); without the latter
    /// if it has holes.
    pub fn written(&self, name: &str) -> Result<(u64, Option<u32>)> {
        let mut pieces = self.pieces.lock().remove(name).unwrap_or_default();
        match pieces.whole() {
            Some((size, crc)) => Ok((size, Some(crc))),
            None => Ok((self.size(name)?, None)),
        }
    }

    fn size(&self, name: &str) -> Result<u64> {
        let file = self.dir.open(name)?;
        Ok(file.metadata().doing(|| format!("stat {name}"))?.len())
    }

    fn full(&self, name: &str, error: &std::io::Error) -> Error {
        let failed = Error::io(format!("write {}/{name}", self.dir.path()), error);
        match failed.errno() {
            Some(Errno::ENOSPC | Errno::EDQUOT) => {
                failed.remedy("free space there or give another images directory")
            }
            _ => failed,
        }
    }

    /// Makes the dump whole: the inventory appears in one step, after everything else.
    pub fn commit(&self, inventory: &[u8]) -> Result<Committed<'_>> {
        self.store(INVENTORY_TEMPORARY, inventory)?;
        renameat(self.dir.fd(), INVENTORY_TEMPORARY, self.dir.fd(), INVENTORY)
            .doing(|| format!("rename {}/{INVENTORY}", self.dir.path()))?;
        self.committed.store(true, Ordering::Relaxed);
        self.written.lock().push(INVENTORY.to_owned());
        Ok(Committed(self))
    }
}

/// A whole dump that may still be taken back.
#[derive(Debug)]
pub struct Committed<'a>(&'a Creation);

impl Committed<'_> {
    /// Removes the dump: its inventory now, all else with the [`Creation`].
    pub fn revoke(self) -> Result<()> {
        self.0.dir.remove(INVENTORY)?;
        self.0.committed.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if *self.committed.get_mut() {
            return;
        }
        for name in self.written.lock().iter() {
            // What cannot be removed does no harm: without the inventory it is no dump.
            let _ = self.dir.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> (std::path::PathBuf, ImageDir) {
        let path = std::env::temp_dir().join(format!("criu-dir-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let dir = ImageDir::new(File::open(&path).unwrap().into());
        (path, dir)
    }

    #[test]
    fn a_dump_given_up_leaves_nothing_and_invalidates_the_older_one() {
        let (path, dir) = scratch("abort");
        std::fs::write(path.join(INVENTORY), b"old").unwrap();
        let creation = dir.begin().unwrap();
        creation.store("core-1.img", b"x").unwrap();
        drop(creation);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_checksum_does_not_depend_on_the_order_of_writing() {
        let (path, dir) = scratch("checksum");
        let creation = dir.begin().unwrap();
        let file = creation.create("pages-1.img").unwrap();
        creation.write_at(&file, "pages-1.img", b"world", 6).unwrap();
        creation.write_at(&file, "pages-1.img", b"hello ", 0).unwrap();
        let crc = crc32fast::hash(b"hello world");
        assert_eq!(creation.written("pages-1.img").unwrap(), (11, Some(crc)));
        creation.write_at(&file, "pages-1.img", b"hole", 20).unwrap();
        assert_eq!(creation.written("pages-1.img").unwrap(), (24, None));
        drop(creation);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_revoked_dump_is_gone() {
        let (path, dir) = scratch("revoke");
        let creation = dir.begin().unwrap();
        creation.store("core-1.img", b"x").unwrap();
        creation.commit(b"inventory").unwrap().revoke().unwrap();
        drop(creation);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_committed_dump_has_its_inventory() {
        let (path, dir) = scratch("commit");
        let creation = dir.begin().unwrap();
        creation.store("core-1.img", b"x").unwrap();
        creation.commit(b"inventory").unwrap();
        assert_eq!(dir.try_read(INVENTORY).unwrap().unwrap(), b"inventory");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
        std::fs::remove_dir_all(path).unwrap();
    }
}
