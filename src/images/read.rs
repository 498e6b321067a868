//! Loads a [`Snapshot`] and checks that its parts fit together.
//!
//! Everything is checked before anything is started: sizes and checksums against the manifest of
//! our own dumps, framing and message contents by the decoder, references between messages here
//! and in the `validate` of each kind of object.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::codec::Decoder;
use super::dir::{ImageDir, Stream};
use super::forms::Format;
use super::manifest::{Checked, Manifest};
use super::pages::PageFiles;
use super::proto::*;
use super::sections::{Row, SECTIONS};
use super::snapshot::{Pagemap, Snapshot, TaskImage};
use crate::error::{Error, Kind, Result};
use crate::helper::{Helper, Later};

/// Image version 1.1, the only one CRIU has written since 2015.
const IMAGE_VERSION: u32 = 2;
/// More processes or threads than Linux can have (PID_MAX_LIMIT).
const MAX_TASKS: usize = 4 << 20;

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
    Load { files: &Stored::unchecked(dir), place: dir.path(), partly: false }.inventory()?;
    let manifest = Manifest::load(dir)?;
    let Checked { messages, pages: checked, unchecked } = match &manifest {
        Some(manifest) => manifest.check(dir, helper)?,
        None => Checked::nothing(),
    };
    let files = Stored { dir, manifest, messages: RefCell::new(messages) };
    let snapshot = read_files(&files, dir.path())?;
    Ok(Dump { snapshot, pages: PageFiles::new(dir, unchecked), checked })
}

/// Reads what is there, to look at and not to restore: whatever its manifest says of it, and
/// without the processes' own images where there are none, as in a pre-dump.
pub fn read_unchecked(dir: &ImageDir) -> Result<Snapshot> {
    Load { files: &Stored::unchecked(dir), place: dir.path(), partly: true }.snapshot()
}

/// Reads files of messages from anywhere; `place` says where they are, for messages.
pub fn read_files(files: &dyn Files, place: String) -> Result<Snapshot> {
    Load { files, place, partly: false }.snapshot()
}

/// What gives files by their names.
pub trait Files {
    /// The bytes of one, or none if there is no such file.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The same of a file that may be larger than memory; none as well if it is there already.
    fn stream(&self, _name: &str) -> Result<Option<Stream>> {
        Ok(None)
    }
}

impl<F: Fn(&str) -> Result<Option<Vec<u8>>>> Files for F {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self(name)
    }
}

/// Files of a directory.
struct Stored<'a> {
    dir: &'a ImageDir,
    manifest: Option<Manifest>,
    /// Those that were read to be compared with the manifest, which need not be read once more.
    messages: RefCell<HashMap<String, Vec<u8>>>,
}

impl<'a> Stored<'a> {
    fn unchecked(dir: &'a ImageDir) -> Self {
        Self { dir, manifest: None, messages: RefCell::default() }
    }

    /// What the manifest does not name is not the dump's.
    fn is_the_dumps(&self, name: &str) -> bool {
        self.manifest.as_ref().is_none_or(|manifest| manifest.names(name))
    }
}

impl Files for Stored<'_> {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.messages.borrow_mut().remove(name) {
            Some(bytes) => Ok(Some(bytes)),
            None if self.is_the_dumps(name) => self.dir.try_read(name),
            None => Ok(None),
        }
    }

    fn stream(&self, name: &str) -> Result<Option<Stream>> {
        if self.is_the_dumps(name) { self.dir.stream(name) } else { Ok(None) }
    }
}

/// Where the files come from.
pub struct Load<'a> {
    files: &'a dyn Files,
    place: String,
    /// Processes may lack images of their own.
    partly: bool,
}

impl Load<'_> {
    fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::load_first(self)?;
        let mut numbers = snapshot.tree.iter().map(|entry| entry.pid).collect();
        for entry in &mut snapshot.tree {
            let task = self.task(entry, &mut numbers)?;
            if task.core.is_zombie() {
                // CRIU leaves there what the memory held before.
                entry.threads = vec![0];
            }
            snapshot.tasks.insert(entry.tree_pid(), task);
        }
        snapshot.load_rest(self)?;
        Ok(snapshot)
    }

    /// A file; none if it is not there, none within if nothing is in it.
    pub(super) fn file<F: Format, I>(
        &self,
        row: &Row<F, I>,
        name: &str,
    ) -> Result<Option<Option<F::Value>>> {
        if F::STREAMED
            && let Some(stream) = self.files.stream(name)?
        {
            return F::decode(row.how, name, Decoder::stream(name, &stream, row.magic)?).map(Some);
        }
        let Some(bytes) = self.files.read(name)? else { return Ok(None) };
        F::decode(row.how, name, Decoder::new(name, &bytes, row.magic)?).map(Some)
    }

    /// A file without which the dump is not whole.
    pub(super) fn required<F: Format, I>(&self, row: &Row<F, I>, name: &str) -> Result<F::Value> {
        let missing = || {
            let cause = format!("{}: {name} is missing: the dump is not whole", self.place);
            Error::new(Kind::BadImages, cause)
        };
        let value = self.file(row, name)?.ok_or_else(missing)?;
        value.ok_or_else(|| Error::image(name, "has no entry"))
    }

    pub(super) fn inventory(&self) -> Result<InventoryEntry> {
        let name = SECTIONS.inventory.name();
        let Some(inventory) = self.file(&SECTIONS.inventory, name)? else {
            let cause = format!("{}: no dump in this directory ({name} is missing)", self.place);
            return Err(
                Error::new(Kind::BadImages, cause).remedy("give the directory of a finished dump")
            );
        };
        let inventory = inventory.ok_or_else(|| Error::image(name, "has no entry"))?;
        if inventory.img_version != IMAGE_VERSION || inventory.fdinfo_per_id != Some(true) {
            let cause = format!("images of version {} are not supported", inventory.img_version);
            return Err(Error::image(name, cause));
        }
        Ok(inventory)
    }

    fn task(&self, entry: &PstreeEntry, numbers: &mut HashSet<u32>) -> Result<TaskImage> {
        let pid = entry.tree_pid();
        let name = SECTIONS.core.of(pid);
        let core = match self.file(&SECTIONS.core, &name)? {
            None if self.partly => {
                let pagemap = self.file(&SECTIONS.pagemap, &SECTIONS.pagemap.of(pid))?.flatten();
                return Ok(TaskImage { pagemap, ..TaskImage::default() });
            }
            Some(Some(core)) => core,
            _ => self.required(&SECTIONS.core, &name)?,
        };
        if core.tc.is_none() {
            return Err(Error::image(name, "has no task part"));
        }
        if core.is_zombie() {
            return Ok(TaskImage { core, ..TaskImage::default() });
        }
        check_threads(entry, numbers)?;
        let threads = entry
            .tree_tids()
            .filter(|tid| *tid != pid)
            .map(|tid| Ok((tid, self.required(&SECTIONS.core, &SECTIONS.core.of(tid))?)))
            .collect::<Result<_>>()?;
        Ok(TaskImage { threads, ..TaskImage::load(self, pid, core)? })
    }
}

/// A pagemap out of its bytes; `name` is for messages.
pub fn decode_pagemap(name: &str, bytes: &[u8]) -> Result<Pagemap> {
    let file = Decoder::new(name, bytes, SECTIONS.pagemap.magic)?;
    Pagemap::decode((), name, file)?.ok_or_else(|| Error::image(name, "has no head"))
}

/// One root, parents before children, no pid twice.
pub(super) fn check_tree(tree: &[PstreeEntry]) -> Result<()> {
    let bad = |cause: String| Err(Error::image(SECTIONS.tree.name(), cause));
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
    Ok(())
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
    Err(Error::image(SECTIONS.tree.name(), cause))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::images::pid::TreePid;
    use crate::images::snapshot::task_state;

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
        let tc = TaskCoreEntry { task_state: task_state::DEAD, exit_code: 3, ..Default::default() };
        let core = CoreEntry { mtype: 1, tc: Some(tc), ..Default::default() };
        Snapshot {
            inventory: InventoryEntry {
                img_version: IMAGE_VERSION,
                fdinfo_per_id: Some(true),
                ..Default::default()
            },
            tree: vec![PstreeEntry { threads: vec![0], ..task(pid, 0) }],
            tasks: [(TreePid::new(pid), TaskImage { core, ..Default::default() })].into(),
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
        std::fs::write(path.join(SECTIONS.cgroup.name()), b"not even an image").unwrap();
        read(&dir).unwrap();
        std::fs::remove_file(path.join("manifest")).unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains(SECTIONS.cgroup.name()));
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
        assert_eq!(snapshot.tasks[&TreePid::new(77)], TaskImage::default());
        std::fs::remove_dir_all(path).unwrap();
    }
}
