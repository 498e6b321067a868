//! Private pages: which of them hold something, and their way into the pages file.
//!
//! Only pages that are present or swapped out are read: reading another would create it. Pages
//! shared copy-on-write with another process are read through `/proc/PID/mem`, for
//! `process_vm_readv` pins pages, which copies such a page within the dumpee and ends the sharing.

use std::collections::BTreeSet;
use std::fs::File;
use std::vec;

use crate::error::{Context, Error, Kind, Result};
use crate::images::dir::Creation;
use crate::images::names;
use crate::images::proto::VmaEntry;
use crate::images::snapshot::Pagemap;
use crate::kernel::PAGE_SIZE;
use crate::kernel::memory::{self, RemoteIovec};
use crate::kernel::pagemap::{self, Region, Scan, category, entry};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteAddr;
use crate::progress;

use super::bits::{page, status};
use super::queue::{self, Queue};
use super::runs::{self, Builder, Run};
use super::vdso::Vdso;

/// A frozen process to read from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'m, 's> {
    pub pid: HostPid,
    /// `/proc/PID/mem`.
    pub memory: &'m File,
    /// Those of all threads. The process needs the pages that they point to as soon as it runs, so
    /// these are never lazy.
    pub stack_pointers: &'s [u64],
}

/// So many entries of the pagemap are read at a time, those of holes between runs included.
const WINDOW: u64 = 4096;

/// A pages file that is being written, by as many threads as take part.
#[derive(Debug)]
pub struct Writing<'a> {
    pid: HostPid,
    memory: &'a File,
    creation: &'a Creation,
    name: String,
    file: File,
    queue: Queue<vec::IntoIter<Run>>,
    total: u64,
}

impl<'a> Writing<'a> {
    /// Begins `pages-{pages_id}.img` and says what will stand in it.
    pub fn begin(
        source: Source<'a, '_>,
        vmas: &[VmaEntry],
        creation: &'a Creation,
        pages_id: u32,
    ) -> Result<(Pagemap, Self)> {
        let pagemap = find(source, vmas)?.finish(pages_id);
        let name = names::pages(pages_id);
        let file = creation.create(&name)?;
        let mut plain = Vec::new();
        for (index, run) in runs::by_vma(&pagemap, vmas) {
            let vma = &vmas[index];
            if vma.status & status::VDSO == 0 {
                plain.push(run);
            } else {
                let (bytes, at) = vdso(vma, run)?;
                creation.write_at(&file, &name, bytes, at)?;
            }
        }
        let total = runs::total(&pagemap);
        progress::expect(total);
        let queue = Queue::new(plain);
        let Source { pid, memory, .. } = source;
        Ok((pagemap, Self { pid, memory, creation, name, file, queue, total }))
    }

    /// A buffer for [`copy`](Self::copy), of the least size that it uses.
    pub fn buffer() -> Vec<u8> {
        // Zeros would leave the page faults to the first use.
        vec![1; queue::bounce(0)]
    }

    /// The process.
    pub fn pid(&self) -> HostPid {
        self.pid
    }

    /// Leaves nothing to copy but what threads have taken already.
    pub fn give_up(&self) {
        self.queue.clear();
    }

    /// Whether nothing is left that a thread could take.
    pub fn is_taken(&self) -> bool {
        self.queue.is_empty()
    }

    /// Copies what no other thread has taken. `buffer` may be used again.
    pub fn copy(&self, buffer: &mut Vec<u8>) -> Result<()> {
        self.copy_until(buffer, || false)
    }

    /// The same, until it is `over`.
    pub fn copy_until(&self, buffer: &mut Vec<u8>, over: impl FnMut() -> bool) -> Result<()> {
        let room = queue::bounce(self.total);
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let pagemap = pagemap::Pagemap::open(self.pid)?;
        self.queue.drain_until(&mut buffer[..room], over, |offset, batch, bytes| {
            if !(exclusive(&pagemap, batch)? && read_at_once(self.pid, batch, bytes)) {
                read_each(self.pid, self.memory, batch, bytes)?;
            }
            self.creation.write_at(&self.file, &self.name, bytes, offset)
        })
    }
}

/// How the pages of a VMA are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Anonymous,
    /// A private mapping of a file: pages that the process has changed are its own.
    File,
    Vdso,
}

/// How the pages of a VMA are found; none if they are not saved.
fn contents(vma: &VmaEntry) -> Option<Contents> {
    let saved = runs::is_private(vma) && !runs::is_guard(vma);
    saved.then_some(match vma.status {
        bits if bits & status::VDSO != 0 => Contents::Vdso,
        bits if bits & status::FILE_PRIVATE != 0 => Contents::File,
        _ => Contents::Anonymous,
    })
}

/// Whether the same pages would be saved of both lists of VMAs, and with the same flags.
pub fn are_saved_alike(one: &[VmaEntry], other: &[VmaEntry]) -> bool {
    let decisive =
        |vma: &VmaEntry| Some((contents(vma)?, vma.start, vma.end, runs::may_be_lazy(vma)));
    one.iter().filter_map(decisive).eq(other.iter().filter_map(decisive))
}

/// Finds the pages that are to be saved.
fn find(source: Source<'_, '_>, vmas: &[VmaEntry]) -> Result<Builder> {
    let pagemap = pagemap::Pagemap::open(source.pid)?;
    let hot: BTreeSet<u64> =
        source.stack_pointers.iter().map(|pointer| pointer & !(PAGE_SIZE - 1)).collect();
    let mut builder = Builder::default();
    for group in vmas.chunk_by(|one, next| contents(one) == contents(next)) {
        match contents(&group[0]) {
            None => {}
            Some(Contents::Vdso) => {
                group.iter().for_each(|vma| builder.add(vma.start, vma.end, page::PRESENT));
            }
            Some(kind) => find_in(&pagemap, group, kind, &hot, &mut builder)?,
        }
    }
    Ok(builder)
}

/// Finds the pages of neighbouring VMAs of one kind, by one scan.
///
/// To tell which pages are a file's own, the kernel has to look at each page, so that is asked only
/// about mappings of files.
fn find_in(
    pagemap: &pagemap::Pagemap,
    group: &[VmaEntry],
    kind: Contents,
    hot: &BTreeSet<u64>,
    builder: &mut Builder,
) -> Result<()> {
    let own = if kind == Contents::File { category::FILE } else { 0 };
    let scan = Scan {
        start: group[0].start,
        end: group[group.len() - 1].end,
        without: category::ZERO | category::GUARD | own,
        any_of: category::PRESENT | category::SWAPPED,
    };
    let mut at = 0;
    pagemap.scan(scan, |region: Region| {
        while group[at].end <= region.start {
            at += 1;
        }
        let reached = group[at..].iter().take_while(|vma| vma.start < region.end);
        for vma in reached {
            let start = region.start.max(vma.start);
            let end = region.end.min(vma.end);
            add_lazily(builder, vma, start, end, hot);
        }
    })
}

/// Adds pages of a VMA, as lazy ones if they may be lazy and no stack pointer is in them.
fn add_lazily(builder: &mut Builder, vma: &VmaEntry, start: u64, end: u64, hot: &BTreeSet<u64>) {
    if !runs::may_be_lazy(vma) {
        return builder.add(start, end, page::PRESENT);
    }
    let mut from = start;
    for &stack in hot.range(start..end) {
        if from < stack {
            builder.add(from, stack, page::PRESENT | page::LAZY);
        }
        builder.add(stack, stack + PAGE_SIZE, page::PRESENT);
        from = stack + PAGE_SIZE;
    }
    if from < end {
        builder.add(from, end, page::PRESENT | page::LAZY);
    }
}

/// The vDSO's code for a run of it, and where it stands in the pages file. A restore wants the vDSO
/// whole, to compare; it is taken from the engine's own, which is the same.
fn vdso(vma: &VmaEntry, run: Run) -> Result<(&'static [u8], u64)> {
    let own = Vdso::own()?.filter(|own| own.block.code_len == vma.end - vma.start);
    let own = own.ok_or_else(|| {
        Error::new(Kind::Refused, "the vDSO of the process is not that of the running kernel")
    })?;
    let from = usize::try_from(run.start - vma.start).expect("a few pages");
    let len = usize::try_from(run.len).expect("a few pages");
    Ok((&own.code[from..from + len], run.offset))
}

/// Whether all pages are mapped by this process alone.
fn exclusive(pagemap: &pagemap::Pagemap, batch: &[Run]) -> Result<bool> {
    const ALONE: u64 = entry::PRESENT | entry::EXCLUSIVE;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < batch.len() {
        let start = batch[at].start;
        let near = |run: &&Run| run.end() - start <= WINDOW * PAGE_SIZE;
        let window = &batch[at..at + batch[at..].iter().take_while(near).count().max(1)];
        at += window.len();
        let end = window[window.len() - 1].end();
        entries.resize(usize::try_from((end - start) / PAGE_SIZE).expect("a few thousand"), 0);
        pagemap.read(start, &mut entries)?;
        for run in window {
            let from = usize::try_from((run.start - start) / PAGE_SIZE).expect("in the window");
            let count = usize::try_from(run.len / PAGE_SIZE).expect("in the window");
            if entries[from..from + count].iter().any(|entry| entry & ALONE != ALONE) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Reads the runs of a batch by one system call; false if some page is protected against reading.
fn read_at_once(pid: HostPid, batch: &[Run], bytes: &mut [u8]) -> bool {
    let stretches: Vec<RemoteIovec> =
        batch.iter().map(|run| memory::remote_iovec(RemoteAddr(run.start), run.size())).collect();
    memory::readv(pid, bytes, &stretches) == Ok(bytes.len())
}

/// Reads the runs of a batch one by one through `/proc/PID/mem`, which disregards protection.
fn read_each(pid: HostPid, memory: &File, batch: &[Run], bytes: &mut [u8]) -> Result<()> {
    for (run, place) in queue::places(batch) {
        memory::read_forced(memory, RemoteAddr(run.start), &mut bytes[place])
            .doing(|| format!("read {:x}-{:x} of pid {pid}", run.start, run.end()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::dir::ImageDir;
    use crate::kernel::mapping::Anonymous;
    use crate::objects::memory::bits::flags;

    /// This process dumps a mapping of its own.
    struct Scratch {
        path: std::path::PathBuf,
        creation: Creation,
        memory: File,
    }

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::path::Path::new("/dev/shm");
            let path = path.join(format!("criu-pages-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let creation = ImageDir::new(File::open(&path).unwrap().into()).begin().unwrap();
            Self { path, creation, memory: File::open("/proc/self/mem").unwrap() }
        }

        fn write(&self, vmas: &[VmaEntry], stack_pointers: &[u64]) -> Pagemap {
            let pid = HostPid::own();
            let source = Source { pid, memory: &self.memory, stack_pointers };
            let (pagemap, writing) = Writing::begin(source, vmas, &self.creation, 1).unwrap();
            queue::share(writing.total, || writing.copy(&mut Vec::new())).unwrap();
            assert!(writing.is_taken());
            pagemap
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    fn vma(memory: &Anonymous, len: u64) -> VmaEntry {
        VmaEntry {
            start: memory.addr(),
            end: memory.addr() + len,
            status: status::REGULAR | status::ANON_PRIVATE,
            flags: flags::PRIVATE | flags::ANONYMOUS,
            ..VmaEntry::default()
        }
    }

    #[test]
    fn saves_exactly_the_written_pages() {
        let scratch = Scratch::new("exact");
        let memory = Anonymous::new(64 * PAGE_SIZE).unwrap();
        memory.write(0, &[1; 4096]);
        memory.write(10 * 4096, &[2; 3 * 4096]);
        memory.write(63 * 4096 + 7, &[3]);
        let stack = memory.addr() + 11 * PAGE_SIZE + 99;
        let pagemap = scratch.write(&[vma(&memory, 64 * PAGE_SIZE)], &[stack]);
        let page = |entry: &crate::images::proto::PagemapEntry| {
            ((entry.vaddr - memory.addr()) / PAGE_SIZE, runs::page_count(entry), entry.flags)
        };
        let found: Vec<_> = pagemap.entries.iter().map(page).collect();
        let (lazy, hot) = (Some(6), Some(4));
        assert_eq!(
            found,
            [(0, 1, lazy), (10, 1, lazy), (11, 1, hot), (12, 1, lazy), (63, 1, lazy)]
        );
        let bytes = std::fs::read(scratch.path.join("pages-1.img")).unwrap();
        assert_eq!(bytes.len(), 5 * 4096);
        assert!(bytes[..4096].iter().all(|byte| *byte == 1));
        assert!(bytes[4096..4 * 4096].iter().all(|byte| *byte == 2));
        assert_eq!((bytes[4 * 4096 + 7], bytes[4 * 4096 + 8]), (3, 0));
    }

    #[test]
    fn large_and_scattered_memory_arrives_in_order() {
        let scratch = Scratch::new("large");
        let pages = 4096;
        let memory = Anonymous::new(pages * PAGE_SIZE).unwrap();
        let written: Vec<u64> = (0..pages).filter(|page| page % 8 != 3 && page % 5 != 0).collect();
        for page in &written {
            memory.write(usize::try_from(page * PAGE_SIZE).unwrap(), &page.to_le_bytes());
        }
        let pagemap = scratch.write(&[vma(&memory, pages * PAGE_SIZE)], &[]);
        let bytes = std::fs::read(scratch.path.join("pages-1.img")).unwrap();
        assert_eq!(bytes.len(), written.len() * 4096);
        for (saved, page) in bytes.chunks_exact(4096).zip(&written) {
            assert_eq!(saved[..8], page.to_le_bytes());
        }
        assert_eq!(runs::of(&pagemap).map(|run| run.len).sum::<u64>() as usize, bytes.len());
    }

    #[test]
    fn the_vdso_is_saved_whole_and_in_its_place() {
        let scratch = Scratch::new("vdso");
        let own = Vdso::own().unwrap().unwrap();
        let low = Anonymous::new(PAGE_SIZE).unwrap();
        let high = Anonymous::new(PAGE_SIZE).unwrap();
        low.write(0, &[7]);
        high.write(0, &[8]);
        let code = own.block.start + own.block.data_len;
        let mut vdso = vma(&low, PAGE_SIZE);
        vdso.status |= status::VDSO;
        (vdso.start, vdso.end) = (code, code + own.block.code_len);
        let mut vmas = vec![vma(&low, PAGE_SIZE), vma(&high, PAGE_SIZE), vdso];
        vmas.sort_by_key(|vma| vma.start);
        let pagemap = scratch.write(&vmas, &[]);
        let bytes = std::fs::read(scratch.path.join("pages-1.img")).unwrap();
        let run = runs::of(&pagemap).find(|run| run.start == code).unwrap();
        let at = usize::try_from(run.offset).unwrap();
        assert_eq!(bytes[at..at + own.code.len()], own.code);
        assert_eq!(bytes.len(), own.code.len() + 2 * 4096);
    }

    /// Not a check but a measurement: `cargo test --release -- --ignored --nocapture rate_of`.
    #[test]
    #[ignore = "takes a GiB of memory and as much of tmpfs"]
    fn rate_of_writing() {
        let len = 1 << 30;
        let memory = Anonymous::new(len).unwrap();
        let block = vec![5; 1 << 20];
        (0..1024).for_each(|mib| memory.write(mib << 20, &block));
        let (mut rates, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let scratch = Scratch::new("rate");
            let begun = std::time::Instant::now();
            scratch.write(&[vma(&memory, len)], &[]);
            rates.push(len as f64 / begun.elapsed().as_secs_f64() / 1e9);
            let file = scratch.creation.create("plain").unwrap();
            let begun = std::time::Instant::now();
            (0..1024)
                .for_each(|mib| scratch.creation.write_at(&file, "", &block, mib << 20).unwrap());
            plain.push(len as f64 / begun.elapsed().as_secs_f64() / 1e9);
        }
        eprintln!("GB/s: {rates:.2?}; a plain write() of one buffer: {plain:.2?}");
    }
}
