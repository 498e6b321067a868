//! Probes of processes, memory, files and namespaces.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, openat, openat2 as nix_openat2};
use nix::sys::stat::Mode;

use super::{exists, missing};
use crate::error::{Context, Result};
use crate::kernel::kcmp::{self, EpollSlot, Kcmp};
use crate::kernel::mapping::{Anonymous, FileMapping};
use crate::kernel::pagemap::{Pagemap, Scan, category};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteFd;
use crate::kernel::{epoll, eventfd, lock, memfd, pidfd, probe, proc, timerfd};
use crate::options::{Verb, table};

const PAGE: u64 = 4096;

fn own_pid() -> HostPid {
    HostPid::own()
}

pub(super) fn map_files() -> Result<()> {
    let path = "/proc/self/map_files";
    let first = fs::read_dir(path).doing(|| format!("read {path}"))?.next();
    match first {
        Some(entry) => {
            let link = entry.doing(|| format!("read {path}"))?.path();
            File::open(&link).doing(|| format!("open {}", link.display())).map(drop)
        }
        None => missing(format!("{path} is empty")),
    }
}

pub(super) fn kcmp() -> Result<()> {
    kcmp::compare(own_pid(), own_pid(), Kcmp::Vm, 0, 0).doing(|| "kcmp").map(drop)
}

pub(super) fn kcmp_epoll() -> Result<()> {
    let epoll = epoll::create().doing(|| "epoll_create1")?;
    let event = eventfd::create(0).doing(|| "eventfd2")?;
    let number = event.as_raw_fd();
    epoll::add(epoll.as_raw_fd(), number, 1, 0).doing(|| "epoll_ctl")?;
    let slot = EpollSlot { efd: epoll.as_raw_fd() as u32, tfd: number as u32, toff: 0 };
    kcmp::compare_epoll(own_pid(), number, own_pid(), slot)
        .doing(|| "kcmp KCMP_EPOLL_TFD")
        .map(drop)
}

pub(super) fn set_mm_map() -> Result<()> {
    probe::mm_map_size().doing(|| "prctl PR_SET_MM_MAP_SIZE").map(drop)
}

pub(super) fn pidfd_store() -> Result<()> {
    let file = File::open("/dev/null").doing(|| "open /dev/null")?;
    let pidfd = pidfd::open(own_pid()).doing(|| "pidfd_open")?;
    pidfd::getfd(&pidfd, RemoteFd(file.as_raw_fd())).doing(|| "pidfd_getfd").map(drop)
}

pub(super) fn clone3_set_tid() -> Result<()> {
    expect("clone3 with set_tid", probe::clone_with_too_many_tids(), Errno::EINVAL)
}

pub(super) fn can_map_vdso() -> Result<()> {
    expect("arch_prctl ARCH_MAP_VDSO_64", probe::map_second_vdso(64), Errno::EEXIST)
}

pub(super) fn compat_cr() -> Result<()> {
    expect("arch_prctl ARCH_MAP_VDSO_32", probe::map_second_vdso(32), Errno::EEXIST)
}

pub(super) fn move_mount_set_group() -> Result<()> {
    expect("move_mount MOVE_MOUNT_SET_GROUP", probe::move_no_mount_group(), Errno::EBADF)
}

/// Judges a call that has to fail with this one error.
fn expect(call: &str, result: std::result::Result<(), Errno>, errno: Errno) -> Result<()> {
    match result {
        Err(actual) if actual == errno => Ok(()),
        Err(other) => Err(other).doing(|| call.to_owned()),
        Ok(()) => missing(format!("{call}: wrong operands are taken")),
    }
}

pub(super) fn uffd() -> Result<()> {
    probe::userfaultfd_features().doing(|| "userfaultfd").map(drop)
}

/// Whether a userfaultfd reports forks, moves and unmappings of the process that it watches.
pub(super) fn uffd_noncoop() -> Result<()> {
    const FORK_REMAP_REMOVE_UNMAP: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6;
    honoured("lazy_pages", Verb::Restore)?;
    let features = probe::userfaultfd_features().doing(|| "userfaultfd")?;
    match features & FORK_REMAP_REMOVE_UNMAP {
        FORK_REMAP_REMOVE_UNMAP => Ok(()),
        _ => missing(format!("userfaultfd has the features {features:#x} only")),
    }
}

pub(super) fn pagemap_scan() -> Result<()> {
    scan_one_page(category::PRESENT).map(drop)
}

pub(super) fn pagemap_scan_guard_pages() -> Result<()> {
    match scan_one_page(category::GUARD)? {
        true => Ok(()),
        false => missing("PAGEMAP_SCAN does not find a guard page"),
    }
}

/// Makes a page that is present, or a guard, and says whether the scan finds it as such.
fn scan_one_page(wanted: u64) -> Result<bool> {
    let page = Anonymous::new(PAGE)?;
    if wanted == category::GUARD {
        probe::guard_page(&page).doing(|| "madvise MADV_GUARD_INSTALL")?;
    } else {
        page.write(0, b"x");
    }
    let range = Scan { start: page.addr(), end: page.addr() + PAGE, without: 0, any_of: wanted };
    let mut found = false;
    Pagemap::open(own_pid())?.scan(range, |_| found = true)?;
    Ok(found)
}

/// Whether changes are tracked: then a fresh mapping counts as changed.
pub(super) fn mem_dirty_track() -> Result<()> {
    honoured("track_mem", Verb::PreDump)?;
    let page = Anonymous::new(PAGE)?;
    page.write(0, b"x");
    let maps = fs::read_to_string("/proc/self/smaps").doing(|| "read /proc/self/smaps")?;
    let start = format!("{:x}-", page.addr());
    let flags = maps
        .lines()
        .skip_while(|line| !covers(line, page.addr()) && !line.starts_with(&start))
        .find_map(|line| line.strip_prefix("VmFlags:"));
    match flags {
        Some(flags) if flags.split_whitespace().any(|flag| flag == "sd") => Ok(()),
        _ => missing("the kernel keeps no soft-dirty bits"),
    }
}

/// Whether a line of smaps is the first of the mapping that holds `address`.
fn covers(line: &str, address: u64) -> bool {
    let range = line.split(' ').next().and_then(|range| range.split_once('-'));
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    match range.map(|(start, end)| (hex(start), hex(end))) {
        Some((Some(start), Some(end))) => start <= address && address < end,
        _ => false,
    }
}

pub(super) fn mnt_id() -> Result<()> {
    let file = File::open("/dev/null").doing(|| "open /dev/null")?;
    fdinfo_has(&file, "mnt_id:")
}

pub(super) fn fdinfo_lock() -> Result<()> {
    let file = memfd::create(c"lock", libc::MFD_CLOEXEC).doing(|| "memfd_create")?;
    lock::flock(&file, libc::LOCK_EX).doing(|| "flock")?;
    fdinfo_has(&file, "lock:")
}

pub(super) fn timerfd() -> Result<()> {
    let timer = timerfd::create(libc::CLOCK_MONOTONIC).doing(|| "timerfd_create")?;
    fdinfo_has(&timer, "clockid:")?;
    // EINVAL means that the call is known, and that a timer which was never set has no ticks.
    match timerfd::set_ticks(&timer, 1) {
        Ok(()) | Err(Errno::EINVAL | Errno::ECANCELED) => Ok(()),
        Err(errno) => Err(errno).doing(|| "ioctl TFD_IOC_SET_TICKS"),
    }
}

fn fdinfo_has(file: impl AsFd, key: &str) -> Result<()> {
    let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
    let text = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    if text.lines().any(|line| line.starts_with(key)) {
        return Ok(());
    }
    missing(format!("/proc/PID/fdinfo has no {key}"))
}

pub(super) fn aio_remap() -> Result<()> {
    probe::move_aio_ring().doing(|| "io_getevents on a ring that was moved")
}

pub(super) fn userns() -> Result<()> {
    exists("/proc/self/ns/user")?;
    let path = "/proc/sys/user/max_user_namespaces";
    let limit = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    if limit.trim() == "0" { missing(format!("{path} is 0")) } else { Ok(()) }
}

pub(super) fn cgroupns() -> Result<()> {
    exists("/proc/self/ns/cgroup")
}

pub(super) fn timens() -> Result<()> {
    exists("/proc/self/ns/time")?;
    exists("/proc/self/timens_offsets")
}

pub(super) fn ns_pid() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").doing(|| "read /proc/self/status")?;
    if status.lines().any(|line| line.starts_with("NSpid:")) {
        return Ok(());
    }
    missing("/proc/PID/status has no NSpid:")
}

pub(super) fn loginuid() -> Result<()> {
    let path = "/proc/self/loginuid";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    if text.trim().parse::<u32>().is_err() {
        return missing(format!("{path} holds no number"));
    }
    File::options().write(true).open(path).doing(|| format!("open {path} for writing")).map(drop)
}

pub(super) fn autofs() -> Result<()> {
    let text = fs::read_to_string("/proc/filesystems").doing(|| "read /proc/filesystems")?;
    if text.split_whitespace().any(|name| name == "autofs") {
        return Ok(());
    }
    missing("/proc/filesystems has no autofs")
}

/// No matter of the kernel's, but of this version's.
pub(super) fn external_net_ns() -> Result<()> {
    missing("this version carries no network namespace that belongs to the outside")
}

/// Fails if this version refuses an option, since what the kernel has is of no use then.
fn honoured(option: &str, verb: Verb) -> Result<()> {
    match table::rows().find(|row| row.name == option) {
        Some(row) if row.honoured.contains(&verb) && table::VERBS.contains(&verb) => Ok(()),
        _ => {
            missing(format!("this version does not honour the option {option} on {}", verb.name()))
        }
    }
}

pub(super) fn apparmor_stacking() -> Result<()> {
    let path = "/sys/kernel/security/apparmor/features/domain/stack";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    if text.trim() == "yes" { Ok(()) } else { missing(format!("{path} says {}", text.trim())) }
}

pub(super) fn memfd_hugetlb() -> Result<()> {
    // Without reserved huge pages the file is made all the same; only its pages are missing.
    memfd::create(c"huge", libc::MFD_CLOEXEC | libc::MFD_HUGETLB)
        .doing(|| "memfd_create MFD_HUGETLB")
        .map(drop)
}

pub(super) fn openat2() -> Result<()> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
    nix_openat2(nix::fcntl::AT_FDCWD, ".", how).doing(|| "openat2").map(drop)
}

pub(super) fn timer_cr_ids() -> Result<()> {
    probe::timer_restore_ids().doing(|| "prctl PR_TIMER_CREATE_RESTORE_IDS")
}

/// Whether `/proc/PID/maps` shows the inode of a file on an overlay that stat tells.
pub(super) fn overlayfs_maps() -> Result<()> {
    let program = fs::read_link("/proc/self/exe").doing(|| "read /proc/self/exe")?;
    let (Some(directory), Some(name)) = (program.parent(), program.file_name()) else {
        return missing("this program has no directory to make an overlay of");
    };
    let upper = CString::new(directory.as_os_str().as_bytes()).unwrap_or_default();
    let mount = probe::detached_overlay(&upper, c"/etc").doing(|| "mount an overlay")?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(&mount, name, flags, Mode::empty()).doing(|| "open a file of an overlay")?;
    let file = File::from(file);
    let told = file.metadata().doing(|| "stat a file of an overlay")?;
    let mapping = FileMapping::new(&file, PAGE)?;
    let address = mapping.addr(0, PAGE)?;
    let maps = proc::maps(own_pid())?;
    match maps.iter().find(|line| line.range.contains(&address)) {
        Some(line) if line.inode == told.ino() => Ok(()),
        Some(line) => missing(format!("inode {} is mapped, {} is told", line.inode, told.ino())),
        None => missing("the mapping of the file is not listed"),
    }
}
