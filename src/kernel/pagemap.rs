//! `/proc/PID/pagemap`: which pages of an address space exist, and of what kind they are.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use super::pid::HostPid;
use crate::error::{Context, Error, Result};
use nix::errno::Errno;

/// What [`Pagemap::scan`] can tell apart.
pub mod category {
    /// File or shared memory, not (yet) a private copy.
    pub const FILE: u64 = 1 << 2;
    pub const PRESENT: u64 = 1 << 3;
    pub const SWAPPED: u64 = 1 << 4;
    /// The shared page of zeros: nothing was ever written.
    pub const ZERO: u64 = 1 << 5;
    /// A guard installed by `madvise`: shown as swapped, holds nothing. Linux 6.15.
    pub const GUARD: u64 = 1 << 8;
}

/// Bits of [`Pagemap::read`].
pub mod entry {
    pub const PRESENT: u64 = 1 << 63;
    pub const SWAPPED: u64 = 1 << 62;
    /// A page of a file, or shared: not a copy of the process's own.
    pub const OF_FILE: u64 = 1 << 61;
    /// Mapped by this address space alone.
    pub const EXCLUSIVE: u64 = 1 << 56;
    /// Number of the page frame; zero for readers without `CAP_SYS_ADMIN`.
    pub const FRAME: u64 = (1 << 55) - 1;
}

/// A run of pages of equal category.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    pub categories: u64,
}

/// What to look for: pages that have none of `without` and one of `any_of`.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    pub start: u64,
    pub end: u64,
    pub without: u64,
    pub any_of: u64,
}

#[repr(C)]
#[derive(Default)]
pub struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, ScanArg);

/// Regions per call; the answer of one call then is 24 KiB.
const REGIONS: usize = 1024;

/// An open `/proc/PID/pagemap`.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    pid: HostPid,
}

impl Pagemap {
    /// Opens the pagemap of a process.
    pub fn open(pid: HostPid) -> Result<Self> {
        let path = format!("/proc/{pid}/pagemap");
        let file = File::open(&path).doing(|| format!("open {path}"))?;
        Ok(Self { file, pid })
    }

    /// Calls `found` for each run of matching pages, in ascending order.
    ///
    /// A kernel without guard pages does not know their category: it is left out then.
    pub fn scan(&self, scan: Scan, mut found: impl FnMut(Region)) -> Result<()> {
        let mut regions = Vec::with_capacity(REGIONS);
        let mut at = Scan { ..scan };
        while at.start < at.end {
            let walked = match self.scan_once(at, &mut regions) {
                Err(Errno::EINVAL) if at.without & category::GUARD != 0 => {
                    at.without &= !category::GUARD;
                    continue;
                }
                Err(Errno::ENOTTY) => return Err(self.too_old()),
                result => result.doing(|| {
                    format!("PAGEMAP_SCAN of pid {} {:x}-{:x}", self.pid, at.start, at.end)
                })?,
            };
            regions.iter().for_each(|region| found(*region));
            // If there is room left, the walk came to its end. `walk_end` alone does not tell:
            // after the kernel's own buffer of 512 regions has overflowed once, `walk_end` may not
            // advance any more.
            let last = match regions.last() {
                Some(last) if regions.len() == REGIONS => *last,
                _ => return Ok(()),
            };
            at.start = walked.max(last.end);
        }
        Ok(())
    }

    /// The same for a category that an older kernel may not know. Such a kernel has no page of that
    /// category, so nothing is found.
    pub fn scan_known(&self, scan: Scan, found: impl FnMut(Region)) -> Result<()> {
        match self.scan(scan, found) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(()),
            result => result,
        }
    }

    fn too_old(&self) -> Error {
        Error::sys(format!("PAGEMAP_SCAN of pid {}", self.pid), Errno::ENOTTY)
            .remedy("it needs Linux 6.7 or newer")
    }

    /// Replaces the contents of `regions` by the regions that were found. The result is where the
    /// walk ended.
    fn scan_once(&self, scan: Scan, regions: &mut Vec<Region>) -> std::result::Result<u64, Errno> {
        regions.clear();
        regions.reserve(REGIONS);
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: scan.start,
            end: scan.end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            category_inverted: scan.without,
            category_mask: scan.without,
            category_anyof_mask: scan.any_of,
            return_mask: scan.any_of,
            ..ScanArg::default()
        };
        // SAFETY: `arg` is a whole pm_scan_arg, and `vec` points to room for `vec_len` regions that
        // stays borrowed mutably until the call is over.
        let count = unsafe { pagemap_scan(self.file.as_raw_fd(), &raw mut arg) }?;
        // SAFETY: the kernel has written that many regions, which are plain numbers.
        unsafe { regions.set_len(usize::try_from(count).expect("not negative").min(REGIONS)) };
        Ok(arg.walk_end)
    }

    /// Reads the entries of the pages from `start` on.
    pub fn read(&self, start: u64, entries: &mut [u64]) -> Result<()> {
        let mut bytes = vec![0; entries.len() * 8];
        self.file
            .read_exact_at(&mut bytes, start / super::PAGE_SIZE * 8)
            .doing(|| format!("read /proc/{}/pagemap at {start:x}", self.pid))?;
        for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mapping::Anonymous;

    #[test]
    fn finds_written_pages_only() {
        let memory = Anonymous::new(16 * 4096).unwrap();
        memory.write(4 * 4096, &[1; 2 * 4096]);
        memory.write(9 * 4096, &[1]);
        let pagemap = Pagemap::open(HostPid::own()).unwrap();
        let mut found = Vec::new();
        let scan = Scan {
            start: memory.addr(),
            end: memory.addr() + 16 * 4096,
            without: category::ZERO | category::GUARD,
            any_of: category::PRESENT | category::SWAPPED,
        };
        let base = memory.addr();
        pagemap
            .scan(scan, |r| found.push(((r.start - base) / 4096, (r.end - base) / 4096)))
            .unwrap();
        assert_eq!(found, [(4, 6), (9, 10)]);
        let mut entries = [0; 2];
        pagemap.read(base + 3 * 4096, &mut entries).unwrap();
        assert_eq!(entries[0] & entry::PRESENT, 0);
        assert_eq!(entries[1] & entry::PRESENT, entry::PRESENT);
    }
}
