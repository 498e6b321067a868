//! Loads a [`Snapshot`] and checks that its parts fit together.
//!
//! Everything is checked before anything is started: sizes and checksums against the manifest of
//! our own dumps, framing and message contents by the decoder, references between messages here
//! and in the `validate` of each kind of object.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use prost::Message;

use super::codec::Decoder;
use super::dir::{INVENTORY, ImageDir};
use super::manifest::{Checked, Manifest};
use super::names::{self, magic};
use super::pages::PageFiles;
use super::proto::*;
use super::snapshot::{GhostFile, Pagemap, Snapshot, TaskImage};
use crate::error::{Error, Kind, Result};
use crate::kernel::threads::{Helper, Later};

/// Image version 1.1, the only one CRIU has written since 2015.
const IMAGE_VERSION: u32 = 2;
/// `task_state` of a zombie.
pub const TASK_DEAD: u32 = 2;
/// More processes or threads than Linux can have (PID_MAX_LIMIT).
const MAX_TASKS: usize = 4 << 20;
/// Bytes that the entries of one file may take in memory.
const MAX_DECODED: usize = 1 << 30;

/// A whole dump.
pub struct Dump {
    /// All but the pages.
    pub snapshot: Snapshot,
    /// The pages.
    pub pages: PageFiles,
    /// Whether they are as they were written, as far as that is looked at before a restore.
    pub checked: Later<()>,
}

/// Reads the whole directory.
pub fn read<'scope>(dir: &'scope ImageDir, helper: &Helper<'scope, '_>) -> Result<Dump> {
    // Before the manifest: where there is no dump at all, that is what is wrong.
    let files = |name: &str| dir.try_read(name);
    Load { files: &files, place: dir.path(), partly: false }.inventory()?;
    let manifest = Manifest::load(dir)?;
    let Checked { messages, pages: checked, unchecked } = match &manifest {
        Some(manifest) => manifest.check(dir, helper)?,
        None => Checked::nothing(),
    };
    let messages = RefCell::new(messages);
    // A file that was read to be compared with the manifest is not read once more; one that the
    // manifest does not name is not the dump's.
    let files = |name: &str| match messages.borrow_mut().remove(name) {
        Some(bytes) => Ok(Some(bytes)),
        None if manifest.as_ref().is_none_or(|manifest| manifest.names(name)) => dir.try_read(name),
        None => Ok(None),
    };
    let snapshot = read_files(&files, dir.path())?;
    Ok(Dump { snapshot, pages: PageFiles::new(dir, unchecked), checked })
}

/// Reads what is there, to look at and not to restore: whatever its manifest says of it, and
/// without the processes' own images where there are none, as in a pre-dump.
pub fn read_unchecked(dir: &ImageDir) -> Result<Snapshot> {
    let files = |name: &str| dir.try_read(name);
    Load { files: &files, place: dir.path(), partly: true }.snapshot()
}

/// Reads files of messages from anywhere: `files` gives the bytes of one, or none if there is no
/// such file; `place` says where they are, for messages.
pub fn read_files(
    files: &dyn Fn(&str) -> Result<Option<Vec<u8>>>,
    place: String,
) -> Result<Snapshot> {
    Load { files, place, partly: false }.snapshot()
}

struct Load<'a> {
    files: &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>,
    place: String,
    /// Processes may lack images of their own.
    partly: bool,
}

impl Load<'_> {
    fn snapshot(&self) -> Result<Snapshot> {
        let inventory = self.inventory()?;
        let mut tree = self.all::<PstreeEntry>(names::PSTREE, magic::PSTREE)?;
        let mut numbers = check_tree(&tree)?;
        let mut snapshot = Snapshot { inventory, ..Snapshot::default() };
        for entry in &mut tree {
            let task = self.task(entry, &mut numbers)?;
            if is_zombie(&task.core) {
                // CRIU leaves there what the memory held before.
                entry.threads = vec![0];
            }
            snapshot.tasks.insert(entry.pid, task);
        }
        snapshot.tree = tree;
        self.shared(&mut snapshot)?;
        Ok(snapshot)
    }

    /// A file's bytes; none if it is missing.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        (self.files)(name)
    }

    fn inventory(&self) -> Result<InventoryEntry> {
        let Some(bytes) = self.bytes(INVENTORY)? else {
            let cause =
                format!("{}: no dump in this directory ({INVENTORY} is missing)", self.place);
            return Err(
                Error::new(Kind::BadImages, cause).remedy("give the directory of a finished dump")
            );
        };
        let inventory = Decoder::inventory(INVENTORY, &bytes)?.entry::<InventoryEntry>()?;
        let inventory = inventory.ok_or_else(|| Error::image(INVENTORY, "has no entry"))?;
        if inventory.img_version != IMAGE_VERSION || inventory.fdinfo_per_id != Some(true) {
            let cause = format!("images of version {} are not supported", inventory.img_version);
            return Err(Error::image(INVENTORY, cause));
        }
        Ok(inventory)
    }

    /// All entries of a file that has to be there.
    fn all<M: Message + Default>(&self, name: &str, magic: u32) -> Result<Vec<M>> {
        match self.bytes(name)? {
            Some(bytes) => decode_all(name, &bytes, magic),
            None => Err(Error::new(
                Kind::BadImages,
                format!("{}: {name} is missing: the dump is not whole", self.place),
            )),
        }
    }

    /// All entries of a file that is left out when it would be empty.
    fn some<M: Message + Default>(&self, name: &str, magic: u32) -> Result<Vec<M>> {
        match self.bytes(name)? {
            Some(bytes) => decode_all(name, &bytes, magic),
            None => Ok(Vec::new()),
        }
    }

    fn optional<M: Message + Default>(&self, name: &str, magic: u32) -> Result<Option<M>> {
        Ok(self.some(name, magic)?.into_iter().next())
    }

    fn one<M: Message + Default>(&self, name: &str, magic: u32) -> Result<M> {
        self.all(name, magic)?.into_iter().next().ok_or_else(|| Error::image(name, "has no entry"))
    }

    fn task(&self, entry: &PstreeEntry, numbers: &mut HashSet<u32>) -> Result<TaskImage> {
        let pid = entry.pid;
        if self.partly && self.bytes(&names::core(pid))?.is_none() {
            let pagemap = self.bytes(&names::pagemap(pid))?;
            let decode = |bytes: Vec<u8>| decode_pagemap(&names::pagemap(pid), &bytes);
            let pagemap = pagemap.map(decode).transpose()?;
            return Ok(TaskImage { pagemap, ..TaskImage::default() });
        }
        let core: CoreEntry = self.one(&names::core(pid), magic::CORE)?;
        let Some(tc) = &core.tc else {
            return Err(Error::image(names::core(pid), "has no task part"));
        };
        if tc.task_state == TASK_DEAD {
            return Ok(TaskImage { core, ..TaskImage::default() });
        }
        check_threads(entry, numbers)?;
        let threads = entry
            .threads
            .iter()
            .filter(|tid| **tid != pid)
            .map(|&tid| Ok((tid, self.one(&names::core(tid), magic::CORE)?)))
            .collect::<Result<_>>()?;
        Ok(TaskImage {
            threads,
            ids: Some(self.task_ids(pid, &core)?),
            mm: Some(self.one(&names::mm(pid), magic::MM)?),
            fs: Some(self.one(&names::fs(pid), magic::FS)?),
            pagemap: Some(self.pagemap(&names::pagemap(pid))?),
            core,
        })
    }

    fn task_ids(&self, pid: u32, core: &CoreEntry) -> Result<TaskKobjIdsEntry> {
        match &core.ids {
            Some(ids) => Ok(*ids),
            None => self.one(&names::ids(pid), magic::IDS),
        }
    }

    fn pagemap(&self, name: &str) -> Result<Pagemap> {
        let bytes = self
            .bytes(name)?
            .ok_or_else(|| Error::image(name, "is missing: the dump is not whole"))?;
        decode_pagemap(name, &bytes)
    }

    fn shared(&self, snapshot: &mut Snapshot) -> Result<()> {
        for ids in snapshot.tasks.values().filter_map(|task| task.ids.as_ref()) {
            if let std::collections::btree_map::Entry::Vacant(free) =
                snapshot.descriptor_tables.entry(ids.files_id)
            {
                free.insert(self.some(&names::descriptors(ids.files_id), magic::FDINFO)?);
            }
        }
        snapshot.files = self.files()?;
        snapshot.pipe_data = self.with_payload(names::PIPES_DATA, magic::PIPES_DATA, pipe_len)?;
        snapshot.fifo_data = self.with_payload(names::FIFO_DATA, magic::FIFO_DATA, pipe_len)?;
        snapshot.socket_queues =
            self.with_payload(names::SK_QUEUES, magic::SK_QUEUES, |e: &SkPacketEntry| e.length)?;
        snapshot.tty_info = self.some(names::TTY_INFO, magic::TTY_INFO)?;
        snapshot.tty_data = self.some(names::TTY_DATA, magic::TTY_DATA)?;
        snapshot.remaps = self.some(names::REMAP_FPATH, magic::REMAP_FPATH)?;
        snapshot.memfd_inodes = self.some(names::MEMFD, magic::MEMFD_INODE)?;
        snapshot.file_locks = self.some(names::FILE_LOCKS, magic::FILE_LOCKS)?;
        snapshot.extras = self.some(names::TASK_EXTRAS, magic::TASK_EXTRAS)?;
        snapshot.cgroup = self.optional(names::CGROUP, magic::CGROUP)?;
        snapshot.seccomp = self.optional(names::SECCOMP, magic::SECCOMP)?;
        snapshot.cpuinfo = self.optional(names::CPUINFO, magic::CPUINFO)?;
        self.namespaces(snapshot)?;
        self.ghosts(snapshot)?;
        self.shared_memory(snapshot)
    }

    fn files(&self) -> Result<BTreeMap<u32, FileEntry>> {
        let mut files = BTreeMap::new();
        for file in self.some::<FileEntry>(names::FILES, magic::FILES)? {
            let id = file.id;
            if files.insert(id, file).is_some() {
                return Err(Error::image(names::FILES, format!("two files have the id {id}")));
            }
        }
        Ok(files)
    }

    fn with_payload<M: Message + Default>(
        &self,
        name: &str,
        magic: u32,
        len: impl Fn(&M) -> u32,
    ) -> Result<Vec<(M, Vec<u8>)>> {
        let Some(bytes) = self.bytes(name)? else { return Ok(Vec::new()) };
        let mut decoder = Decoder::new(name, &bytes, magic)?;
        let mut all = Vec::new();
        while let Some(entry) = decoder.entry::<M>()? {
            let payload = decoder.payload(len(&entry) as usize)?.to_vec();
            all.push((entry, payload));
        }
        Ok(all)
    }

    fn namespaces(&self, snapshot: &mut Snapshot) -> Result<()> {
        let root = snapshot.tasks[&snapshot.root().pid].ids.unwrap_or_default();
        for id in [Some(0), root.time_ns_id].into_iter().flatten() {
            let entry = self.optional(&names::timens(id), magic::TIMENS)?;
            snapshot.timens.extend(entry.map(|entry| (id, entry)));
        }
        if let Some(id) = root.uts_ns_id {
            let entry = self.optional(&names::utsns(id), magic::UTSNS)?;
            snapshot.utsns.extend(entry.map(|entry| (id, entry)));
        }
        if let Some(id) = root.ipc_ns_id {
            let entry = self.optional(&names::ipc_vars(id), magic::IPC_VAR)?;
            snapshot.ipc_vars.extend(entry.map(|entry| (id, entry)));
        }
        Ok(())
    }

    fn ghosts(&self, snapshot: &mut Snapshot) -> Result<()> {
        let is_ghost = |remap: &&RemapFilePathEntry| remap.remap_type() == RemapType::Ghost;
        for remap in snapshot.remaps.iter().filter(is_ghost) {
            let ghost = self.ghost(&names::ghost(remap.remap_id))?;
            snapshot.ghosts.insert(remap.remap_id, ghost);
        }
        Ok(())
    }

    fn ghost(&self, name: &str) -> Result<GhostFile> {
        let bytes = self.bytes(name)?.ok_or_else(|| Error::image(name, "is missing"))?;
        let mut decoder = Decoder::new(name, &bytes, magic::GHOST_FILE)?;
        let entry: GhostFileEntry =
            decoder.entry()?.ok_or_else(|| Error::image(name, "has no entry"))?;
        let mut chunks = Vec::new();
        if entry.chunks == Some(true) {
            while let Some(chunk) = decoder.entry::<GhostChunkEntry>()? {
                let len = usize::try_from(chunk.len)
                    .map_err(|_| Error::image(name, "a chunk's length is absurd"))?;
                chunks.push((chunk.off, decoder.payload(len)?.to_vec()));
            }
        } else if !decoder.rest().is_empty() {
            chunks.push((0, decoder.rest().to_vec()));
        }
        Ok(GhostFile { entry, chunks })
    }

    /// Contents of shared memory: of the mappings and memfds that some task refers to.
    fn shared_memory(&self, snapshot: &mut Snapshot) -> Result<()> {
        for shmid in referenced_shmids(snapshot) {
            let name = names::shared_pagemap(shmid);
            if let Some(bytes) = self.bytes(&name)? {
                snapshot.shared_memory.insert(shmid, decode_pagemap(&name, &bytes)?);
            }
        }
        Ok(())
    }
}

fn referenced_shmids(snapshot: &Snapshot) -> std::collections::BTreeSet<u64> {
    let mms = snapshot.tasks.values().filter_map(|task| task.mm.as_ref());
    let mapped = mms.flat_map(|mm| mm.vmas.iter().map(|vma| vma.shmid));
    let memfds = snapshot.memfd_inodes.iter().map(|inode| u64::from(inode.shmid));
    mapped.chain(memfds).filter(|shmid| *shmid != 0).collect()
}

fn pipe_len(entry: &PipeDataEntry) -> u32 {
    entry.bytes
}

/// A pagemap out of its bytes; `name` is for messages.
pub fn decode_pagemap(name: &str, bytes: &[u8]) -> Result<Pagemap> {
    let mut decoder = Decoder::new(name, bytes, magic::PAGEMAP)?;
    let head: PagemapHead = decoder.entry()?.ok_or_else(|| Error::image(name, "has no head"))?;
    Ok(Pagemap { pages_id: head.pages_id, entries: collect(name, decoder)? })
}

fn decode_all<M: Message + Default>(name: &str, bytes: &[u8], magic: u32) -> Result<Vec<M>> {
    collect(name, Decoder::new(name, bytes, magic)?)
}

/// The entries left. An empty one takes four bytes of its file, and many times that in memory: files
/// of nothing else, which may be sparse, are stopped.
fn collect<M: Message + Default>(name: &str, mut decoder: Decoder<'_>) -> Result<Vec<M>> {
    let most = MAX_DECODED / size_of::<M>();
    let mut entries = Vec::new();
    while let Some(entry) = decoder.entry()? {
        if entries.len() == most {
            return Err(Error::image(name, format!("has more than {most} entries")));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// One root, parents before children, no pid twice. Returns all pids.
fn check_tree(tree: &[PstreeEntry]) -> Result<HashSet<u32>> {
    let bad = |cause: String| Err(Error::image(names::PSTREE, cause));
    if tree.is_empty() {
        return bad("has no task".into());
    }
    let mut pids = HashSet::new();
    for entry in tree {
        if entry.pid == 0 || i32::try_from(entry.pid).is_err() {
            return bad(format!("{} is no pid", entry.pid));
        }
        let root = pids.is_empty();
        if !root && !pids.contains(&entry.ppid) {
            return bad(format!("pid {}: its parent {} is not in the tree", entry.pid, entry.ppid));
        }
        add_number(&mut pids, entry.pid)?;
    }
    Ok(pids)
}

/// No thread has a number that another one, or a process, has.
fn check_threads(entry: &PstreeEntry, numbers: &mut HashSet<u32>) -> Result<()> {
    let mut others = entry.threads.iter().filter(|tid| **tid != entry.pid);
    others.try_for_each(|tid| add_number(numbers, *tid))
}

fn add_number(numbers: &mut HashSet<u32>, number: u32) -> Result<()> {
    if numbers.insert(number) && numbers.len() <= MAX_TASKS {
        return Ok(());
    }
    let cause = format!("the number {number} stands for two tasks");
    Err(Error::image(names::PSTREE, cause))
}

fn is_zombie(core: &CoreEntry) -> bool {
    core.tc.as_ref().is_some_and(|tc| tc.task_state == TASK_DEAD)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn read(dir: &ImageDir) -> Result<Snapshot> {
        std::thread::scope(|scope| {
            let Dump { snapshot, checked, .. } = super::read(dir, &Helper::new(scope))?;
            checked.get().map(|()| snapshot)
        })
    }

    fn task(pid: u32, ppid: u32) -> PstreeEntry {
        PstreeEntry { pid, ppid, pgid: 1, sid: 1, threads: vec![pid] }
    }

    #[test]
    fn a_tree_has_one_root_and_no_number_twice() {
        assert!(check_tree(&[task(5, 0), task(6, 5), task(7, 6)]).is_ok());
        assert!(check_tree(&[]).is_err());
        assert!(check_tree(&[task(5, 0), task(6, 0)]).is_err());
        assert!(check_tree(&[task(5, 0), task(5, 5)]).is_err());
        assert!(check_tree(&[task(5, 0), task(6, 7), task(7, 5)]).is_err());
        let many = PstreeEntry { threads: vec![5, 6, 6], ..task(5, 0) };
        assert!(check_threads(&many, &mut HashSet::from([5])).is_err());
        let anothers = PstreeEntry { threads: vec![5, 7], ..task(5, 0) };
        assert!(check_threads(&anothers, &mut HashSet::from([5, 7])).is_err());
        assert!(check_threads(&anothers, &mut HashSet::from([5, 6])).is_ok());
    }

    #[test]
    fn what_crius_image_says_of_a_zombies_threads_is_not_read() {
        let (path, dir) = stored("garbage");
        let mut garbage = zombie(77);
        garbage.tree[0].threads = vec![80];
        super::super::write::write(&garbage, dir.begin().unwrap()).unwrap();
        assert_eq!(read(&dir).unwrap(), zombie(77));
        std::fs::remove_dir_all(path).unwrap();
    }

    fn zombie(pid: u32) -> Snapshot {
        let tc = TaskCoreEntry { task_state: TASK_DEAD, exit_code: 3, ..Default::default() };
        let core = CoreEntry { mtype: 1, tc: Some(tc), ..Default::default() };
        Snapshot {
            inventory: InventoryEntry {
                img_version: IMAGE_VERSION,
                fdinfo_per_id: Some(true),
                ..Default::default()
            },
            tree: vec![PstreeEntry { threads: vec![0], ..task(pid, 0) }],
            tasks: [(pid, TaskImage { core, ..Default::default() })].into(),
            ..Default::default()
        }
    }

    fn stored(name: &str) -> (std::path::PathBuf, ImageDir) {
        let path = std::env::temp_dir().join(format!("criu-read-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let fd: OwnedFd = std::fs::File::open(&path).unwrap().into();
        let dir = ImageDir::new(fd);
        super::super::write::write(&zombie(77), dir.begin().unwrap()).unwrap();
        (path, dir)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (path, dir) = stored("same");
        assert_eq!(read(&dir).unwrap(), zombie(77));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn missing_cut_and_altered_files_are_named() {
        for file in ["pstree.img", "core-77.img", "inventory.img"] {
            let (path, dir) = stored("torn");
            let target = path.join(file);
            let bytes = std::fs::read(&target).unwrap();
            std::fs::write(&target, &bytes[..bytes.len() - 1]).unwrap();
            assert!(read(&dir).unwrap_err().to_string().contains(file));
            let mut altered = bytes.clone();
            *altered.last_mut().unwrap() ^= 1;
            std::fs::write(&target, altered).unwrap();
            assert!(read(&dir).unwrap_err().to_string().contains(file));
            std::fs::remove_file(&target).unwrap();
            assert!(read(&dir).unwrap_err().to_string().contains(file));
            std::fs::remove_dir_all(path).unwrap();
        }
    }

    #[test]
    fn a_file_that_the_manifest_does_not_name_is_not_the_dumps() {
        let (path, dir) = stored("stranger");
        std::fs::write(path.join(names::CGROUP), b"not even an image").unwrap();
        read(&dir).unwrap();
        std::fs::remove_file(path.join("manifest")).unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains(names::CGROUP));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_neither_waited_for_nor_read() {
        let (path, dir) = stored("irregular");
        let target = path.join("pstree.img");
        std::fs::remove_file(path.join("manifest")).unwrap();
        std::fs::remove_file(&target).unwrap();
        nix::unistd::mkfifo(&target, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let text = read(&dir).unwrap_err().to_string();
        assert_eq!(text, "pstree.img: is no regular file");
        std::fs::remove_file(&target).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &target).unwrap();
        assert_eq!(read(&dir).unwrap_err().to_string(), text);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_dump_without_cores_may_be_looked_at_but_not_restored() {
        let (path, dir) = stored("pre-dump");
        std::fs::remove_file(path.join("core-77.img")).unwrap();
        std::fs::remove_file(path.join("manifest")).unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains("core-77.img is missing"));
        let snapshot = read_unchecked(&dir).unwrap();
        assert_eq!(snapshot.tasks[&77], TaskImage::default());
        std::fs::remove_dir_all(path).unwrap();
    }
}
