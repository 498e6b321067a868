//! Pages that are copied while the kernel still shows the address space.
//!
//! Only `smaps` has the flags of a VMA, and the kernel looks at each page for the figures that stand
//! beside them: 26 ms for a GiB. `maps` is there at once, and what it leaves out seldom decides which
//! pages are saved. So pages are copied by what `maps` says while the kernel prepares `smaps`; where
//! that says otherwise, the copy is made again.

use std::fs::File;
use std::io::BufReader;

use crate::error::Result;
use crate::images::dir::Creation;
use crate::images::proto::VmaEntry;
use crate::images::snapshot::Pagemap;
use crate::kernel::PAGE_SIZE;
use crate::kernel::pid::HostPid;
use crate::kernel::proc::Stat;
use crate::tracee::dumpee::FrozenTask;

use super::classify::{self, Backing};
use super::pages::{self, Source, Writing};
use super::smaps::{self, Mapping};

/// For a process with so many bytes in memory, an early copy pays.
const LARGE: u64 = 64 << 20;

/// Pages that may have been copied, for a layout that is still to be confirmed.
#[derive(Debug)]
pub struct Early<'a> {
    vmas: Vec<VmaEntry>,
    pagemap: Pagemap,
    writing: Writing<'a>,
}

impl<'a> Early<'a> {
    /// Whether the process is so large that an early copy pays.
    pub fn pays(task: &FrozenTask) -> Result<bool> {
        Ok(Stat::of(task.stat()?)?.resident.saturating_mul(PAGE_SIZE) >= LARGE)
    }

    /// Begins `pages-{pages_id}.img` by what `maps` says; none if that does not say enough.
    pub fn begin(
        task: &'a FrozenTask,
        creation: &'a Creation,
        pages_id: impl FnOnce() -> u32,
    ) -> Result<Option<Self>> {
        let Some(vmas) = layout(task.pid) else { return Ok(None) };
        let stack_pointers = &super::stack_pointers(task);
        let source = Source { pid: task.pid, memory: task.memory(), stack_pointers };
        let (pagemap, writing) = Writing::begin(source, &vmas, creation, pages_id())?;
        Ok(Some(Self { vmas, pagemap, writing }))
    }

    /// Copies until it is `over`.
    pub fn copy(&self, over: impl FnMut() -> bool) -> Result<()> {
        self.writing.copy_until(&mut Vec::new(), over)
    }

    /// The number of the pages file.
    pub fn pages_id(&self) -> u32 {
        self.pagemap.pages_id
    }

    /// Forgets the layout, so that the copy will not be confirmed: the process has changed since.
    pub fn spoil(&mut self) {
        self.vmas.clear();
    }

    /// The copy, with what remains to be done of it, if it was made for such VMAs as these.
    pub fn confirmed(self, vmas: &[VmaEntry]) -> Option<(Pagemap, Writing<'a>)> {
        pages::are_saved_alike(&self.vmas, vmas).then_some((self.pagemap, self.writing))
    }
}

/// The VMAs as far as `maps` tells; none if a mapped file might be a device, which must not be read.
fn layout(pid: HostPid) -> Option<Vec<VmaEntry>> {
    let file = File::open(format!("/proc/{pid}/maps")).ok()?;
    let mappings = smaps::parse(BufReader::with_capacity(4096, file)).ok()?;
    let mut last = None;
    let mut vmas = Vec::with_capacity(mappings.len());
    for mapping in &mappings {
        vmas.push(entry(pid, mapping, &mut last)?);
    }
    Some(vmas)
}

fn entry(
    pid: HostPid,
    mapping: &Mapping,
    last: &mut Option<(u64, (u32, u32))>,
) -> Option<VmaEntry> {
    if classify::refusal(mapping).is_some() {
        return None;
    }
    if !classify::has_file(mapping) {
        return Some(classify::anonymous(mapping));
    }
    let key = (mapping.inode, mapping.device);
    if !mapping.shared && *last != Some(key) {
        let path = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        *last = Some(key);
    }
    let backing = Backing { file_id: 0, memfd: false, access: 0 };
    Some(classify::of_file(mapping, backing))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::FileExt;
    use std::process::{Child, Command};

    use super::super::bits::{flags, status};
    use super::super::capture::{self, MappedFiles};
    use super::super::runs;
    use super::*;
    use crate::error::Refusals;
    use crate::images::dir::ImageDir;
    use crate::images::pages::PageFiles;

    /// Killed when dropped.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let sleeper = Self(Command::new("sleep").arg("1000").spawn().unwrap());
            let path = format!("/proc/{}/syscall", sleeper.0.id());
            let nanosleep = format!("{} ", libc::SYS_clock_nanosleep);
            while !std::fs::read_to_string(&path).unwrap().starts_with(&nanosleep) {
                std::thread::yield_now();
            }
            sleeper
        }

        fn seize(&self) -> FrozenTask {
            FrozenTask::seize(HostPid::new(self.0.id().cast_signed())).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn shown(pid: HostPid) -> Vec<VmaEntry> {
        let mut refusals = Refusals::default();
        let mut known = MappedFiles::new().unwrap();
        let mut add = |_, _, _: &str, _: &mut Refusals| Ok(1);
        let look = capture::look(pid).unwrap();
        capture::vmas(pid, &look, &mut known, &mut add, &mut refusals).unwrap().0
    }

    fn begin<'a>(task: &'a FrozenTask, creation: &'a Creation) -> Early<'a> {
        Early::begin(task, creation, || 1).unwrap().expect("nothing of it is a device")
    }

    #[test]
    fn what_was_copied_early_is_what_would_have_been_copied() {
        let path = format!("/dev/shm/criu-early-{}", std::process::id());
        std::fs::create_dir_all(&path).unwrap();
        let dir = ImageDir::new(File::open(&path).unwrap().into());
        let creation = dir.begin().unwrap();
        let sleeper = Sleeper::start();
        let task = sleeper.seize();
        assert!(!Early::pays(&task).unwrap());
        let vmas = shown(task.pid);

        let mut spoilt = begin(&task, &creation);
        spoilt.spoil();
        assert!(spoilt.confirmed(&vmas).is_none());
        let is_heap = |vma: &VmaEntry| vma.status & status::HEAP != 0;
        let mut other = vmas.clone();
        other.retain(|vma| !is_heap(vma));
        assert!(begin(&task, &creation).confirmed(&other).is_none());
        // `maps` does not show locks, which forbid that the pages are lazy.
        let mut locked = vmas.clone();
        locked.iter_mut().filter(|vma| is_heap(vma)).for_each(|vma| vma.flags |= flags::LOCKED);
        assert!(begin(&task, &creation).confirmed(&locked).is_none());

        let early = begin(&task, &creation);
        let mut batches = 0;
        let over = || {
            batches += 1;
            batches > 1
        };
        early.copy(over).unwrap();
        let (pagemap, rest) = early.confirmed(&vmas).unwrap();
        assert!(runs::total(&pagemap) > 0);
        rest.copy(&mut Vec::new()).unwrap();
        let (size, crc) = creation.written("pages-1.img").unwrap();
        assert_eq!((size, crc.is_some()), (runs::total(&pagemap), true));
        let file = PageFiles::new(&dir, BTreeMap::new()).open(1).unwrap();
        for (index, run) in runs::by_vma(&pagemap, &vmas) {
            let (mut saved, mut there) = ([0; 4096], [0; 4096]);
            file.read_exact_at(&mut saved, run.offset).unwrap();
            task.memory().read_exact_at(&mut there, run.start).unwrap();
            assert_eq!(saved, there, "{:x} in {:?}", run.start, vmas[index]);
        }
        drop(creation);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
