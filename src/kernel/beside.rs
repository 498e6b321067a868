//! A process that does some work in the memory of the calling thread, which sleeps meanwhile.
//!
//! It is like a child of vfork(2): it has a pid, namespaces and signal handlers of its own, but no
//! memory has to be copied for it, and its results are in the caller's memory when it has ended. It
//! is cheaper than a thread, which needs a stack and storage from the C library. Unlike a thread it
//! can be a tracer without disturbing the waits and signals of its host.
//!
//! It has no exit signal, so that only a wait with `__WALL` or `__WCLONE` sees it.

use std::ffi::{c_int, c_void};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use parking_lot::Mutex;

use super::pid::HostPid;
use super::pin::Pin;
use super::threads::without_signals;

const THIS_THREAD: HostPid = HostPid::new(0);

/// Bytes of its stack. The kernel only reserves them, and gives pages as they are used.
const STACK: usize = 8 << 20;
const GUARD: usize = 64 << 10;

/// Whose descriptors and working directory the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Its own, which begin as copies of the caller's.
    Own,
    /// The caller's, shared.
    Callers,
}

/// Runs `work` in a process of its own, with every signal blocked. The result is None if `work` did
/// not come to its end.
pub fn run<T>(tables: Tables, work: impl FnOnce() -> T) -> io::Result<Option<T>> {
    let stack = Stack::spare_or_new()?;
    // The caller and the process take turns on one CPU: to wake another CPU takes longer, and so
    // does telling another CPU that the stack is unmapped. If pinning fails, everything only takes
    // longer.
    let pin = Pin::here().ok();
    let work = || {
        if let Some(pin) = &pin {
            let _ = pin.release(THIS_THREAD);
        }
        work()
    };
    let mut task = Task { work: Some(work), result: None };
    let flags = match tables {
        Tables::Own => libc::CLONE_VM | libc::CLONE_VFORK,
        Tables::Callers => libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_FS,
    };
    without_signals(|| task.carry_out(&stack, flags))??;
    stack.spare();
    Ok(task.result)
}

struct Task<W, T> {
    work: Option<W>,
    result: Option<T>,
}

impl<T, W: FnOnce() -> T> Task<W, T> {
    fn carry_out(&mut self, stack: &Stack, flags: c_int) -> io::Result<()> {
        let this = ptr::from_mut(self).cast();
        // SAFETY: the stack is the process's alone, and `main` gets this task. CLONE_VFORK lets the
        // caller sleep until the process has left this memory, so both live long enough and nobody
        // else uses them meanwhile.
        match unsafe { libc::clone(Self::main, stack.top(), flags, this) } {
            pid if pid < 0 => Err(io::Error::last_os_error()),
            pid => {
                reap(pid);
                Ok(())
            }
        }
    }

    extern "C" fn main(this: *mut c_void) -> c_int {
        // SAFETY: clone() passes what carry_out() gave it.
        let this = unsafe { &mut *this.cast::<Self>() };
        this.result = this.work.take().and_then(|work| catch_unwind(AssertUnwindSafe(work)).ok());
        // SAFETY: ends this process alone, without running what the host has registered for its own
        // end.
        unsafe { libc::_exit(0) }
    }
}

/// Waits for the end of a child, which may have no exit signal. It is no error if somebody else has
/// waited for the child already.
pub fn reap(pid: libc::pid_t) {
    // SAFETY: the status is not asked for.
    let wait = || unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
    while wait() < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {}
}

/// A stack with a guard below it.
struct Stack(*mut c_void);

// SAFETY: a stack is memory of the whole process and is bound to no thread.
unsafe impl Send for Stack {}

/// The stack that was used last, kept for the next process: some ten of its pages exist already,
/// and to unmap them would interrupt other processors.
static SPARE: Mutex<Option<Stack>> = Mutex::new(None);

impl Stack {
    /// The spare stack, or a new one if the lock is taken: in a forked copy of a process with
    /// threads the lock may stay taken for ever.
    fn spare_or_new() -> io::Result<Self> {
        match SPARE.try_lock().and_then(|mut spare| spare.take()) {
            Some(stack) => Ok(stack),
            None => Self::new(),
        }
    }

    /// Keeps the stack for the next process, unless another one is kept already.
    fn spare(self) {
        if let Some(mut spare) = SPARE.try_lock() {
            spare.get_or_insert(self);
        }
    }

    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the memory is new; its lowest part, which nobody uses yet, becomes the guard.
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
        // SAFETY: new() has mapped it, and the process that ran on it has ended.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::kernel::descriptor;

    #[test]
    fn works_in_this_memory_as_another_process() {
        let mut seen = 0;
        let pid = run(Tables::Own, || {
            seen = 41;
            std::process::id()
        });
        let pid = pid.unwrap().unwrap();
        assert_ne!(pid, std::process::id());
        assert_eq!(seen, 41);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn descriptors_are_the_callers_if_they_shall_be() {
        // The number is one that no other test of this process uses.
        let open = || {
            let null = std::fs::File::open("/dev/null").unwrap();
            std::fs::File::from(descriptor::duplicate_above(null.as_raw_fd(), 900).unwrap())
        };
        let shared = run(Tables::Callers, open).unwrap().unwrap();
        shared.metadata().unwrap();
        let own = run(Tables::Own, || std::mem::ManuallyDrop::new(open())).unwrap().unwrap();
        own.metadata().unwrap_err();
    }

    #[test]
    fn who_panics_has_no_result() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result = run(Tables::Own, || panic!("as it should"));
        std::panic::set_hook(hook);
        assert!(matches!(result, Ok(None::<()>)));
    }
}
