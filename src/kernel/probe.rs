//! Calls that ask the kernel whether it knows something, and change nothing.
//!
//! Each is made so that a kernel which knows the thing answers with success or with a particular
//! error about the operands, and one which does not with another error.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::{c_int, c_long, c_ulong};
use nix::errno::Errno;

use super::descriptor::owned;
use super::pid::HostPid;
use super::{Sys, ptrace};

const ARCH_MAP_VDSO_32: c_int = 0x2002;
const ARCH_MAP_VDSO_64: c_int = 0x2003;
const PR_TIMER_CREATE_RESTORE_IDS: c_int = 77;
const PR_TIMER_CREATE_RESTORE_IDS_GET: c_ulong = 2;
/// With the flags that say that both paths are empty.
const MOVE_MOUNT_SET_GROUP: u32 = 0x100 | 0x4 | 0x40;
const MADV_GUARD_INSTALL: c_int = 102;
/// One more than the deepest nesting of pid namespaces.
const TOO_MANY_TIDS: u64 = 33;
const PAGE: usize = 4096;

/// A child that does nothing, for questions about tracees. It makes no SIGCHLD when it ends.
#[derive(Debug)]
pub struct Bystander {
    pid: HostPid,
}

impl Bystander {
    /// Starts it and stops it as its tracer.
    pub fn traced(options: i32) -> Sys<Self> {
        let bystander = Self::start()?;
        ptrace::seize(bystander.pid, options | ptrace::O_EXITKILL)?;
        ptrace::interrupt(bystander.pid)?;
        ptrace::wait(bystander.pid)?;
        Ok(bystander)
    }

    fn start() -> Sys<Self> {
        // SAFETY: a fork without an exit signal. The child has a copy of our memory, in which
        // locks may be held by threads that it does not have: it makes bare system calls only.
        let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) })?;
        if pid == 0 {
            idle();
        }
        let pid = i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?;
        Ok(Self { pid: HostPid::new(pid) })
    }

    /// Its pid.
    pub fn pid(&self) -> HostPid {
        self.pid
    }
}

/// Waits to be killed, also when its parent goes first.
fn idle() -> ! {
    loop {
        // SAFETY: bare system calls that take numbers only.
        unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            libc::syscall(libc::SYS_pause);
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // SAFETY: takes numbers only; the child is ours and has not been waited for.
        unsafe { libc::kill(self.pid.number(), libc::SIGKILL) };
        while matches!(ptrace::wait(self.pid), Ok(ptrace::WaitStatus::Stopped { .. })) {}
    }
}

/// The seccomp filter of a stopped tracee; one without filters is EINVAL or ENOENT.
pub fn seccomp_filter(bystander: &Bystander) -> Sys<()> {
    const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;
    // SAFETY: with a null pointer the filter's length is asked for, and nothing written.
    let done = unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, bystander.pid.number(), 0, 0) };
    Errno::result(done).map(drop)
}

/// Sets a hardware breakpoint in a stopped tracee.
pub fn set_breakpoint(bystander: &Bystander, address: u64) -> Sys<()> {
    let base = std::mem::offset_of!(libc::user, u_debugreg) as c_long;
    let enable_first_on_execution: c_long = 1;
    for (register, value) in [(0, address.cast_signed()), (7, enable_first_on_execution)] {
        let offset = base + register * size_of::<c_ulong>() as c_long;
        // SAFETY: writes numbers into the tracee's debug registers; the tracee is our idle child.
        let done =
            unsafe { libc::ptrace(libc::PTRACE_POKEUSER, bystander.pid.number(), offset, value) };
        Errno::result(done)?;
    }
    Ok(())
}

/// Asks for a second vDSO of 64 or 32 bits; a kernel that can map one answers EEXIST.
pub fn map_second_vdso(bits: u32) -> Sys<()> {
    let which = if bits == 64 { ARCH_MAP_VDSO_64 } else { ARCH_MAP_VDSO_32 };
    // SAFETY: takes numbers only; there is a vDSO, so nothing is mapped.
    Errno::result(unsafe { libc::syscall(libc::SYS_arch_prctl, which, 0) }).map(drop)
}

/// clone3 with more tids than there can be; a kernel that takes tids answers EINVAL.
pub fn clone_with_too_many_tids() -> Sys<()> {
    let mut args = [0u64; 10];
    args[4] = libc::SIGCHLD as u64;
    args[9] = TOO_MANY_TIDS;
    // SAFETY: `args` is a whole clone_args; its tid count is out of range, so nothing is cloned.
    let done = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) };
    Errno::result(done).map(drop)
}

/// Whether this process makes POSIX timers with ids of its choice; EINVAL if no process can.
pub fn timer_restore_ids() -> Sys<()> {
    // SAFETY: takes numbers only, and asks without changing.
    let answer = unsafe {
        libc::prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0)
    };
    Errno::result(answer).map(drop)
}

/// The size of the structure that PR_SET_MM_MAP takes.
pub fn mm_map_size() -> Sys<u32> {
    let mut size = 0u32;
    // SAFETY: the kernel writes one u32 to `size`.
    let done =
        unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP_SIZE, &raw mut size, 0, 0) };
    Errno::result(done).map(|_| size)
}

/// move_mount of sharing groups between descriptors that are none; EBADF if it is known.
pub fn move_no_mount_group() -> Sys<()> {
    let empty = c"".as_ptr();
    // SAFETY: both paths are empty strings.
    let done =
        unsafe { libc::syscall(libc::SYS_move_mount, -1, empty, -1, empty, MOVE_MOUNT_SET_GROUP) };
    Errno::result(done).map(drop)
}

/// The features of userfaultfd.
pub fn userfaultfd_features() -> Sys<u64> {
    const UFFDIO_API: c_ulong = 0xc018_aa3f;
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let fd = owned(fd as i32)?;
    let mut api = [0xaau64, 0, 0];
    // SAFETY: `api` is a whole uffdio_api.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) })?;
    Ok(api[1])
}

/// Makes a page of ours a guard page; the page is one mapped for this.
pub fn guard_page(page: &super::mapping::Anonymous) -> Sys<()> {
    // SAFETY: the mapping is alive, and no reference into it exists.
    let done = unsafe { libc::madvise(page.addr() as *mut _, PAGE, MADV_GUARD_INSTALL) };
    Errno::result(done).map(drop)
}

/// An ioctl whose operand is a number and whose result is a descriptor.
pub fn ioctl_for_fd(fd: impl AsFd, request: c_ulong) -> Sys<OwnedFd> {
    // SAFETY: the requests passed here take no operand and make a descriptor.
    owned(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, 0) })
}

/// An ioctl that writes one int.
pub fn ioctl_for_int(fd: impl AsFd, request: c_ulong) -> Sys<i32> {
    let mut value = 0i32;
    // SAFETY: the requests passed here write one int to `value`.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, &raw mut value) };
    Errno::result(done).map(|_| value)
}

/// An asynchronous I/O context whose ring is moved; it must work where it is then.
pub fn move_aio_ring() -> Sys<()> {
    let mut context: c_ulong = 0;
    // SAFETY: the kernel maps a ring and writes its address to `context`.
    Errno::result(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
    let len = ring_len(context);
    // SAFETY: the ring of `context` is ours alone; it is moved whole, to where nothing is.
    let moved = unsafe {
        libc::mremap(
            context as *mut _,
            len,
            len,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            reserve(len),
        )
    };
    let alive = if moved == libc::MAP_FAILED { context } else { moved as c_ulong };
    // SAFETY: asks for no events, so nothing is written.
    let works = unsafe { libc::syscall(libc::SYS_io_getevents, alive, 0, 0, 0, 0) };
    let works = Errno::result(works).map(drop);
    // SAFETY: the context is ours.
    unsafe { libc::syscall(libc::SYS_io_destroy, alive) };
    works
}

/// Length of the mapping that starts at `address`; a page if it cannot be told.
fn ring_len(address: c_ulong) -> usize {
    let maps = super::proc::maps(HostPid::own()).unwrap_or_default();
    let ring = maps.iter().find(|mapping| mapping.range.start == address);
    ring.map_or(PAGE, |ring| (ring.range.end - ring.range.start) as usize)
}

/// Addresses that nothing else uses; what is mapped over them replaces the reservation.
fn reserve(len: usize) -> *mut libc::c_void {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) }
}

/// A mount of an overlay of two directories, read only, attached nowhere.
pub fn detached_overlay(upper: &CStr, lower: &CStr) -> Sys<OwnedFd> {
    const SET_STRING: u32 = 1;
    const CREATE: u32 = 6;
    // SAFETY: the name is a string.
    let fs = unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), 1) };
    let fs = owned(fs as i32)?;
    let configure = |command: u32, key: *const i8, value: *const i8| {
        // SAFETY: key and value are strings, or null where the command takes none.
        let done =
            unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) };
        Errno::result(done).map(drop)
    };
    for directory in [upper, lower] {
        configure(SET_STRING, c"lowerdir+".as_ptr(), directory.as_ptr())?;
    }
    configure(CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: takes numbers only.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1, 0) };
    owned(mount as i32)
}
