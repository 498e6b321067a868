//! A process that does something in the memory of the calling thread, which sleeps meanwhile.
//!
//! As a child of vfork(2): it has a pid, namespaces and signal handlers of its own, but nothing has
//! to be copied for it, and what it computes is simply there when it has ended. Cheaper than a
//! thread, which needs a stack and storage from the C library; and other than a thread, it can be a
//! tracer without its host's waits and signals noticing.
//!
//! It has no exit signal: only who waits with `__WALL` or `__WCLONE` sees it.

use std::ffi::{c_int, c_void};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use parking_lot::Mutex;

use super::pin::Pin;
use super::threads::without_signals;

const THIS_THREAD: i32 = 0;

/// The kernel reserves it, and gives pages as they are used.
const STACK: usize = 8 << 20;
const GUARD: usize = 64 << 10;

/// What the process has beside its namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Descriptors and working directory of its own, copied from the caller's.
    Own,
    /// Those of the caller.
    Callers,
}

/// Runs `work` in a process of its own, with every signal blocked; None if it did not come to its
/// end.
pub fn run<T>(tables: Tables, work: impl FnOnce() -> T) -> io::Result<Option<T>> {
    let stack = Stack::spare_or_new()?;
    // Each of the two begins where the other makes room for it. To wake another CPU takes longer,
    // and so does to tell it that the stack is unmapped. Without that it only takes longer.
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
        // SAFETY: the stack is the process's alone; `main` takes this task. Both outlive the
        // process's stay in this memory, for which CLONE_VFORK waits, and nobody uses them meanwhile.
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
        // SAFETY: ends this process alone; what its host does at its own end is the host's.
        unsafe { libc::_exit(0) }
    }
}

/// Waits for a child, also for one without an exit signal. Somebody else may have done so.
pub fn reap(pid: libc::pid_t) {
    // SAFETY: the status is not asked for.
    let wait = || unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
    while wait() < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {}
}

/// A stack with a guard below it.
struct Stack(*mut c_void);

// SAFETY: it is memory of the process, not of a thread.
unsafe impl Send for Stack {}

/// The last one that was used, for the next: some ten pages of it are there already, and to unmap them
/// means to interrupt other processors.
static SPARE: Mutex<Option<Stack>> = Mutex::new(None);

impl Stack {
    /// Waits for nobody: in a copy of a process with threads the lock may stay taken for ever.
    fn spare_or_new() -> io::Result<Self> {
        match SPARE.try_lock().and_then(|mut spare| spare.take()) {
            Some(stack) => Ok(stack),
            None => Self::new(),
        }
    }

    /// Keeps it, unless another one is kept.
    fn spare(self) {
        if let Some(mut spare) = SPARE.try_lock() {
            spare.get_or_insert(self);
        }
    }

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
        // Under a number that no other test of this process comes to.
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
