//! Address spaces there and back, on the real kernel: a blank plays the dumpee, another blank is
//! made like it. As root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::smaps::Mapping;
use super::*;
use crate::args;
use crate::images::dir::ImageDir;
use crate::images::pages::PageFiles;
use crate::images::pid::TreePid;
use crate::images::proto::{FileEntry, MemfdFileEntry, RegFileEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteAddr;
use crate::objects::pids;
use crate::tracee::batch::Batch;
use crate::tracee::blank::tests::support::{HELPER, blank};

const BASE: u64 = 0x5000_0000_0000;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// A blank with memory, and where its checkpoint goes.
struct Scene {
    blank: Blank,
    path: PathBuf,
    dir: ImageDir,
    /// Files by id, as the engine would keep them.
    files: BTreeMap<u32, OwnedFd>,
}

impl Scene {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/dev/shm/criu-memory-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let dir = ImageDir::new(File::open(&path).unwrap().into());
        Self { blank: blank(), path, dir, files: BTreeMap::new() }
    }

    fn map(&mut self, page: u64, pages: u64, prot: i32, flags: i32, file: Option<(&File, u64)>) {
        let fd = match file {
            Some((file, _)) => self.blank.send_fds(&[file.as_fd()]).unwrap()[0].0,
            None => -1,
        };
        let mut batch = Batch::new();
        let offset = file.map_or(0, |(_, offset)| offset);
        let args = args![at(page), pages * 4096, prot, flags | libc::MAP_FIXED, fd, offset];
        batch.must("mmap", libc::SYS_mmap, args);
        batch.call(libc::SYS_close, args![fd]);
        self.blank.run(batch).unwrap();
    }

    fn call(&mut self, nr: libc::c_long, page: u64, pages: u64, arg: i32) {
        let mut batch = Batch::new();
        batch.must(format!("call {nr} {arg}"), nr, args![at(page), pages * 4096, arg]);
        self.blank.run(batch).unwrap();
    }

    fn put(&self, page: u64, bytes: &[u8]) {
        self.blank.memory().unwrap().write_all_at(bytes, at(page)).unwrap();
    }

    /// Captures and writes all but the helper area.
    fn dump(&mut self) -> (Snapshot, TreePid) {
        let pid = self.blank.pid();
        let mut refusals = Refusals::default();
        let mut snapshot = Snapshot::default();
        let files = &mut self.files;
        let entries = &mut snapshot.files;
        let mut add = |file: OwnedFd,
                       _: Option<crate::kernel::memory::Stretch>,
                       _: &str,
                       _: &mut Refusals| {
            let id = u32::try_from(files.len()).unwrap() + 1;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let name = std::fs::read_link(link).unwrap();
            let mut entry = FileEntry { id, ..FileEntry::default() };
            if name.to_string_lossy().contains("(deleted)") {
                entry.memfd = Some(MemfdFileEntry::default());
            } else {
                entry.reg = Some(RegFileEntry::default());
            }
            entries.insert(id, entry);
            files.insert(id, file);
            Ok(id)
        };
        let mut vmas = capture::vmas(
            pid,
            &capture::look(pid).unwrap(),
            &mut MappedFiles::new().unwrap(),
            &mut add,
            &mut refusals,
        )
        .unwrap()
        .0;
        refusals.check().unwrap();
        vmas.retain(|vma| vma.start != HELPER);
        let creation = self.dir.begin().unwrap();
        let memory = self.blank.memory().unwrap();
        let source = pages::Source { pid, memory, stack_pointers: &[] };
        let (pagemap, writing) = pages::Writing::begin(source, &vmas, &creation, 1).unwrap();
        writing.copy(&mut Vec::new()).unwrap();
        drop(writing);
        creation.commit(b"").unwrap();
        let task = TaskImage {
            mm: Some(MmEntry { vmas, ..MmEntry::default() }),
            pagemap: Some(pagemap),
            ..TaskImage::default()
        };
        snapshot.tasks.insert(pids::tree(pid), task);
        (snapshot, pids::tree(pid))
    }

    /// Writes a fresh blank after the images.
    fn restore(&self, snapshot: &Snapshot, pid: TreePid) -> Blank {
        let mut made = self.restore_unfinished(snapshot, pid);
        let mut open = |id, _| panic!("file {id} is not to be opened");
        Turn::take(&mut made, &[Phase::Advice], |phase, turn| {
            take(phase, &snapshot.tasks[&pid], &mut open, turn)
        })
        .unwrap();
        made
    }

    fn restore_unfinished(&self, snapshot: &Snapshot, pid: TreePid) -> Blank {
        let mut refusals = Refusals::default();
        validate(snapshot, pid, &mut refusals).unwrap();
        refusals.check().unwrap();
        check_stored(snapshot, &self.dir).unwrap();
        let task = &snapshot.tasks[&pid];
        let (mm, pagemap) = (task.mm.as_ref().unwrap(), task.pagemap.as_ref().unwrap());
        let mut made = blank();
        let mut open = |id: u32, access: u32| {
            let number = std::os::fd::AsRawFd::as_raw_fd(&self.files[&id]);
            let flags = access.cast_signed();
            let file = File::options()
                .read(flags != libc::O_WRONLY)
                .write(flags != libc::O_RDONLY)
                .open(format!("/proc/self/fd/{number}"))
                .unwrap();
            Ok(file.into())
        };
        map(&mut made, mm, pagemap, &mut open, &SharedObjects::default()).unwrap();
        let pages = Arc::new(page_file(&self.dir));
        fill(&mut made, mm, pagemap, &pages, &mut Copying::finish).unwrap();
        made
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn at(page: u64) -> u64 {
    BASE + page * 4096
}

fn layout(pid: HostPid) -> Vec<Mapping> {
    let file = File::open(format!("/proc/{pid}/smaps")).unwrap();
    smaps::parse(BufReader::new(file)).unwrap()
}

/// Both have the same VMAs with the same flags and the same pages.
fn assert_equal(left: &Blank, right: &Blank) {
    let (first, second) = (layout(left.pid()), layout(right.pid()));
    for (one, other) in first.iter().zip(&second) {
        assert_eq!(one, other);
    }
    assert_eq!(first.len(), second.len());
    let (one, other) = (left.memory().unwrap(), right.memory().unwrap());
    for mapping in
        first.iter().filter(|mapping| mapping.start >= BASE && mapping.name != "[vsyscall]")
    {
        if classify::is_vvar(mapping) {
            continue;
        }
        for page in (mapping.start..mapping.end).step_by(4096) {
            let (mut a, mut b) = ([0; 4096], [0; 4096]);
            let read =
                (one.read_exact_at(&mut a, page).ok(), other.read_exact_at(&mut b, page).ok());
            assert!(read.0 == read.1 && a == b, "page {page:x} of {mapping:?}: {read:?}");
        }
    }
}

fn pattern(pages: usize) -> Vec<u8> {
    (0..pages * 4096).map(|index| ((index * 31) >> 8) as u8 | 1).collect()
}

#[test]
fn every_kind_of_vma_comes_back_with_its_flags_and_pages() {
    let mut scene = Scene::new("kinds");
    let data = scene.path.join("data");
    std::fs::write(&data, pattern(16)).unwrap();
    let open = |write| File::options().read(true).write(write).open(&data).unwrap();
    let (read_only, writable) = (open(false), open(true));
    let zero = File::options().read(true).write(true).open("/dev/zero").unwrap();
    let shared = crate::kernel::mapping::shared_anonymous(16 * 4096).unwrap();
    scene.map(0, 16, RW, PRIVATE, None);
    scene.put(3, &pattern(2));
    scene.map(32, 16, libc::PROT_NONE, PRIVATE | libc::MAP_NORESERVE, None);
    scene.map(64, 16, RW, libc::MAP_PRIVATE, Some((&read_only, 0)));
    scene.put(65, &pattern(1));
    scene.call(libc::SYS_mprotect, 64, 4, libc::PROT_READ);
    scene.map(96, 4, RW, libc::MAP_SHARED, Some((&writable, 4096)));
    scene.map(128, 8, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, Some((&read_only, 0)));
    scene.map(160, 16, RW, libc::MAP_SHARED, Some((&shared, 0)));
    scene.put(163, &pattern(1));
    scene.map(192, 16, RW, libc::MAP_PRIVATE, Some((&zero, 0)));
    scene.put(193, &pattern(1));
    scene.map(224, 16, RW, PRIVATE | libc::MAP_GROWSDOWN, None);
    scene.put(239, &pattern(1));
    scene.map(256, 16, RW, PRIVATE | libc::MAP_LOCKED, None);
    scene.map(288, 16, RW, PRIVATE, None);
    scene.put(289, &pattern(2));
    scene.call(libc::SYS_madvise, 290, 4, 102);
    scene.call(libc::SYS_madvise, 288, 16, libc::MADV_DONTDUMP);
    scene.call(libc::SYS_madvise, 288, 16, libc::MADV_DONTFORK);
    scene.map(320, 16, RW, libc::MAP_ANONYMOUS | 8, None);
    scene.map(352, 16, RW, PRIVATE, None);
    scene.put(352, &pattern(16));
    scene.call(libc::SYS_mprotect, 352, 16, libc::PROT_NONE);
    scene.map(384, 4, RW, PRIVATE, None);
    scene.call(libc::SYS_madvise, 384, 4, libc::MADV_NOHUGEPAGE);
    scene.put(384, &pattern(1));
    scene.map(416, 4, RW, PRIVATE, None);
    let mut batch = Batch::new();
    batch.must("mlock2", libc::SYS_mlock2, args![at(416), 4 * 4096, 1]);
    scene.blank.run(batch).unwrap();
    scene.blank.map_vdso(RemoteAddr(at(1024))).unwrap();
    let (snapshot, pid) = scene.dump();
    let made = scene.restore(&snapshot, pid);
    assert_equal(&scene.blank, &made);
}

#[test]
fn much_memory_comes_back_by_userfaultfd() {
    let mut scene = Scene::new("much");
    let pages = 4096;
    scene.map(0, pages, RW, PRIVATE, None);
    for page in (0..pages).filter(|page| page % 7 != 0) {
        scene.put(page, &[page.to_le_bytes().as_slice(), &pattern(1)[8..]].concat());
    }
    scene.call(libc::SYS_mprotect, 512, 512, libc::PROT_READ);
    let (snapshot, pid) = scene.dump();
    let made = scene.restore(&snapshot, pid);
    assert_equal(&scene.blank, &made);
}

#[test]
fn a_dump_does_not_touch_absent_pages() {
    let mut scene = Scene::new("absent");
    scene.map(0, 64, RW, PRIVATE, None);
    scene.put(5, b"x");
    let resident = |pid: HostPid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    let before = resident(scene.blank.pid());
    let (snapshot, pid) = scene.dump();
    assert_eq!(resident(scene.blank.pid()), before);
    let pagemap = snapshot.tasks[&pid].pagemap.as_ref().unwrap();
    assert_eq!(runs::total(pagemap), 4096);
}

#[test]
fn the_address_space_gets_its_places_and_executable() {
    let mut made = blank();
    let exe = File::open("/proc/self/exe").unwrap();
    let mm = MmEntry {
        mm_start_code: 0x10_0000,
        mm_end_code: 0x10_1000,
        mm_start_data: 0x10_2000,
        mm_end_data: 0x10_3000,
        mm_start_brk: 0x20_0000,
        mm_brk: 0x20_0000,
        mm_start_stack: 0x30_0000,
        mm_arg_start: 0x30_0000,
        mm_arg_end: 0x30_0010,
        mm_env_start: 0x30_0010,
        mm_env_end: 0x30_0020,
        mm_saved_auxv: vec![6, 4096, 0, 0],
        ..MmEntry::default()
    };
    let image = TaskImage { mm: Some(mm.clone()), ..TaskImage::default() };
    let mut open = |_, _| Ok(exe.try_clone().unwrap().into());
    Turn::take(&mut made, &[Phase::Places], |phase, turn| take(phase, &image, &mut open, turn))
        .unwrap();
    let mut batch = Batch::new();
    let brk = batch.call(libc::SYS_brk, args![0]);
    assert_eq!(made.run(batch).unwrap().ret(brk), Ok(0x20_0000));
    let stat = crate::kernel::proc::stat_text(made.pid()).unwrap();
    let back = mm::capture(made.pid(), &stat, MmEntry::default(), 0, Vec::new()).unwrap();
    assert_eq!((back.mm_start_code, back.mm_env_end), (mm.mm_start_code, mm.mm_env_end));
    assert_eq!(back.mm_saved_auxv[..2], mm.mm_saved_auxv[..2]);
    let link = std::fs::read_link(format!("/proc/{}/exe", made.pid())).unwrap();
    assert_eq!(link, std::fs::read_link("/proc/self/exe").unwrap());
}

fn frames(blank: &Blank, page: u64, count: usize) -> Vec<u64> {
    let mut entries = vec![0; count];
    crate::kernel::pagemap::Pagemap::open(blank.pid())
        .unwrap()
        .read(at(page), &mut entries)
        .unwrap();
    entries.iter().map(|entry| entry & crate::kernel::pagemap::entry::FRAME).collect()
}

#[test]
fn a_child_shares_what_it_shared_and_differs_where_it_differed() {
    let mut scene = Scene::new("parent");
    scene.map(0, 32, RW, PRIVATE, None);
    scene.put(0, &pattern(16));
    scene.map(64, 8, RW, PRIVATE, None);
    scene.put(64, &pattern(8));
    scene.map(96, 8, RW, PRIVATE, None);
    scene.blank.map_vdso(RemoteAddr(at(1024))).unwrap();
    let (parent_image, parent_pid) = scene.dump();
    let mut child_scene = Scene::new("child");
    let spec = crate::tracee::blank::CloneSpec::new(None);
    child_scene.blank = scene.blank.clone_process(&spec).unwrap();
    child_scene.put(3, b"different");
    child_scene.put(20, b"more");
    child_scene.call(libc::SYS_madvise, 5, 1, libc::MADV_DONTNEED);
    child_scene.call(libc::SYS_mprotect, 64, 8, libc::PROT_READ);
    child_scene.call(libc::SYS_munmap, 96, 8, 0);
    child_scene.map(128, 8, RW, PRIVATE, None);
    child_scene.put(129, b"own");
    let (child_image, child_pid) = child_scene.dump();
    let (parent_task, child_task) =
        (&parent_image.tasks[&parent_pid], &child_image.tasks[&child_pid]);
    assert!(may_share(parent_task, child_task));

    let mut parent = scene.restore_unfinished(&parent_image, parent_pid);
    let mut child = parent.clone_process(&spec).unwrap();
    let (mut parent_pages, mut child_pages) =
        (pages_of(&scene.dir, parent_task), pages_of(&child_scene.dir, child_task));
    let mut open = |_: u32, _: u32| unreachable!("no files are mapped");
    inherit(
        &mut child,
        &mut saved(parent_task, &mut parent_pages),
        &mut saved(child_task, &mut child_pages),
        &mut open,
        &SharedObjects::default(),
    )
    .unwrap();
    let (theirs, ours) = (frames(&parent, 0, 32), frames(&child, 0, 32));
    for page in 0..32 {
        let shared = page < 16 && page != 3 && page != 5;
        assert_eq!(theirs[page] == ours[page] && ours[page] != 0, shared, "page {page}");
    }
    assert_eq!(frames(&parent, 64, 8), frames(&child, 64, 8));
    // Looking makes absent pages present: that comes last.
    assert_equal(&scene.blank, &parent);
    assert_equal(&child_scene.blank, &child);
}

#[test]
fn who_touches_a_page_too_early_waits_and_gets_it_from_the_image() {
    let mut scene = Scene::new("early");
    scene.map(0, 300, RW, PRIVATE, None);
    scene.put(0, &pattern(200));
    let (snapshot, pid) = scene.dump();
    let task = &snapshot.tasks[&pid];
    let (mm, pagemap) = (task.mm.as_ref().unwrap(), task.pagemap.as_ref().unwrap());
    let mut made = blank();
    let mut open = |_: u32, _: u32| unreachable!("no files are mapped");
    map(&mut made, mm, pagemap, &mut open, &SharedObjects::default()).unwrap();
    let pages = Arc::new(page_file(&scene.dir));
    let mut later = None;
    let mut copier = |copying| {
        later = Some(copying);
        Ok(())
    };
    fill(&mut made, mm, pagemap, &pages, &mut copier).unwrap();
    let copying = later.expect("so many pages are copied");
    let path = format!("/proc/{}/syscall", made.pid());
    let call = format!("{} ", libc::SYS_access);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !std::fs::read_to_string(&path).unwrap().starts_with(&call) {
                std::thread::yield_now();
            }
            copying.finish().unwrap();
        });
        let mut batch = Batch::new();
        for page in [150, 250] {
            batch.call(libc::SYS_access, args![at(page), 0]);
        }
        made.run(batch).unwrap();
    });
    assert_equal(&scene.blank, &made);
}

fn page_file(dir: &ImageDir) -> PageFile {
    PageFiles::new(dir, BTreeMap::new()).open(1).unwrap()
}

fn pages_of(dir: &ImageDir, task: &TaskImage) -> PageReader {
    PageReader::new(page_file(dir), task.pagemap.as_ref().unwrap(), Vec::new())
}

fn saved<'a>(task: &'a TaskImage, pages: &'a mut PageReader) -> Saved<'a> {
    Saved { mm: task.mm.as_ref().unwrap(), pagemap: task.pagemap.as_ref().unwrap(), pages }
}

/// Not a check but a measurement: `cargo test --release -- --ignored --nocapture rate_of`.
#[test]
#[ignore = "takes two GiB of memory and one of tmpfs"]
fn rate_of_filling() {
    let mut scene = Scene::new("rate");
    let pages = 1 << 18;
    scene.map(0, pages, RW, PRIVATE, None);
    (0..1024).for_each(|mib| scene.put(mib * 256, &pattern(256)));
    let begun = std::time::Instant::now();
    let (snapshot, pid) = scene.dump();
    let written = begun.elapsed();
    let mut rates = Vec::new();
    for _ in 0..4 {
        let begun = std::time::Instant::now();
        drop(scene.restore(&snapshot, pid));
        rates.push(1.074 / begun.elapsed().as_secs_f64());
    }
    eprintln!("dump {:.2} GB/s, restore and kill GB/s: {rates:.2?}", 1.074 / written.as_secs_f64());
}
