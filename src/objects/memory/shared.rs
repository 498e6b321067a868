//! Contents of memory that several processes may map: memfds, and shared anonymous memory, which the
//! kernel treats like a memfd. The contents of each object stand in the image once, however many
//! processes map it, with offsets in place of addresses.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::error::{Context, Error, Kind, Result};
use crate::images::dir::Creation;
use crate::images::names;
use crate::images::pages::{PageFile, PageFiles};
use crate::images::proto::VmaEntry;
use crate::images::snapshot::{Pagemap, Snapshot};
use crate::kernel::{PAGE_SIZE, mapping};
use crate::progress;

use super::bits::{flags, page, status};
use super::queue::{self, Queue};
use super::runs::{self, Builder};
use super::validate;

/// Objects whose contents are to be saved.
#[derive(Debug, Default)]
pub struct SharedMemory {
    objects: BTreeMap<u64, (File, u64)>,
}

impl SharedMemory {
    /// Adds an object of `size` bytes under the number that it has in the image; `file` must be readable.
    pub fn add(&mut self, shmid: u64, file: OwnedFd, size: u64) {
        self.objects.entry(shmid).or_insert_with(|| (File::from(file), size));
    }

    /// Writes a pages file for each object; `pages_id` is the last number in use.
    pub fn write_pages(
        &self,
        snapshot: &mut Snapshot,
        creation: &Creation,
        mut pages_id: u32,
    ) -> Result<()> {
        for (shmid, (file, size)) in &self.objects {
            // An empty object has no pages, and a restore does not look for any.
            if *size > 0 {
                pages_id += 1;
                let pagemap = save(file, *size, creation, pages_id)
                    .doing(|| format!("shared memory {shmid}"))?;
                snapshot.shared_memory.insert(*shmid, pagemap);
            }
        }
        validate::validate_shared(snapshot)
    }
}

fn save(file: &File, size: u64, creation: &Creation, pages_id: u32) -> Result<Pagemap> {
    let pagemap = find(file, size)?.finish(pages_id);
    let name = names::pages(pages_id);
    let out = creation.create(&name)?;
    let queue = Queue::new(runs::of(&pagemap));
    let total = runs::total(&pagemap);
    progress::expect(total);
    queue.share(total, |offset, batch, bytes| {
        for (run, place) in queue::places(batch) {
            read_padded(file, &mut bytes[place], run.start)?;
        }
        creation.write_at(&out, &name, bytes, offset)
    })?;
    drop(queue);
    Ok(pagemap)
}

/// Reads pages, of which the last may reach beyond the end of the file.
fn read_padded(file: &File, mut bytes: &mut [u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let got = file.read_at(bytes, at).doing(|| format!("read at {at:#x}"))?;
        if got == 0 {
            bytes.fill(0);
            return Ok(());
        }
        bytes = &mut bytes[got..];
        at += got as u64;
    }
    Ok(())
}

/// Finds the pages that hold something.
fn find(file: &File, size: u64) -> Result<Builder> {
    let mut builder = Builder::default();
    let mut at = 0;
    while at < size {
        let start = match seek(file, at, Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            result => result.doing(|| "lseek(SEEK_DATA)")?,
        };
        let end = seek(file, start, Whence::SeekHole).doing(|| "lseek(SEEK_HOLE)")?;
        let (first, last) = (start / PAGE_SIZE, end.min(size).div_ceil(PAGE_SIZE));
        if first < last {
            builder.add(first * PAGE_SIZE, last * PAGE_SIZE, page::PRESENT);
        }
        at = end;
    }
    Ok(builder)
}

fn seek(file: &File, at: u64, whence: Whence) -> std::result::Result<u64, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EINVAL)?;
    lseek(file.as_fd(), at, whence).map(i64::cast_unsigned)
}

/// Restores the contents of an object of `size` bytes; `pagemap` is validated.
pub fn fill(file: &File, size: u64, pagemap: &Pagemap, pages: &PageFile) -> Result<()> {
    let queue = Queue::new(runs::of(pagemap));
    let total = runs::total(pagemap);
    queue.share(total, |offset, batch, bytes| {
        pages.read_exact_at(bytes, offset)?;
        for (run, place) in queue::places(batch) {
            // The last page may reach beyond the end.
            let inside = size.saturating_sub(run.start).min(run.len);
            let inside = &bytes[place][..usize::try_from(inside).expect("fits a buffer")];
            file.write_all_at(inside, run.start).doing(|| format!("write at {:#x}", run.start))?;
        }
        Ok(())
    })
}

/// Fills the object `shmid` from the images, if they hold anything of it.
pub fn fill_from(
    file: &File,
    shmid: u64,
    size: u64,
    snapshot: &Snapshot,
    pages: &PageFiles,
) -> Result<()> {
    let Some(pagemap) = snapshot.shared_memory.get(&shmid) else { return Ok(()) };
    let pages = pages.open(pagemap.pages_id)?;
    fill(file, size, pagemap, &pages).doing(|| format!("shared memory {shmid}"))
}

/// Shared anonymous memory that images name by number alone. Our dumps name it as a file; other writers
/// may have had no right to open it as one. The engine makes each object once, and every task maps it.
#[derive(Debug, Default)]
pub struct SharedObjects {
    objects: BTreeMap<u64, File>,
}

impl SharedObjects {
    /// Makes and fills all that the VMAs of the snapshot name.
    pub fn create(snapshot: &Snapshot, pages: &PageFiles) -> Result<Self> {
        let mut all = Self::default();
        for (shmid, (size, vma)) in wanted(snapshot) {
            let file = make(vma, size).doing(|| format!("shared memory {shmid}"))?;
            fill_from(&file, shmid, size, snapshot, pages)?;
            all.objects.insert(shmid, file);
        }
        Ok(all)
    }

    /// Opens one of them, to be mapped.
    pub fn open(&self, shmid: u64) -> Result<OwnedFd> {
        let file = self.objects.get(&shmid).ok_or_else(|| {
            Error::new(Kind::Internal, format!("shared memory {shmid} was not made"))
        })?;
        Ok(file.try_clone().doing(|| format!("dup of shared memory {shmid}"))?.into())
    }
}

/// The objects that VMAs name by number: the size that their mappings reach, and one of these VMAs.
fn wanted(snapshot: &Snapshot) -> BTreeMap<u64, (u64, &VmaEntry)> {
    let mut all: BTreeMap<u64, (u64, &VmaEntry)> = BTreeMap::new();
    let mms = snapshot.tasks.values().filter_map(|task| task.mm.as_ref());
    for vma in mms.flat_map(|mm| &mm.vmas).filter(|vma| vma.status & status::ANON_SHARED != 0) {
        let reach = vma.pgoff.saturating_add(vma.end - vma.start);
        let known = all.entry(vma.shmid).or_insert((0, vma));
        known.0 = known.0.max(reach);
    }
    all
}

fn make(vma: &VmaEntry, size: u64) -> Result<File> {
    if vma.flags & flags::HUGETLB == 0 {
        return mapping::shared_anonymous(size);
    }
    Err(Error::new(Kind::Refused, "shared huge pages are not restored"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::pid::TreePid;
    use std::path::PathBuf;

    fn scratch(name: &str) -> (PathBuf, Creation) {
        let path = format!("/dev/shm/criu-shared-{name}-{}", std::process::id());
        std::fs::create_dir_all(&path).unwrap();
        let dir = crate::images::dir::ImageDir::new(File::open(&path).unwrap().into());
        (path.into(), dir.begin().unwrap())
    }

    fn pages_of(creation: &Creation) -> PageFiles {
        PageFiles::new(creation.dir(), BTreeMap::new())
    }

    #[test]
    fn contents_come_back_and_holes_stay_holes() {
        let (path, creation) = scratch("round");
        let size = 64 * 4096 + 100;
        let file = mapping::shared_anonymous(size).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(&[1; 5000], 4096).unwrap();
        file.write_all_at(&[2; 100], 64 * 4096).unwrap();
        let mut shared = SharedMemory::default();
        shared.add(7, file.try_clone().unwrap().into(), size);
        shared.add(8, file.into(), 0);
        let mut snapshot = Snapshot::default();
        shared.write_pages(&mut snapshot, &creation, 4).unwrap();
        assert_eq!(snapshot.shared_memory.keys().copied().collect::<Vec<_>>(), [7]);
        let pagemap = &snapshot.shared_memory[&7];
        let runs: Vec<_> = runs::of(pagemap).map(|run| (run.start, run.len)).collect();
        assert_eq!((pagemap.pages_id, runs), (5, vec![(4096, 8192), (64 * 4096, 4096)]));

        let back = mapping::shared_anonymous(size).unwrap();
        back.set_len(size).unwrap();
        fill_from(&back, 7, size, &snapshot, &pages_of(&creation)).unwrap();
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        back.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(back.metadata().unwrap().len(), size);
        assert!(bytes[4096..9096].iter().all(|byte| *byte == 1));
        assert!(bytes[64 * 4096..].iter().all(|byte| *byte == 2));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 5100);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn objects_named_by_number_are_made_as_large_as_their_mappings_reach() {
        let (path, creation) = scratch("number");
        let vma = |pgoff| VmaEntry {
            start: 0x10000,
            end: 0x12000,
            pgoff,
            shmid: 5,
            status: status::REGULAR | status::ANON_SHARED,
            ..VmaEntry::default()
        };
        let mut snapshot = Snapshot::default();
        snapshot.tasks.entry(TreePid::new(1)).or_default().mm.get_or_insert_default().vmas =
            vec![vma(0), vma(0x4000)];
        let objects = SharedObjects::create(&snapshot, &pages_of(&creation)).unwrap();
        let file = File::from(objects.open(5).unwrap());
        assert_eq!(file.metadata().unwrap().len(), 0x6000);
        assert!(objects.open(6).is_err());
        std::fs::remove_dir_all(path).unwrap();
    }
}
