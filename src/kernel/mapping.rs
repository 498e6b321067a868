//! Memory of our own that other system calls take by address: mapped files, anonymous and shared
//! memory.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

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
    fn a_file_mapping_gives_no_address_outside_of_it() {
        let file = File::open("/proc/self/exe").unwrap();
        let mapping = FileMapping::new(&file, 8192).unwrap();
        assert!(mapping.addr(4096, 4096).is_ok());
        assert!(mapping.addr(4096, 4097).is_err());
        assert!(mapping.addr(u64::MAX, 2).is_err());
    }
}
