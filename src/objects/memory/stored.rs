//! Checks of pages files against what validated messages say of them, before a restore.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use crate::error::{Context, Error, Kind, Result};
use crate::images::dir::ImageDir;
use crate::images::names;
use crate::images::proto::VmaEntry;
use crate::images::sections::SECTIONS;
use crate::images::snapshot::{Pagemap, Snapshot};

use super::runs;
use super::vdso::{self, Vdso};

/// Checks that all pages are in their files, and that the running kernel's vDSO can stand in for
/// those that are among them.
pub fn check(snapshot: &Snapshot, dir: &ImageDir) -> Result<()> {
    let mut files = Files { dir, sizes: HashMap::new() };
    for (pid, task) in &snapshot.tasks {
        let (Some(mm), Some(pagemap)) = (&task.mm, &task.pagemap) else { continue };
        let name = SECTIONS.pagemap.of(*pid);
        files.check_size(&name, pagemap)?;
        files.check_vdso(&name, pagemap, &mm.vmas)?;
    }
    for (shmid, pagemap) in &snapshot.shared_memory {
        files.check_size(&SECTIONS.shared_memory.of(*shmid), pagemap)?;
    }
    Ok(())
}

struct Files<'a> {
    dir: &'a ImageDir,
    /// By number.
    sizes: HashMap<u32, u64>,
}

impl Files<'_> {
    fn check_size(&mut self, name: &str, pagemap: &Pagemap) -> Result<()> {
        let (have, needed) = (self.size(pagemap.pages_id)?, runs::total(pagemap));
        if needed > have {
            let pages = names::pages(pagemap.pages_id);
            return Err(Error::image(pages, format!("has {have} bytes, {name} needs {needed}")));
        }
        Ok(())
    }

    fn size(&mut self, pages_id: u32) -> Result<u64> {
        if let Some(size) = self.sizes.get(&pages_id) {
            return Ok(*size);
        }
        let (_, size) = self.dir.open_sized(&names::pages(pages_id))?;
        self.sizes.insert(pages_id, size);
        Ok(size)
    }

    fn check_vdso(&self, name: &str, pagemap: &Pagemap, vmas: &[VmaEntry]) -> Result<()> {
        let Some(block) = vdso::block_of(vmas)? else { return Ok(()) };
        let own = Vdso::own()?.ok_or_else(|| {
            Error::new(Kind::Refused, "the process has a vDSO, the running kernel has none")
                .remedy("boot with vdso=1")
        })?;
        let start = block.start + block.data_len;
        let len = block.code_len;
        // The sizes are compared before a byte is read: an image may claim any size.
        if len != own.block.code_len {
            return vdso::check(block, &[], own);
        }
        let run = runs::of(pagemap).find_map(|run| run.within(start, start + len));
        let run = run.filter(|run| run.len == len);
        let run = run.ok_or_else(|| Error::image(name, "does not hold the vDSO whole"))?;
        let pages = names::pages(pagemap.pages_id);
        let mut code = vec![0; usize::try_from(len).expect("a few pages")];
        let file = self.dir.open(&pages)?;
        file.read_exact_at(&mut code, run.offset).doing(|| format!("read {pages}"))?;
        vdso::check(block, &code, own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::pid::TreePid;
    use crate::images::proto::{MmEntry, PagemapEntry};
    use crate::images::snapshot::TaskImage;
    use crate::objects::memory::bits::page;

    fn pagemap(pages: u64) -> Pagemap {
        let entry = PagemapEntry {
            vaddr: 0x1f000,
            nr_pages: Some(pages),
            flags: Some(page::PRESENT),
            ..PagemapEntry::default()
        };
        Pagemap { pages_id: 1, entries: vec![entry] }
    }

    #[test]
    fn files_that_are_too_short_are_named() {
        let path = format!("/dev/shm/criu-stored-{}", std::process::id());
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(format!("{path}/pages-1.img"), [0; 8192]).unwrap();
        let dir = ImageDir::new(std::fs::File::open(&path).unwrap().into());
        let private = |pages| {
            let (mm, pagemap) = (Some(MmEntry::default()), Some(pagemap(pages)));
            let task = TaskImage { mm, pagemap, ..TaskImage::default() };
            Snapshot { tasks: [(TreePid::new(7), task)].into(), ..Snapshot::default() }
        };
        let shared =
            |pages| Snapshot { shared_memory: [(5, pagemap(pages))].into(), ..Snapshot::default() };
        check(&private(2), &dir).unwrap();
        check(&shared(2), &dir).unwrap();
        let text = check(&private(3), &dir).unwrap_err().to_string();
        assert_eq!(text, "pages-1.img: has 8192 bytes, pagemap-7.img needs 12288");
        let text = check(&shared(3), &dir).unwrap_err().to_string();
        assert_eq!(text, "pages-1.img: has 8192 bytes, pagemap-shmem-5.img needs 12288");
        std::fs::remove_dir_all(path).unwrap();
    }
}
