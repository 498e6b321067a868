//! A worker process that the host does not notice.
//!
//! * The worker is made by `clone(CLONE_VM | CLONE_VFORK)` and an exec: no copy of the host's page
//!   tables, no atfork handlers, and it works where the caller is itself a vfork child.
//! * It is not the host's child. An executed process sends SIGCHLD when it ends and is found by
//!   `waitpid(-1)`, whatever signal it was cloned with. So an intermediate process without an exit
//!   signal, which only `__WCLONE` waits find, makes it and ends at once: the worker goes to init,
//!   and it is outside the caller's tree, which a self-dump needs.
//! * Only the worker of `criu_restore_child()` is a child, since a task can be made the child of
//!   one's own parent, but of nobody else: see [`super::host::ChildSignal`].
//! * The children run in the host's memory. They make system calls and write to [`Plan`], nothing
//!   else; all signals are blocked until all handlers are gone.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use super::host::{errno, set_errno};
use super::program::Program;
use crate::kernel::beside::reap;

/// What the worker is to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// Not in the caller's tree, and in a session of its own: once it has ended, and until init
    /// reaps it, it would keep the session's id, and a restore could not use that pid again.
    Stranger,
    /// Not in the caller's tree, but in its session, which restored tasks may inherit.
    Detached,
    /// The caller's own child.
    Child,
}

const STACK: usize = 64 * 1024;

/// A stack for a child; it grows down from its end.
struct Stack(Box<[MaybeUninit<u128>]>);

impl Stack {
    fn new() -> Self {
        Self(Box::new_uninit_slice(STACK / size_of::<u128>()))
    }

    fn top(&mut self) -> *mut c_void {
        self.0.as_mut_ptr_range().end.cast()
    }
}

/// All that the children need, made before they are.
struct Plan {
    path: *const c_char,
    argv: Vec<*const c_char>,
    /// The pointers of the environment; empty: the host's.
    envp: Vec<*const c_char>,
    socket: RawFd,
    /// Descriptors that the worker has to inherit.
    inherited: Vec<RawFd>,
    new_session: bool,
    worker_stack: *mut c_void,
    /// The worker's pid, negative if it could not be made.
    worker: Cell<libc::pid_t>,
    /// Why the program was not executed; 0 if it was.
    failure: Cell<c_int>,
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Starts `program`, with `socket` as the descriptor that its last argument names.
pub fn spawn(
    program: &Program,
    socket: OwnedFd,
    inherited: &[RawFd],
    kinship: Kinship,
) -> io::Result<libc::pid_t> {
    let (argv, envp) =
        (program.arguments(socket.as_raw_fd()), program.environment(socket.as_raw_fd()));
    let mut stacks = (Stack::new(), Stack::new());
    let plan = Plan {
        path: program.path.as_ptr(),
        argv: pointers(&argv),
        envp: envp.as_deref().map(pointers).unwrap_or_default(),
        socket: socket.as_raw_fd(),
        inherited: inherited.to_vec(),
        new_session: kinship == Kinship::Stranger,
        worker_stack: stacks.1.top(),
        worker: Cell::new(-1),
        failure: Cell::new(0),
    };
    let saved = errno();
    let result = match kinship {
        Kinship::Child => with_signals_blocked(|| plan.make_worker()),
        _ => as_no_subreaper(|| with_signals_blocked(|| plan.make_stranger(stacks.0.top()))),
    };
    set_errno(saved);
    result?;
    match plan.failure.get() {
        0 => Ok(plan.worker.get()),
        failure => {
            if kinship == Kinship::Child {
                reap(plan.worker.get());
            }
            Err(io::Error::from_raw_os_error(failure))
        }
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// The worker must not go to the host when it is orphaned, as it would if the host is a subreaper.
fn as_no_subreaper<T>(body: impl FnOnce() -> T) -> T {
    let mut subreaper: c_int = 0;
    // SAFETY: the kernel writes one int.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut subreaper) };
    if subreaper == 0 {
        return body();
    }
    // SAFETY: sets a flag of this process, and sets it back.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 0);
        let result = body();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        result
    }
}

/// The kernel's signal set, all bits: the C library's keeps its own signals out.
const ALL_SIGNALS: u64 = u64::MAX;

fn set_mask(how: c_int, new: u64, old: &mut u64) {
    // SAFETY: both sets are 8 bytes, as the last argument says.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const new, ptr::from_mut(old), 8usize)
    };
}

fn with_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    let (mut before, mut unused) = (0, 0);
    set_mask(libc::SIG_SETMASK, ALL_SIGNALS, &mut before);
    let result = body();
    set_mask(libc::SIG_SETMASK, before, &mut unused);
    result
}

impl Plan {
    /// The worker as a child of the calling process; back when it has executed, or failed to.
    fn make_worker(&self) -> io::Result<()> {
        self.worker.set(clone(worker_main, self.worker_stack, self)?);
        Ok(())
    }

    /// The worker by way of an intermediate process, which is over when this returns.
    fn make_stranger(&self, stack: *mut c_void) -> io::Result<()> {
        reap(clone(intermediate_main, stack, self)?);
        if self.worker.get() < 0 {
            return Err(io::Error::from_raw_os_error(self.failure.get()));
        }
        Ok(())
    }
}

type Main = extern "C" fn(*mut c_void) -> c_int;

/// A child in the same memory, without an exit signal; the caller sleeps until it is gone from it.
fn clone(main: Main, stack: *mut c_void, plan: &Plan) -> io::Result<libc::pid_t> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    let plan = ptr::from_ref(plan).cast_mut().cast();
    // SAFETY: the stack is large enough and not used otherwise, and it and the plan outlive the
    // child's stay in this memory, for which CLONE_VFORK waits.
    match unsafe { libc::clone(main, stack, flags, plan) } {
        pid if pid < 0 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

extern "C" fn intermediate_main(plan: *mut c_void) -> c_int {
    // SAFETY: clone() passes the plan, which lives on while the caller sleeps.
    let plan = unsafe { &*plan.cast::<Plan>() };
    if plan.new_session {
        // The intermediate leads the session, not the worker: a leader that opens a terminal may
        // get it as its controlling one.
        // SAFETY: no memory is involved.
        unsafe { libc::setsid() };
    }
    if plan.make_worker().is_err() {
        plan.failure.set(errno());
    }
    // SAFETY: ends this process alone, without exit handlers.
    unsafe { libc::_exit(0) }
}

extern "C" fn worker_main(plan: *mut c_void) -> c_int {
    // SAFETY: as above; what follows are system calls on the plan's own data.
    unsafe {
        let plan = &*plan.cast::<Plan>();
        default_signals();
        open_missing_stdio();
        keep_over_exec(plan.socket);
        for fd in &plan.inherited {
            keep_over_exec(*fd);
        }
        let envp = if plan.envp.is_empty() { environ } else { plan.envp.as_ptr() };
        let mut unused = 0;
        set_mask(libc::SIG_SETMASK, 0, &mut unused);
        libc::execve(plan.path, plan.argv.as_ptr(), envp);
        plan.failure.set(errno());
        libc::_exit(127)
    }
}

/// Handlers belong to the host's program, and an ignored signal would stay ignored in the worker.
///
/// # Safety
/// The calling process was made here, in the host's memory.
pub unsafe fn default_signals() {
    // The kernel's struct, all zero: SIG_DFL, no flags, no restorer, empty mask.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: this process has its own table of handlers; what cannot be set fails.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
}

/// What the worker opens must not become its standard streams.
///
/// # Safety
/// The calling process was made here, in the host's memory.
pub unsafe fn open_missing_stdio() {
    for fd in libc::STDIN_FILENO..=libc::STDERR_FILENO {
        // SAFETY: this process has its own descriptor table; the lowest free number is `fd`.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) < 0 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
}

unsafe fn keep_over_exec(fd: RawFd) {
    // SAFETY: this process has its own descriptor table.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}
