//! Files that have lost the name by which they were opened, and that other names lead to: their
//! contents stay where they are, so that they are no [`ghost`](super::ghost)s.
//!
//! The dump gives such a file a link of its own beside the old name (`--link-remap`), one for each
//! inode. The restore opens the file by that link, under its old name for a moment, so that the
//! process sees "name (deleted)" as before; then it removes the link. A dump that does not come to
//! an end removes its links itself.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::context::DumpCx;
use super::ghost::under_free_name;
use super::kind::FileId;
use super::nameless::{Directory, split};
use super::opened::{Captured, Opened, without_deleted};
use super::paths::{self, Remapped};
use crate::error::{Error, Result};
use crate::images::proto::{RegFileEntry, RemapFilePathEntry, RemapType};
use crate::images::snapshot::Snapshot;
use crate::kernel::descriptor::own_path;
use crate::objects::place::Place;

/// The links that a dump has made. Dropped, it removes them.
#[derive(Debug, Default)]
pub struct Links {
    /// Directory and name.
    made: Vec<(OwnedFd, String)>,
    /// Ids of the files that the images know the links by.
    ids: HashMap<(u64, u64), FileId>,
}

impl Links {
    /// Leaves the links to the restore: the dump is whole.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (directory, name) in &self.made {
            let _ = unlinkat(directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Captures the file that file `id` leads to; the result is its old name.
pub(super) fn capture(file: &Opened, id: FileId, cx: &mut DumpCx<'_>) -> Captured<String> {
    let name = without_deleted(file.path()?).to_owned();
    if !cx.options.link_remap {
        let reason = "its name is gone but other names lead to it";
        let remedy = "let the dump link it to a temporary name beside the old one (--link-remap)";
        return Err(file.refuse(reason, remedy));
    }
    let inode = (file.stat.st_dev, file.stat.st_ino);
    let link_id = match cx.gathered.links.ids.get(&inode) {
        Some(known) => *known,
        None => {
            let made = make(file, Path::new(&name), cx)?;
            cx.gathered.links.ids.insert(inode, made);
            made
        }
    };
    cx.out.remaps.push(RemapFilePathEntry {
        orig_id: id,
        remap_id: link_id,
        remap_type: Some(RemapType::Linked as i32),
    });
    Ok(name)
}

/// Makes the link, and its entry in the images; the result is the entry's id.
fn make(file: &Opened, name: &Path, cx: &mut DumpCx<'_>) -> Captured<FileId> {
    let Some(path) = name.parent().filter(|parent| Place::in_tree(parent).exists()) else {
        return Err(file.refuse("its directory is gone, so that it cannot be linked", "close it"));
    };
    let directory = Place::in_tree(path).open(libc::O_PATH | libc::O_DIRECTORY)?;
    let (id, link) = loop {
        let id = cx.gathered.new_id();
        let link = format!("link_remap.{id}");
        // Not by AT_EMPTY_PATH, which takes CAP_DAC_READ_SEARCH.
        let inode = own_path(file.file.as_fd());
        match linkat(AT_FDCWD, inode.as_str(), &directory, &*link, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => break (id, link),
            // An earlier dump that left its tree running may still need the link of this name.
            Err(Errno::EEXIST) => {}
            Err(errno) => {
                let reason = format!("no link to it can be made in {}: {errno}", path.display());
                return Err(file.refuse(reason, "close it, or give it back its name"));
            }
        }
    };
    let text = path.join(&link).to_string_lossy().into_owned();
    cx.gathered.links.made.push((directory, link));
    cx.put(paths::entry_of(RegFileEntry { id, name: text, ..RegFileEntry::default() }));
    Ok(id)
}

/// Links the file to its old name while it is opened, so that it is known by it.
pub(super) fn open(snapshot: &Snapshot, link_id: u32, name: &Path) -> Result<OwnedFd> {
    let Some(link) = snapshot.path_entry(link_id) else {
        return Err(Error::image("remap-fpath.img", format!("link {link_id} is not there")));
    };
    let (beside, link) = split(Path::new(&link.name))?;
    let inode = Directory::open(beside)?.open_itself(link)?;
    let (parent, name) = split(name)?;
    let directory = Directory::make(parent)?;
    under_free_name(name, link_id, |name| directory.open_under(name, &inode))
}

/// Whether a dump gives this name to a file that was opened by the other one. A restore removes what
/// has the name, so that no other name may come from an image. CRIU makes its link further up where
/// the directory is gone.
pub(super) fn is_of_dump(link: &str, name: &str) -> bool {
    let number = link.rsplit_once("/link_remap.").map(|(_, number)| number);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (beside, name) = (Path::new(link).parent(), Path::new(name));
    let goes_up = || Path::new(link).components().any(|part| part == Component::ParentDir);
    number.is_some_and(is_number)
        && beside.is_some_and(|beside| name.parent().is_some_and(|dir| dir.starts_with(beside)))
        && !goes_up()
}

/// Removes the links that the dump has left to the restore, from the files that were opened.
pub(super) fn remove_all(snapshot: &Snapshot, remapped: &Remapped) -> Result<()> {
    for remap in &snapshot.remaps {
        if remap.remap_type != Some(RemapType::Linked as i32) {
            continue;
        }
        let link = snapshot.path_entry(remap.remap_id);
        if let (Some(link), Some(inode)) = (link, remapped.get(&remap.orig_id)) {
            let (beside, link) = split(Path::new(&link.name))?;
            match Directory::open(beside) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                directory => directory?.remove(link, inode)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{OpenFiles, RestoreOptions};
    use super::*;

    use crate::error::Kind;
    use std::fs::File;

    /// A file that was opened by `name`, which is gone, and is called `other`.
    fn renamed(scratch: &Scratch) -> OwnedFd {
        std::fs::write(scratch.path("name"), b"abc").unwrap();
        std::fs::hard_link(scratch.path("name"), scratch.path("other")).unwrap();
        let file: OwnedFd = File::open(scratch.path("name")).unwrap().into();
        std::fs::remove_file(scratch.path("name")).unwrap();
        file
    }

    fn names(scratch: &Scratch) -> Vec<String> {
        let entries = std::fs::read_dir(&scratch.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_lost_name_is_refused_or_linked() {
        let scratch = Scratch::new();
        let file = renamed(&scratch);
        let again: OwnedFd = File::open(scratch.path("other")).unwrap().into();
        let holder = hold(&[(5, &file), (6, &again)]);
        let strict = super::super::CollectorOptions::default();
        let text = capture_all(&holder, strict).unwrap_err().to_string();
        assert!(text.contains("its name is gone but other names lead to it"), "{text}");
        let (snapshot, collected) = capture_all(&holder, lenient()).unwrap();
        collected.links.keep();
        let restored = restore(&snapshot).unwrap();
        assert_eq!(link(&restored, 5), format!("{} (deleted)", scratch.path("name").display()));
        let ino = |file: &OwnedFd| nix::sys::stat::fstat(file).unwrap().st_ino;
        assert_eq!(ino(&copy_of(&restored, 5)), ino(&file));
        assert_eq!(ino(&copy_of(&restored, 6)), ino(&file));
        let files = OpenFiles::made(&snapshot, RestoreOptions::default()).unwrap();
        files.finish().unwrap();
        assert_eq!(names(&scratch), ["other"], "no link of ours stays");
    }

    #[test]
    fn an_image_names_no_other_file_to_be_removed() {
        let name = "/a/b/name";
        for link in ["/a/b/link_remap.5", "/a/link_remap.77", "/link_remap.1"] {
            assert!(is_of_dump(link, name), "{link}");
        }
        for link in [
            "/etc/passwd",
            "/a/b/other",
            "/a/b/link_remap.",
            "/a/b/link_remap.5/x",
            "/a/b/link_remap.-5",
            "/c/link_remap.5",
            "/a/b/c/link_remap.5",
            "/a/b/../b/link_remap.5",
            "link_remap.5",
        ] {
            assert!(!is_of_dump(link, name), "{link}");
        }
        let scratch = Scratch::new();
        let file = renamed(&scratch);
        let (mut snapshot, _collected) = capture_all(&hold(&[(5, &file)]), lenient()).unwrap();
        let id = snapshot.remaps[0].remap_id;
        let reg = snapshot.files.get_mut(&id).unwrap().reg.as_mut().unwrap();
        reg.name = scratch.path("other").to_str().unwrap().to_owned();
        let Err(error) = restore(&snapshot) else { panic!("it was removed") };
        assert!(error.to_string().contains("is no link that a dump makes"), "{error}");
    }

    #[test]
    fn a_link_that_leads_to_another_file_stays() {
        let scratch = Scratch::new();
        let file = renamed(&scratch);
        let (snapshot, collected) = capture_all(&hold(&[(5, &file)]), lenient()).unwrap();
        collected.links.keep();
        let files = OpenFiles::made(&snapshot, RestoreOptions::default()).unwrap();
        let link = scratch.path(names(&scratch).first().unwrap());
        std::fs::remove_file(&link).unwrap();
        std::fs::write(&link, b"another").unwrap();
        assert_eq!(files.finish().unwrap_err().kind(), Kind::Denied);
        assert!(link.exists());
    }

    #[test]
    fn a_dump_that_ends_early_leaves_no_link() {
        let scratch = Scratch::new();
        let file = renamed(&scratch);
        let holder = hold(&[(5, &file)]);
        let (_, collected) = capture_all(&holder, lenient()).unwrap();
        assert_eq!(names(&scratch).len(), 2);
        drop(collected);
        assert_eq!(names(&scratch), ["other"]);
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket: OwnedFd = socket.into();
        let holder = hold(&[(5, &file), (6, &socket)]);
        assert!(capture_all(&holder, lenient()).is_err());
        assert_eq!(names(&scratch), ["other"]);
    }

    #[test]
    fn one_inode_has_one_link_and_a_taken_name_is_left_alone() {
        let scratch = Scratch::new();
        let file = renamed(&scratch);
        let own = own_path(file.as_fd());
        let twice: OwnedFd = File::open(own).unwrap().into();
        for id in 1..20 {
            std::fs::write(scratch.path(&format!("link_remap.{id}")), b"another's").unwrap();
        }
        let holder = hold(&[(5, &file), (6, &twice)]);
        let (snapshot, collected) = capture_all(&holder, lenient()).unwrap();
        assert_eq!(names(&scratch).len(), 21);
        assert_eq!(snapshot.remaps.len(), 2);
        assert_eq!(snapshot.remaps[0].remap_id, snapshot.remaps[1].remap_id);
        drop(collected);
        assert_eq!(names(&scratch).len(), 20);
    }

    #[test]
    fn a_file_that_has_lost_all_names_is_a_ghost() {
        let scratch = Scratch::new();
        let file = renamed(&scratch);
        std::fs::rename(scratch.path("other"), scratch.path("moved")).unwrap();
        std::fs::remove_file(scratch.path("moved")).unwrap();
        let holder = hold(&[(5, &file)]);
        let strict = super::super::CollectorOptions::default();
        assert!(capture_all(&holder, strict).is_ok());
    }
}
