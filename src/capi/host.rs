//! What keeps a verb from being noticed by the host: panics, errno, cancellation, SIGCHLD.

use std::cell::Cell;
use std::cmp::Ordering;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Once;

use crate::kernel::kcmp::{self, Kcmp};
use crate::kernel::pid::HostPid;

thread_local! {
    static IN_LIBRARY: Cell<bool> = const { Cell::new(false) };
}

static QUIET_PANICS: Once = Once::new();

/// Panics of this library's own calls are not printed; others go the way they went before.
pub fn silence_panics() {
    QUIET_PANICS.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_LIBRARY.try_with(Cell::get).unwrap_or(false) {
                before(info);
            }
        }));
    });
}

/// Runs `body`; None if it panicked. No panic crosses into C.
pub fn shielded<T>(body: impl FnOnce() -> T) -> Option<T> {
    silence_panics();
    let outer = IN_LIBRARY.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body)).ok();
    IN_LIBRARY.set(outer);
    result
}

/// The calling thread's errno.
pub fn errno() -> c_int {
    // SAFETY: the C library's errno of this thread is always readable.
    unsafe { *libc::__errno_location() }
}

/// Whether `pid` is a child of this process, which stays as it is, and errno too.
pub fn is_child(pid: libc::pid_t) -> bool {
    let Ok(id) = libc::id_t::try_from(pid) else { return false };
    let before = errno();
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: no information is asked for.
    let looked = unsafe { libc::waitid(libc::P_PID, id, ptr::null_mut(), look) };
    set_errno(before);
    looked == 0
}

/// Whether the memory of `pid` is this process's too, as that of a vfork child; also said if the
/// kernel does not tell.
pub fn may_share_memory(pid: libc::pid_t) -> bool {
    let before = errno();
    let order = kcmp::compare(HostPid::own(), HostPid::new(pid), Kcmp::Vm, 0, 0);
    set_errno(before);
    order.unwrap_or(Ordering::Equal).is_eq()
}

/// Sets the calling thread's errno.
pub fn set_errno(value: c_int) {
    // SAFETY: the C library's errno of this thread is always writable.
    unsafe { *libc::__errno_location() = value }
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, oldstate: *mut c_int) -> c_int;
}

/// While it lives, the calling thread is not cancelled: a cancellation would unwind through a verb
/// half-way. One that is requested meanwhile acts at the host's next cancellation point.
pub struct NoCancel(c_int);

impl NoCancel {
    pub fn hold() -> Self {
        let mut before = 0;
        // SAFETY: `before` is a valid place for the old state.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self(before)
    }
}

impl Drop for NoCancel {
    fn drop(&mut self) {
        // SAFETY: puts back a state that pthread_setcancelstate() gave.
        unsafe { pthread_setcancelstate(self.0, ptr::null_mut()) };
    }
}

/// While it lives, SIGCHLD waits in the calling thread, so that the end of a worker that has to be
/// the caller's own child can be taken out again before the host's handler runs.
///
/// In a host with several threads, another one that has SIGCHLD unblocked may still see it; and one
/// that waits for any child may reap the worker. Both are harmless, and cannot be avoided for a
/// process that was executed.
pub struct ChildSignal {
    before: libc::sigset_t,
    worker: Option<libc::pid_t>,
}

fn sigchld_set() -> libc::sigset_t {
    // SAFETY: an all-zero set is valid storage for sigemptyset() to fill.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        set
    }
}

impl ChildSignal {
    pub fn hold() -> Self {
        let set = sigchld_set();
        // SAFETY: both sets are valid; only the calling thread's mask changes.
        unsafe {
            let mut before = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
            Self { before, worker: None }
        }
    }

    /// The worker is reaped when this value ends.
    pub fn reaps(&mut self, worker: libc::pid_t) {
        self.worker = Some(worker);
    }

    /// Waits for the worker's end and removes its SIGCHLD, if that is the one that is pending.
    fn reap(worker: libc::pid_t) {
        let mut status = 0;
        // SAFETY: `status` is valid. ECHILD (SIGCHLD is ignored, or someone else reaped) is fine.
        while unsafe { libc::waitpid(worker, &raw mut status, libc::__WALL) } < 0
            && errno() == libc::EINTR
        {}
        let set = sigchld_set();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: all arguments are valid; with a zero timeout it does not wait.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            if libc::sigtimedwait(&raw const set, &raw mut info, &raw const now) != libc::SIGCHLD {
                return;
            }
            if info.si_pid() != worker {
                // Another child's: the worker's was merged into it.
                return requeue(&info);
            }
            // The worker's, but it may have swallowed another child's that came after it.
            let mut other: libc::siginfo_t = std::mem::zeroed();
            let any = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED;
            let peek = any | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_ALL, 0, &raw mut other, peek) == 0 && other.si_pid() != 0 {
                requeue(&other);
            }
        }
    }
}

/// Makes a SIGCHLD pending again as it was.
///
/// # Safety
/// `info` is a filled siginfo.
unsafe fn requeue(info: &libc::siginfo_t) {
    let info = ptr::from_ref(info);
    // SAFETY: as the caller promised. A process may send any siginfo to itself.
    unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), libc::SIGCHLD, info) };
}

impl Drop for ChildSignal {
    fn drop(&mut self) {
        if let Some(worker) = self.worker {
            Self::reap(worker);
        }
        // SAFETY: puts back the calling thread's own mask.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}
