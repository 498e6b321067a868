//! What is worth showing of a dump.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::images::dir::{INVENTORY, ImageDir};
use crate::images::manifest::Manifest;
use crate::images::names::magic;
use crate::images::pid::TreePid;
use crate::images::proto::{FileEntry, PagemapEntry, StatsEntry, VmaEntry};
use crate::images::snapshot::{Pagemap, Snapshot, TaskImage};
use crate::kernel::PAGE_SIZE;
use crate::objects::files;
use crate::objects::memory::bits::{page, status};
use crate::objects::memory::runs;

const STATS: &str = "stats-dump";

/// What is known of a dump beside its messages.
#[derive(Debug, Default)]
pub struct About {
    pub path: String,
    /// When its inventory appeared.
    pub time: Option<SystemTime>,
    pub made_by: String,
    pub stats: Option<StatsEntry>,
    /// Why it is not what was written, if it is not.
    pub damage: Option<String>,
}

impl About {
    /// Looks at the files of `dir`.
    pub fn of(dir: &ImageDir) -> Self {
        let metadata = dir.open(INVENTORY).ok().and_then(|file| file.metadata().ok());
        let (made_by, damage) = match Manifest::load(dir) {
            Ok(None) => ("CRIU".to_owned(), None),
            Ok(Some(manifest)) => {
                (manifest.writer().to_owned(), manifest.check_all(dir).err().map(|e| e.to_string()))
            }
            Err(error) => ("libcriu".to_owned(), Some(error.to_string())),
        };
        Self {
            path: dir.path(),
            time: metadata.and_then(|metadata| metadata.modified().ok()),
            made_by,
            stats: stats(dir),
            damage,
        }
    }
}

fn stats(dir: &ImageDir) -> Option<StatsEntry> {
    use crate::images::codec::Decoder;
    let bytes = dir.try_read(STATS).ok()??;
    Decoder::new(STATS, &bytes, magic::STATS).ok()?.entry().ok()?
}

/// Bytes of a mapping, and of its pages in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub mapped: u64,
    /// In this dump.
    pub saved: u64,
    /// In a dump before this one.
    pub in_parent: u64,
}

impl Size {
    pub fn add(&mut self, more: Size) {
        self.mapped = self.mapped.saturating_add(more.mapped);
        self.saved = self.saved.saturating_add(more.saved);
        self.in_parent = self.in_parent.saturating_add(more.in_parent);
    }
}

/// A mapping.
#[derive(Debug)]
pub struct Mapping<'a> {
    pub vma: &'a VmaEntry,
    pub name: String,
    pub size: Size,
}

/// The mappings of a process, guards left out.
pub fn mappings<'a>(snapshot: &Snapshot, task: &'a TaskImage) -> Vec<Mapping<'a>> {
    let Some(mm) = &task.mm else { return Vec::new() };
    let vmas: Vec<&VmaEntry> = mm.vmas.iter().filter(|vma| !runs::is_guard(vma)).collect();
    let sizes = sizes(&vmas, task.pagemap.as_ref());
    let stack = mm.mm_start_stack;
    let named = vmas.into_iter().zip(sizes).map(|(vma, size)| Mapping {
        vma,
        name: name_of(snapshot, vma, stack),
        size,
    });
    named.collect()
}

fn name_of(snapshot: &Snapshot, vma: &VmaEntry, stack: u64) -> String {
    let has = |bit: u32| vma.status & bit != 0;
    let fixed = [
        (status::VDSO, "[vdso]"),
        (status::VVAR, "[vvar]"),
        (status::VSYSCALL, "[vsyscall]"),
        (status::HEAP, "[heap]"),
        (status::SYSVIPC, "System V shared memory"),
        (status::AIO_RING, "asynchronous I/O ring"),
        (status::SOCKET, "memory of a socket"),
    ];
    if let Some((_, name)) = fixed.iter().find(|(bit, _)| has(*bit)) {
        return (*name).to_owned();
    }
    if has(status::FILE_PRIVATE | status::FILE_SHARED) {
        let id = u32::try_from(vma.shmid).ok().filter(|id| snapshot.files.contains_key(id));
        return id.map_or_else(
            || format!("file {}", vma.shmid),
            |id| files::describe(snapshot, id).name,
        );
    }
    if has(status::ANON_SHARED) {
        return format!("shared memory {}", vma.shmid);
    }
    if (vma.start..vma.end).contains(&stack) { "[stack]".into() } else { "anonymous".into() }
}

/// Of ascending mappings; of others the sizes may be too small.
fn sizes(vmas: &[&VmaEntry], pagemap: Option<&Pagemap>) -> Vec<Size> {
    let length = |vma: &&VmaEntry| vma.end.saturating_sub(vma.start);
    let mut sizes: Vec<Size> =
        vmas.iter().map(|vma| Size { mapped: length(vma), ..Size::default() }).collect();
    let mut first = 0;
    for entry in pagemap.iter().flat_map(|pagemap| &pagemap.entries) {
        let end = end_of(entry);
        while first < vmas.len() && vmas[first].end <= entry.vaddr {
            first += 1;
        }
        let mut at = first;
        while at < vmas.len() && vmas[at].start < end {
            let bytes = end.min(vmas[at].end).saturating_sub(entry.vaddr.max(vmas[at].start));
            let flags = runs::page_flags(entry);
            let size = &mut sizes[at];
            if flags & page::PARENT != 0 {
                size.in_parent = size.in_parent.saturating_add(bytes);
            } else if flags & page::PRESENT != 0 {
                size.saved = size.saved.saturating_add(bytes);
            }
            // The next entry begins in this one at the earliest.
            first = at;
            at += 1;
        }
    }
    sizes
}

fn end_of(entry: &PagemapEntry) -> u64 {
    entry.vaddr.saturating_add(runs::page_count(entry).saturating_mul(PAGE_SIZE))
}

/// What all pages files hold, as the pagemaps say.
pub fn saved(snapshot: &Snapshot) -> u64 {
    let private = snapshot.tasks.values().filter_map(|task| task.pagemap.as_ref());
    private.chain(snapshot.shared_memory.values()).map(bytes).fold(0, u64::saturating_add)
}

/// What a pages file holds of a pagemap.
pub fn bytes(pagemap: &Pagemap) -> u64 {
    let entries = pagemap.entries.iter();
    let here = entries.filter(|entry| runs::page_flags(entry) & page::PRESENT != 0);
    here.fold(0, |sum: u64, entry| {
        sum.saturating_add(runs::page_count(entry).saturating_mul(PAGE_SIZE))
    })
}

/// An open file of a process.
#[derive(Debug)]
pub struct Open<'a> {
    pub fd: u32,
    pub on_exec: bool,
    pub file: Option<&'a FileEntry>,
    pub description: files::Description,
}

/// The descriptors of a process; of a shared table, those of everybody who shares it.
pub fn descriptors<'a>(snapshot: &'a Snapshot, task: &TaskImage) -> Vec<Open<'a>> {
    let table = task.ids.and_then(|ids| snapshot.descriptor_tables.get(&ids.files_id));
    let open = table.into_iter().flatten().map(|info| Open {
        fd: info.fd,
        on_exec: info.flags & libc::FD_CLOEXEC.cast_unsigned() == 0,
        file: snapshot.files.get(&info.id),
        description: files::describe(snapshot, info.id),
    });
    open.collect()
}

/// Children by parent, as indices of `snapshot.tree`, and the indices of those whose parent is
/// outside.
pub fn children(snapshot: &Snapshot) -> (HashMap<u32, Vec<usize>>, Vec<usize>) {
    let (mut children, mut roots) = (HashMap::<u32, Vec<usize>>::new(), Vec::new());
    for (index, entry) in snapshot.tree.iter().enumerate() {
        if index > 0 && snapshot.tasks.contains_key(&TreePid::new(entry.ppid)) {
            children.entry(entry.ppid).or_default().push(index);
        } else {
            roots.push(index);
        }
    }
    (children, roots)
}

/// The name of a process.
pub fn comm(task: &TaskImage) -> &str {
    task.core.tc.as_ref().map_or("", |tc| &tc.comm)
}

/// What a process was doing.
pub fn state(task: &TaskImage) -> String {
    use crate::images::snapshot::task_state::{ALIVE, DEAD, STOPPED};
    let tc = task.core.tc.as_ref();
    match tc.map(|tc| tc.task_state) {
        Some(ALIVE) => "alive".into(),
        Some(STOPPED) => "stopped".into(),
        Some(DEAD) => format!("zombie, wait status {}", tc.map_or(0, |tc| tc.exit_code)),
        Some(other) => format!("in the unknown state {other}"),
        None => "only memory".into(),
    }
}
