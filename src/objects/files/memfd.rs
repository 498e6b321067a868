//! Memory with a descriptor: name, owner, size, seals; each description's flags and position.
//!
//! The pages are shared memory and belong to the memory family, which finds them by `shmid` (the
//! inode number): [`Collector::shared_files`] and [`OpenFiles::shared_files`] are the border.
//! Seals come last, after filling and mapping: most would forbid those.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::SFlag;
use nix::unistd::{Gid, Uid};

use super::opened::{Captured, Opened, without_deleted};
use super::{Collector, OpenFiles};
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{FdTypes, FileEntry, MemfdFileEntry, MemfdInodeEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::{descriptor, mapping, memfd};

const PREFIX: &str = "/memfd:";
/// Name of shared anonymous memory, which is a memfd in all but that.
const SHARED_ANONYMOUS: &str = "/dev/zero";
const F_SEAL_SEAL: u32 = 1;
const MFD_HUGETLB: u32 = 4;

/// Shared memory behind a memfd, whose pages go into (or come from) the image as `shmid`.
#[derive(Debug)]
pub struct SharedFile {
    pub shmid: u64,
    pub file: OwnedFd,
    pub size: u64,
}

/// Memfds met so far.
#[derive(Debug, Default)]
pub(super) struct Captures {
    inodes: HashMap<u64, u64>,
    pending: Vec<SharedFile>,
}

impl Captures {
    pub(super) fn take(&mut self) -> Vec<SharedFile> {
        std::mem::take(&mut self.pending)
    }
}

pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    let named = file
        .link
        .to_str()
        .is_some_and(|link| link.starts_with(PREFIX) || link == "/dev/zero (deleted)");
    file.is(SFlag::S_IFREG) && named && file.stat.st_nlink == 0
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    let inode_id = match collector.memfds.inodes.get(&file.stat.st_ino) {
        Some(known) => *known,
        None => capture_inode(file, collector)?,
    };
    let memfd = MemfdFileEntry {
        id,
        flags: file.flags(),
        pos: file.info.pos,
        fown: file.owner,
        inode_id: inode_id as u32,
    };
    collector.put(FileEntry {
        r#type: FdTypes::Memfd as i32,
        id,
        memfd: Some(memfd),
        ..Default::default()
    });
    Ok(FdTypes::Memfd)
}

fn capture_inode(file: &Opened, collector: &mut Collector) -> Captured<u64> {
    let path = file.path()?;
    let path = without_deleted(path);
    let name = path.strip_prefix(PREFIX).unwrap_or(path).to_string();
    let source = super::open_for(descriptor::own_path(file.file.as_fd()).as_ref(), libc::O_RDONLY)?;
    let page = nix::sys::statfs::fstatfs(&source).doing(|| file.place.clone())?.block_size();
    if page > 4096 {
        return Err(file.refuse("memfds of huge pages are not carried", ""));
    }
    let seals = memfd::seals(&source).doing(|| format!("{}: read the seals", file.place))?;
    let inode_id = collector.memfds.inodes.len() as u64 + 1;
    let size = file.stat.st_size.cast_unsigned();
    collector.out.memfd_inodes.push(MemfdInodeEntry {
        name,
        uid: file.stat.st_uid,
        gid: file.stat.st_gid,
        size,
        shmid: file.stat.st_ino as u32,
        seals,
        inode_id,
        hugetlb_flag: None,
        mode: Some(file.stat.st_mode),
    });
    let shmid = u64::from(file.stat.st_ino as u32);
    collector.memfds.pending.push(SharedFile { shmid, file: source, size });
    collector.memfds.inodes.insert(file.stat.st_ino, inode_id);
    Ok(inode_id)
}

pub(super) fn validate(snapshot: &Snapshot) -> Result<()> {
    for inode in &snapshot.memfd_inodes {
        let wrong =
            |cause: &str| Err(Error::image("memfd.img", format!("{}: {cause}", inode.name)));
        if inode.hugetlb_flag.is_some_and(|flag| flag & MFD_HUGETLB != 0) {
            return wrong("memfds of huge pages are not restored");
        }
        if inode.name.contains('\0') || i64::try_from(inode.size).is_err() {
            return wrong("impossible name or size");
        }
    }
    for memfd in snapshot.files.values().filter_map(|file| file.memfd.as_ref()) {
        if !snapshot.memfd_inodes.iter().any(|inode| inode.inode_id == u64::from(memfd.inode_id)) {
            let cause = format!("memfd {} has no inode {}", memfd.id, memfd.inode_id);
            return Err(Error::image("memfd.img", cause));
        }
    }
    Ok(())
}

/// A memfd that has been made.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) file: OwnedFd,
    pub(super) shmid: u64,
    pub(super) size: u64,
    seals: u32,
    /// The description that memfd_create made has been given to a task.
    given: bool,
}

pub(super) type Inodes = BTreeMap<u64, Inode>;

/// Makes all memfds, empty.
pub(super) fn make_all(snapshot: &Snapshot) -> Result<Inodes> {
    let made = snapshot.memfd_inodes.iter().map(|entry| {
        let made = make(entry).map_err(|error| error.context(format!("memfd {}", entry.name)))?;
        Ok((entry.inode_id, made))
    });
    made.collect()
}

fn make(entry: &MemfdInodeEntry) -> Result<Inode> {
    let name = CString::new(entry.name.as_str())
        .map_err(|_| Error::image("memfd.img", "a name with a NUL in it"))?;
    let unsealable = entry.seals == F_SEAL_SEAL;
    let flags = if unsealable { 0 } else { libc::MFD_ALLOW_SEALING };
    let file = if unsealable && entry.name == SHARED_ANONYMOUS && entry.size > 0 {
        mapping::shared_anonymous(entry.size)?.into()
    } else {
        memfd::create(&name, flags | libc::MFD_CLOEXEC).doing(|| "memfd_create")?
    };
    nix::unistd::ftruncate(&file, entry.size.cast_signed()).doing(|| "set its size")?;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    nix::unistd::fchown(&file, Some(uid), Some(gid)).doing(|| "set its owner")?;
    if let Some(mode) = entry.mode {
        let mode = nix::sys::stat::Mode::from_bits_truncate(mode);
        nix::sys::stat::fchmod(&file, mode).doing(|| "set its mode")?;
    }
    let seals = if unsealable { 0 } else { entry.seals };
    Ok(Inode { file, shmid: entry.shmid.into(), size: entry.size, seals, given: false })
}

/// Makes one description. The first that can be written is the one memfd_create made: it alone can
/// be executed by descriptor.
pub(super) fn open(
    entry: &MemfdFileEntry,
    files: &OpenFiles<'_>,
    inodes: &mut Inodes,
) -> Result<OwnedFd> {
    let what = || format!("open memfd {} again", entry.inode_id);
    let Some(inode) = inodes.get_mut(&u64::from(entry.inode_id)) else {
        return Err(Error::new(Kind::Internal, what()));
    };
    let name =
        files.snapshot.memfd_inodes.iter().find(|one| one.inode_id == u64::from(entry.inode_id));
    if let Some(name) = name
        && let Some(inherited) = files.inherited(&format!("{PREFIX}{}", name.name))?
    {
        return Ok(inherited);
    }
    let flags = entry.flags.cast_signed();
    let made =
        if flags & libc::O_ACCMODE == libc::O_RDWR && !std::mem::replace(&mut inode.given, true) {
            let made = inode.file.try_clone().doing(what)?;
            super::set_status_flags(&made, entry.flags).doing(what)?;
            made
        } else {
            super::open_for(descriptor::own_path(inode.file.as_fd()).as_ref(), flags).doing(what)?
        };
    nix::unistd::lseek(&made, entry.pos.cast_signed(), nix::unistd::Whence::SeekSet).doing(what)?;
    Ok(made)
}

/// Opens a memfd to map it.
pub(super) fn open_to_map(entry: &MemfdFileEntry, inodes: &Inodes, flags: u32) -> Result<OwnedFd> {
    let what = || format!("open memfd {} to map it", entry.inode_id);
    let Some(inode) = inodes.get(&u64::from(entry.inode_id)) else {
        return Err(Error::new(Kind::Internal, what()));
    };
    super::open_for(descriptor::own_path(inode.file.as_fd()).as_ref(), flags.cast_signed())
        .doing(what)
}

/// Puts the seals on, after everything is filled and mapped.
pub(super) fn seal(inodes: &Inodes) -> Result<()> {
    for inode in inodes.values().filter(|inode| inode.seals != 0) {
        let what =
            || format!("seal the memfd of shared memory {} with {:#x}", inode.shmid, inode.seals);
        memfd::add_seals(&inode.file, inode.seals).doing(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn names_seals_and_descriptions_come_back() {
        let first = memfd::create(c"my memory", libc::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::write(&first, &[7; 5000]).unwrap();
        memfd::add_seals(&first, 2).unwrap();
        let path = descriptor::own_path(first.as_fd());
        let reader = super::super::open_for(path.as_ref(), libc::O_RDONLY).unwrap();
        let locked = memfd::create(c"locked", 0).unwrap();
        let holder = hold(&[(3, &first), (4, &reader), (5, &locked)]);
        let (snapshot, collected) = capture_all(&holder, lenient()).unwrap();
        let ino = nix::sys::stat::fstat(&first).unwrap().st_ino;
        assert_eq!(collected.shared.len(), 2);
        assert_eq!((collected.shared[0].shmid, collected.shared[0].size), (ino, 5000));
        drop(holder);
        let restored = restore(&snapshot).unwrap();
        assert_eq!(link(&restored, 3), "/memfd:my memory (deleted)");
        let again = copy_of(&restored, 3);
        assert_eq!(memfd::seals(&again), Ok(2));
        assert_eq!(memfd::seals(copy_of(&restored, 5)), Ok(F_SEAL_SEAL));
        let stat = nix::sys::stat::fstat(&again).unwrap();
        assert_eq!(stat.st_size, 5000);
        assert_eq!(nix::sys::stat::fstat(copy_of(&restored, 4)).unwrap().st_ino, stat.st_ino);
        let at = nix::unistd::lseek(&again, 0, nix::unistd::Whence::SeekCur).unwrap();
        assert_eq!(at, 5000);
    }
}
