//! A worker without a program: a process of its own in the memory of the caller.
//!
//! The start of a program (exec, the faults of its pages, the C library's start) takes a third of the
//! time of a small restore. For what is done soon, the engine works in a child that executes
//! nothing. It is a process, so that what it traces and what its children do is none of the host's
//! business, with signal handlers, descriptors and a working directory of its own. Its code is there
//! already, as its memory is the host's.
//!
//! * It has no exit signal and is never executed: no SIGCHLD handler and no `waitpid(-1)` sees it.
//! * The calling thread sleeps as in vfork(2), since the child uses its thread-local storage. What
//!   signals that thread handles waits as long, hence [`SOON`]; and its callbacks could not be
//!   called.
//! * All signals stay blocked in it. A signal to the host's process group must not end it while it
//!   holds a lock of the allocator, which is the host's as well.
//! * Who is dumped must not have the same memory: the caller itself, or a vfork child of its.

use std::ffi::{c_int, c_void};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::client::Channel;
use super::host::{errno, may_share_memory, set_errno, shielded};
use super::settings::{Notify, Service, Settings};
use super::spawn::{self, clone, default_signals, open_missing_stdio, with_signals_blocked};
use crate::images::proto::{CriuOpts, CriuReq, CriuReqType};

/// Bytes of memory that are dumped or restored in some tens of milliseconds. With more, the start of
/// a program is not what a call waits for.
const SOON: u64 = 64 << 20;

/// The kernel reserves it, and gives pages as they are used.
const STACK: usize = 8 << 20;
const GUARD: usize = 64 << 10;

/// Whether a guest may carry out a request that does not concern the caller's own process.
pub fn may_do(settings: &Settings, request: &CriuReq) -> bool {
    let Some(options) = &request.opts else { return false };
    let undisturbed = settings.service == Service::Own
        && matches!(settings.notify, Notify::None)
        && options.exec_cmd.is_empty();
    undisturbed && is_done_soon(request.r#type(), options)
}

fn is_done_soon(kind: CriuReqType, options: &CriuOpts) -> bool {
    match (kind, options.pid) {
        (CriuReqType::Restore, _) => memory_in_images(options) <= SOON,
        (CriuReqType::Dump, Some(pid)) => {
            !may_share_memory(pid) && resident(pid).is_some_and(|bytes| bytes <= SOON)
        }
        _ => false,
    }
}

/// What the processes of a dump had in memory of their own.
fn memory_in_images(options: &CriuOpts) -> u64 {
    let dir = match &options.images_dir {
        _ if options.images_dir_fd >= 0 => format!("/proc/self/fd/{}", options.images_dir_fd),
        Some(path) => path.clone(),
        None => return 0,
    };
    let size =
        |number| fs::metadata(format!("{dir}/pages-{number}.img")).ok().map(|file| file.len());
    (1..).map_while(size).sum()
}

/// What the root of a tree has in memory now.
fn resident(pid: i32) -> Option<u64> {
    let sizes = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

/// A stack with a guard below it.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory; its lowest part, which nobody uses yet, becomes the guard.
        unsafe {
            let start = libc::mmap(ptr::null_mut(), STACK, access, flags, -1, 0);
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stack = Self(start);
            match libc::mprotect(start, GUARD, libc::PROT_NONE) {
                0 => Ok(stack),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped in new(), and whoever ran on it is gone.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

/// Descriptors that are open in the guest's own table as well.
struct Guest {
    socket: RawFd,
    /// The caller's end, which the guest must not keep open.
    callers: RawFd,
}

/// Serves the request that waits in `socket`, and is back when the guest has ended.
pub fn serve(socket: OwnedFd, callers: &Channel) -> io::Result<()> {
    let stack = Stack::new()?;
    let guest = Guest { socket: socket.as_raw_fd(), callers: callers.raw() };
    let saved = errno();
    let made = with_signals_blocked(|| {
        // SAFETY: the stack is the guest's alone, and the main takes a guest.
        unsafe { clone(guest_main, stack.top(), ptr::from_ref(&guest).cast_mut().cast()) }
            .map(spawn::reap)
    });
    set_errno(saved);
    made
}

extern "C" fn guest_main(guest: *mut c_void) -> c_int {
    // SAFETY: clone() passes the guest, which lives on while the caller sleeps. Descriptors and
    // handlers are this process's own; it ends without exit handlers.
    unsafe {
        let guest = &*guest.cast::<Guest>();
        default_signals();
        open_missing_stdio();
        libc::close(guest.callers);
        let socket = OwnedFd::from_raw_fd(guest.socket);
        let served = shielded(|| crate::rpc::serve_guest(socket));
        libc::_exit(served.unwrap_or(1))
    }
}
