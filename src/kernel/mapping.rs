//! Memory of our own that other system calls take by address: mapped files, anonymous and shared
//! memory. And files read by way of such memory.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::pid::HostPid;
use super::remote::RemoteAddr;
use super::{PAGE_SIZE, Sys, memory};
use crate::error::{Context, Error, Kind, Result};

#[derive(Debug)]
struct Mapping {
    start: NonNull<libc::c_void>,
    len: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value, which hands out nothing but its address. `Anonymous`,
// which also writes, argues for itself.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn addr(&self) -> u64 {
        self.start.as_ptr() as u64
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: we mapped this range, and nobody holds a reference into it any more.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}

fn size(len: u64) -> Result<NonZeroUsize> {
    usize::try_from(len)
        .ok()
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| Error::new(Kind::Internal, format!("cannot map {len} bytes")))
}

/// A file mapped for reading. Its bytes are handed to the kernel by address and are never read by
/// this process, so that a file which shrinks meanwhile makes a system call fail and does not kill
/// us.
#[derive(Debug)]
pub struct FileMapping {
    mapping: Mapping,
    len: u64,
}

impl FileMapping {
    /// Maps the first `len` bytes of a file.
    pub fn new(file: &File, len: u64) -> Result<Self> {
        let doing = || format!("mmap {len} bytes of an image");
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap(None, size(len)?, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file.as_fd(), 0)
        }
        .doing(doing)?;
        Ok(Self { mapping: Mapping { start, len: size(len)? }, len })
    }

    /// Where a range of the file stands in our memory.
    pub fn addr(&self, offset: u64, len: u64) -> Result<u64> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.mapping.addr() + offset),
            _ => Err(Error::new(
                Kind::BadImages,
                format!("{len} bytes at {offset} lie outside of {} bytes of pages", self.len),
            )),
        }
    }
}

/// Fills `bytes` from `offset` on in a file that is open for reading, as if by pread(2).
///
/// A call that reads would tell everybody who watches the file by inotify or fanotify, and would
/// wait where fanotify has somebody decide; a mapping does neither. The bytes are copied by a system
/// call, so that the end of a file that shrinks is EFAULT and not a signal.
pub fn read_unnoticed(file: BorrowedFd<'_>, bytes: &mut [u8], offset: u64) -> Sys<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let start = offset / PAGE_SIZE * PAGE_SIZE;
    let skipped = offset - start;
    let len = NonZeroUsize::new(bytes.len() + skipped as usize).ok_or(Errno::EINVAL)?;
    let start = i64::try_from(start).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, start) }?;
    let mapping = Mapping { start: at, len };
    memory::read(HostPid::own(), RemoteAddr(mapping.addr() + skipped), bytes)
}

/// Private anonymous memory.
#[derive(Debug)]
pub struct Anonymous {
    mapping: Mapping,
}

impl Anonymous {
    /// Maps `len` fresh bytes.
    pub fn new(len: u64) -> Result<Self> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(None, size(len)?, prot, flags) }
            .doing(|| format!("mmap {len} bytes"))?;
        Ok(Self { mapping: Mapping { start, len: size(len)? } })
    }

    /// Where it stands.
    pub fn addr(&self) -> u64 {
        self.mapping.addr()
    }

    /// Writes into it; panics outside of it.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.mapping.len.get(), "a write inside the mapping");
        // SAFETY: the range was checked; no reference into the mapping is ever handed out.
        unsafe {
            let to = self.mapping.start.as_ptr().cast::<u8>().add(offset);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }
}

/// Creates shared anonymous memory as `mmap(MAP_SHARED | MAP_ANONYMOUS)` does, and opens it. A
/// memfd would hold the same, but under another name in `/proc/PID/maps`.
pub fn shared_anonymous(len: u64) -> Result<File> {
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe { mmap_anonymous(None, size(len)?, prot, MapFlags::MAP_SHARED) }
        .doing(|| format!("mmap {len} shared bytes"))?;
    let mapping = Mapping { start, len: size(len)? };
    let end = mapping.addr() + len.next_multiple_of(super::PAGE_SIZE);
    let path = format!("/proc/self/map_files/{:x}-{end:x}", mapping.addr());
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(&path)
        .doing(|| format!("open {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn shared_anonymous_memory_is_a_file_of_that_size() {
        let file = shared_anonymous(5 * 4096).unwrap();
        file.write_all_at(b"x", 4 * 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5 * 4096);
    }

    #[test]
    fn a_file_is_read_unnoticed() {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let path = std::env::temp_dir().join(format!("criu-unnoticed-{}", std::process::id()));
        std::fs::write(&path, [[1; 4096], [2; 4096]].concat()).unwrap();
        let file = File::open(&path).unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&path, AddWatchFlags::IN_ALL_EVENTS).unwrap();
        let mut bytes = [0; 6];
        read_unnoticed(file.as_fd(), &mut bytes, 4093).unwrap();
        assert_eq!(bytes, [1, 1, 1, 2, 2, 2]);
        assert_eq!(read_unnoticed(file.as_fd(), &mut bytes, 8192), Err(Errno::EFAULT));
        assert_eq!(watch.read_events().unwrap_err(), Errno::EAGAIN);
        file.read_at(&mut bytes, 0).unwrap();
        assert!(!watch.read_events().unwrap().is_empty(), "a read is noticed");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_mapping_gives_no_address_outside_of_it() {
        let file = File::open("/proc/self/exe").unwrap();
        let mapping = FileMapping::new(&file, 8192).unwrap();
        assert!(mapping.addr(4096, 4096).is_ok());
        assert!(mapping.addr(4096, 4097).is_err());
        assert!(mapping.addr(u64::MAX, 2).is_err());
    }
}
