//! Memory with a descriptor. The inode has name, owner, mode, size and seals; each open file
//! description has flags and a position.
//!
//! The pages are shared memory, which the memory family stores and restores by its `shmid`, the
//! inode number; it is given each memfd as a [`SharedFile`]. Seals are put on last, since most of
//! them would forbid to fill and to map the memfd.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::sys::stat::SFlag;
use nix::unistd::{Gid, Uid};

use super::context::{DumpCx, RestoreCx, SharedFile};
use super::describe::Description;
use super::kind::{Blanks, FileId, FileKind, Step, held_as};
use super::opened::{Captured, Opened, without_deleted};
use super::set_status_flags;
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{FdTypes, FownEntry, MemfdFileEntry, MemfdInodeEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::{mapping, memfd};
use crate::objects::phases::Phase;
use crate::objects::place::reopen;

const PREFIX: &str = "/memfd:";
/// The name of shared anonymous memory, which is otherwise as a memfd.
const SHARED_ANONYMOUS: &str = "/dev/zero";
const F_SEAL_SEAL: u32 = 1;
const MFD_HUGETLB: u32 = 4;

pub(super) struct Memfd;

impl FileKind for Memfd {
    const TYPE: FdTypes = FdTypes::Memfd;
    const NAME: &'static str = "memfd";
    type Entry = MemfdFileEntry;
    /// The image's inode ids, by inode number.
    type Met = HashMap<u64, u64>;
    /// By the image's inode id.
    type Made = BTreeMap<u64, Inode>;
    held_as!(memfd);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        let named = file
            .link
            .to_str()
            .is_some_and(|link| link.starts_with(PREFIX) || link == "/dev/zero (deleted)");
        file.is(SFlag::S_IFREG) && named && file.stat.st_nlink == 0
    }

    fn capture(
        file: &Opened,
        id: FileId,
        met: &mut HashMap<u64, u64>,
        cx: &mut DumpCx<'_>,
    ) -> Captured<MemfdFileEntry> {
        let inode_id = match met.get(&file.stat.st_ino) {
            Some(known) => *known,
            None => {
                let new = met.len() as u64 + 1;
                capture_inode(file, new, cx)?;
                met.insert(file.stat.st_ino, new);
                new
            }
        };
        Ok(MemfdFileEntry {
            id,
            flags: file.flags(),
            pos: file.info.pos,
            fown: file.owner,
            inode_id: inode_id as u32,
        })
    }

    fn validate(entry: &MemfdFileEntry, all: &Snapshot) -> Result<()> {
        inode(entry, all).map(drop)
    }

    fn validate_all(all: &Snapshot) -> Result<()> {
        for inode in &all.memfd_inodes {
            let wrong =
                |cause: &str| Err(Error::image("memfd.img", format!("{}: {cause}", inode.name)));
            if inode.hugetlb_flag.is_some_and(|flag| flag & MFD_HUGETLB != 0) {
                return wrong("memfds of huge pages are not restored");
            }
            if inode.name.contains('\0') || i64::try_from(inode.size).is_err() {
                return wrong("impossible name or size");
            }
        }
        Ok(())
    }

    /// The first that can be written is the open file description that memfd_create made, which
    /// alone can be executed by its descriptor.
    fn open(
        entry: &MemfdFileEntry,
        made: &mut BTreeMap<u64, Inode>,
        cx: &RestoreCx<'_>,
    ) -> Result<Option<OwnedFd>> {
        let what = || format!("open memfd {} again", entry.inode_id);
        let name = &inode(entry, cx.snapshot)?.name;
        if let Some(inherited) = cx.inherited(&format!("{PREFIX}{name}"))? {
            return Ok(Some(inherited));
        }
        let Some(inode) = made.get_mut(&u64::from(entry.inode_id)) else {
            return Err(Error::new(Kind::Internal, what()));
        };
        let flags = entry.flags.cast_signed();
        let writable = flags & libc::O_ACCMODE == libc::O_RDWR;
        let file = if writable && !std::mem::replace(&mut inode.given, true) {
            let made = inode.file.try_clone().doing(what)?;
            set_status_flags(&made, entry.flags).doing(what)?;
            made
        } else {
            reopen(&inode.file, flags).doing(what)?
        };
        let pos = entry.pos.cast_signed();
        nix::unistd::lseek(&file, pos, nix::unistd::Whence::SeekSet).doing(what)?;
        Ok(Some(file))
    }

    fn open_to_map(
        entry: &MemfdFileEntry,
        made: &BTreeMap<u64, Inode>,
        _: &RestoreCx<'_>,
        flags: u32,
    ) -> Option<Result<OwnedFd>> {
        let what = || format!("open memfd {} to map it", entry.inode_id);
        Some(match made.get(&u64::from(entry.inode_id)) {
            Some(inode) => reopen(&inode.file, flags.cast_signed()).doing(what),
            None => Err(Error::new(Kind::Internal, what())),
        })
    }

    const STEPS: &'static [(Phase, Step<Self::Made>)] = &[
        (Phase::Inodes, Step::Tree(make_all)),
        (Phase::SharedMemory, Step::Tree(share)),
        (Phase::Seals, Step::Tree(seal)),
    ];

    fn owner<'a>(entry: &'a MemfdFileEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &MemfdFileEntry, all: &Snapshot) -> Description {
        let name = inode(entry, all).map(|inode| format!("{PREFIX}{}", inode.name));
        Description::named(name.unwrap_or_default()).opened_with(entry.flags)
    }
}

fn capture_inode(file: &Opened, inode_id: u64, cx: &mut DumpCx<'_>) -> Captured<()> {
    let path = without_deleted(file.path()?);
    let name = path.strip_prefix(PREFIX).unwrap_or(path).to_string();
    let page = nix::sys::statfs::fstatfs(&file.file).doing(|| file.place.clone())?.block_size();
    if page > 4096 {
        return Err(file.refuse("memfds of huge pages are not carried", ""));
    }
    // Holes are looked for in it, which moves the position of an open file description.
    let source = file.open_again(libc::O_RDONLY)?;
    let seals = memfd::seals(&source).doing(|| format!("{}: read the seals", file.place))?;
    let size = file.stat.st_size.cast_unsigned();
    cx.out.memfd_inodes.push(MemfdInodeEntry {
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
    cx.gathered.shared.push(SharedFile { shmid, file: source, size });
    Ok(())
}

/// The image's message of what is behind a memfd.
fn inode<'a>(entry: &MemfdFileEntry, all: &'a Snapshot) -> Result<&'a MemfdInodeEntry> {
    let mut inodes = all.memfd_inodes.iter();
    inodes.find(|inode| inode.inode_id == u64::from(entry.inode_id)).ok_or_else(|| {
        Error::image("memfd.img", format!("memfd {} has no inode {}", entry.id, entry.inode_id))
    })
}

/// A memfd that has been made.
#[derive(Debug)]
pub(super) struct Inode {
    file: OwnedFd,
    shmid: u64,
    size: u64,
    seals: u32,
    /// Whether the open file description that memfd_create made is some entry's already.
    given: bool,
}

/// Makes all memfds, empty.
fn make_all(made: &mut BTreeMap<u64, Inode>, cx: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
    for entry in &cx.snapshot.memfd_inodes {
        let inode = make(entry).map_err(|error| error.context(format!("memfd {}", entry.name)))?;
        made.insert(entry.inode_id, inode);
    }
    Ok(())
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

/// Offers all memfds to be filled. Each gets an open file description of its own for that: on the
/// task's, O_APPEND would make writes ignore offsets.
fn share(made: &mut BTreeMap<u64, Inode>, cx: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
    for inode in made.values() {
        let file = reopen(&inode.file, libc::O_RDWR).doing(|| "open a memfd to fill it")?;
        cx.shared.push(SharedFile { shmid: inode.shmid, file, size: inode.size });
    }
    Ok(())
}

/// Puts the seals on.
fn seal(made: &mut BTreeMap<u64, Inode>, _: &mut RestoreCx<'_>, _: &mut Blanks) -> Result<()> {
    for inode in made.values().filter(|inode| inode.seals != 0) {
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
        let reader = reopen(&first, libc::O_RDONLY).unwrap();
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
