//! Capture of an address space's layout: one `vma_entry` for each VMA, one for each range of
//! guard pages.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::stat::SFlag;

use crate::error::{Context, Refusals, Result};
use crate::images::proto::VmaEntry;
use crate::kernel::descriptor;
use crate::kernel::memory::Stretch;
use crate::kernel::pagemap::{Pagemap, Scan, category};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteAddr;

use super::bits::status;
use super::classify::{self, Backing};
use super::smaps::{self, Mapping};

/// Gives the id of a mapped file. Its arguments are the descriptor (opened `O_PATH`, or for reading if it
/// is a memfd or shared anonymous memory), where its beginning is mapped, and where it was met.
pub type AddFile<'a> = dyn FnMut(OwnedFd, Option<Stretch>, &str, &mut Refusals) -> Result<u32> + 'a;

/// End of the addresses a process may use.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
const DEV_ZERO: u64 = libc::makedev(1, 5);

/// Describes all VMAs of a frozen process, and estimates how many bytes in them are its own. What cannot
/// be carried is added to `refusals`.
pub fn vmas(
    pid: HostPid,
    mappings: &[Mapping],
    known: &mut MappedFiles,
    add_file: &mut AddFile<'_>,
    refusals: &mut Refusals,
) -> Result<(Vec<VmaEntry>, u64)> {
    let mut capture = Capture { pid, mappings, add_file, refusals, known, entries: Vec::new() };
    for mapping in mappings {
        capture.add(mapping)?;
    }
    let mut entries = capture.entries;
    add_guards(pid, &mut entries)?;
    let own_kib: u64 = mappings.iter().map(|mapping| mapping.own_kib).sum();
    Ok((entries, own_kib << 10))
}

/// What the kernel shows of the VMAs of a process.
pub fn look(pid: HostPid) -> Result<Vec<Mapping>> {
    let path = format!("/proc/{pid}/smaps");
    let file = File::open(&path).doing(|| format!("open {path}"))?;
    // The kernel gives no more than a page by one call.
    smaps::parse(BufReader::with_capacity(4096, file))
}

/// Device, inode and name of a mapped file.
type Key = ((u32, u32), u64, String);

/// The mapped files of a tree, which lives in one mount namespace: its processes map the same
/// libraries.
#[derive(Debug)]
pub struct MappedFiles {
    /// The id of each file, and whether it is memory. The name is in the key to tell hard links apart.
    ids: HashMap<Key, (u32, bool)>,
    /// Device number of memfds and shared anonymous memory.
    mount: u64,
}

impl MappedFiles {
    /// No file is known yet.
    pub fn new() -> Result<Self> {
        Ok(Self { ids: HashMap::new(), mount: memfd_mount()? })
    }
}

struct Capture<'a, 'f> {
    pid: HostPid,
    mappings: &'a [Mapping],
    add_file: &'a mut AddFile<'f>,
    refusals: &'a mut Refusals,
    known: &'a mut MappedFiles,
    entries: Vec<VmaEntry>,
}

impl Capture<'_, '_> {
    fn add(&mut self, mapping: &Mapping) -> Result<()> {
        if let Some(why) = classify::refusal(mapping) {
            self.refuse(mapping, why.reason, why.remedy);
            return Ok(());
        }
        if !classify::has_file(mapping) {
            self.add_anonymous(mapping);
            return Ok(());
        }
        if let Some(backing) = self.backing(mapping)? {
            self.entries.push(classify::of_file(mapping, backing));
        }
        Ok(())
    }

    fn refuse(&mut self, mapping: &Mapping, reason: &str, remedy: &str) {
        let object = match mapping.name.as_str() {
            "" => "anonymous memory",
            name => name,
        };
        self.refusals.refuse(mapping.place(self.pid), object, reason, remedy);
    }

    /// Adds a VMA without a file. Several VMAs with data of the vDSO become one entry of the image.
    fn add_anonymous(&mut self, mapping: &Mapping) {
        let entry = classify::anonymous(mapping);
        match self.entries.last_mut() {
            Some(last)
                if classify::is_vvar(mapping)
                    && last.status & status::VVAR != 0
                    && last.end == entry.start =>
            {
                last.end = entry.end;
            }
            _ => self.entries.push(entry),
        }
    }

    fn backing(&mut self, mapping: &Mapping) -> Result<Option<Backing>> {
        let path = format!("/proc/{}/map_files/{:x}-{:x}", self.pid, mapping.start, mapping.end);
        let access = if mapping.shared { access(&path)? } else { libc::O_RDONLY };
        let key = (mapping.device, mapping.inode, mapping.name.clone());
        let (file_id, memfd) = match self.known.ids.get(&key) {
            Some(known) => *known,
            None => match self.new_file(mapping, &path)? {
                Some(new) => *self.known.ids.entry(key).or_insert(new),
                None => return Ok(None),
            },
        };
        Ok(Some(Backing { file_id, memfd, access: access.cast_unsigned() }))
    }

    fn new_file(&mut self, mapping: &Mapping, path: &str) -> Result<Option<(u32, bool)>> {
        let file = open(path, libc::O_PATH)?;
        // It is not asked of the file system, which a stopped process may serve.
        let seen = descriptor::known(&file).doing(|| format!("statx {path}"))?;
        let kind = SFlag::from_bits_truncate(seen.mode) & SFlag::S_IFMT;
        let zero = kind == SFlag::S_IFCHR && seen.device == DEV_ZERO;
        if !(kind == SFlag::S_IFREG || zero) {
            self.refuse(mapping, "is neither a regular file nor /dev/zero", "unmap it");
            return Ok(None);
        }
        let memfd = seen.on == self.known.mount || mapping.has("ht");
        // The contents of memory are saved, so it must be readable. To open any other file might have
        // effects; to open memory has none.
        let file = if memfd { open(path, libc::O_RDONLY)? } else { file };
        let place = mapping.place(self.pid);
        let head = head(self.pid, self.mappings, mapping.name.as_ref());
        let id = (self.add_file)(file.into(), head, &place, self.refusals)?;
        Ok(Some((id, memfd)))
    }
}

/// Where a process has the beginning of a file mapped, so that it can be read.
pub fn head(pid: HostPid, mappings: &[Mapping], name: &Path) -> Option<Stretch> {
    let readable = libc::PROT_READ.cast_unsigned();
    let is_head = |one: &&Mapping| {
        one.offset == 0 && one.prot & readable != 0 && Path::new(&one.name) == name
    };
    let found = mappings.iter().find(is_head)?;
    Some(Stretch { pid, start: RemoteAddr(found.start), len: found.end - found.start })
}

/// How the file of a shared mapping was opened: the mode of its link in `map_files` shows it.
fn access(path: &str) -> Result<i32> {
    let link = std::fs::symlink_metadata(path).doing(|| format!("stat {path}"))?;
    Ok(match link.mode() & 0o600 {
        0o600 => libc::O_RDWR,
        0o200 => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    })
}

fn open(path: &str, flags: i32) -> Result<File> {
    File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .doing(|| format!("open {path}"))
        .map_err(|error| error.remedy("it needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"))
}

/// Device number of the mount that memfds and shared anonymous memory live on.
fn memfd_mount() -> Result<u64> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let fd = nix::sys::memfd::memfd_create(c"probe", flags).doing(|| "memfd_create")?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(std::fs::metadata(&path).doing(|| format!("stat {path}"))?.dev())
}

/// Adds the ranges of guard pages, which stand behind all VMAs and have nothing but addresses.
fn add_guards(pid: HostPid, entries: &mut Vec<VmaEntry>) -> Result<()> {
    let scan = Scan { start: 0, end: TASK_SIZE, without: 0, any_of: category::GUARD };
    let pagemap = Pagemap::open(pid)?;
    pagemap.scan_known(scan, |region| {
        entries.push(VmaEntry {
            start: region.start,
            end: region.end,
            status: status::GUARD,
            fd: -1,
            ..VmaEntry::default()
        });
    })
}
