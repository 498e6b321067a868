//! How the library becomes the worker's program itself.
//!
//! The shared library has an entry point of its own ([`criu_worker_start`]): the dynamic linker can
//! run it like a program, `ld.so libcriu.so.2 swrk FD`, and then libcriu needs no other file. A
//! library that is linked into the host has no file to run but the host's: it is executed again,
//! with [`MARK`] in its environment, and a constructor takes over before its `main()`.

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::host::silence_panics;
use super::program::{MARK, in_main_program};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the entry point is written for x86-64");

// The kernel's and the dynamic linker's convention at an entry point: argc, then argv, on the
// stack; the linker's exit handler in rdx; no return address.
std::arch::global_asm!(
    ".text",
    ".globl criu_worker_start",
    ".hidden criu_worker_start",
    ".type criu_worker_start, @function",
    "criu_worker_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "mov rsi, rdx",
    "and rsp, -16",
    "call {start}",
    "ud2",
    ".size criu_worker_start, . - criu_worker_start",
    start = sym start,
);

type MainFunction = extern "C" fn(c_int, *const *const c_char, *const *const c_char) -> c_int;
type ExitHandler = Option<extern "C" fn()>;

unsafe extern "C" {
    fn __libc_start_main(
        main: MainFunction,
        argc: c_int,
        argv: *const *const c_char,
        init: ExitHandler,
        fini: ExitHandler,
        linker_fini: ExitHandler,
        stack_end: *const usize,
    ) -> c_int;
}

/// Does what the C library's start code does in a program.
unsafe extern "C" fn start(stack: *const usize, linker_fini: ExitHandler) -> ! {
    // SAFETY: `stack` is the entry point's: argc, then the pointers of argv.
    unsafe {
        let (argc, argv) = (*stack as c_int, stack.add(1).cast());
        __libc_start_main(main, argc, argv, None, None, linker_fini, stack);
        libc::abort()
    }
}

/// `swrk FD`, or nothing: the library is not a program for people.
extern "C" fn main(argc: c_int, argv: *const *const c_char, _: *const *const c_char) -> c_int {
    const USAGE: c_int = 2;
    if argc != 3 {
        return USAGE;
    }
    // SAFETY: argv holds `argc` C strings.
    let (verb, fd) = unsafe { (CStr::from_ptr(*argv.add(1)), CStr::from_ptr(*argv.add(2))) };
    match worker_socket(fd).filter(|_| verb == c"swrk") {
        Some(socket) => work(socket),
        None => USAGE,
    }
}

/// The descriptor, if it is a socket as a worker is given.
fn worker_socket(text: &CStr) -> Option<OwnedFd> {
    let fd: RawFd = text.to_str().ok()?.parse().ok()?;
    let is = |option, value| socket_option(fd, option) == Some(value);
    let right = fd > libc::STDERR_FILENO
        && is(libc::SO_DOMAIN, libc::AF_UNIX)
        && is(libc::SO_TYPE, libc::SOCK_SEQPACKET);
    // SAFETY: open, and this process got it for this use alone.
    right.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn socket_option(fd: RawFd, option: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: room for the int that the kernel writes.
    let done = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, option, value, &raw mut length)
    };
    (done == 0).then_some(value)
}

/// Serves the request; the result is the process's exit code.
fn work(socket: OwnedFd) -> c_int {
    silence_panics();
    // SAFETY: a caller that is gone must not kill the worker half-way; this process is ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    super::host::shielded(|| crate::rpc::serve_worker(socket.into_raw_fd())).unwrap_or(1)
}

/// Runs before the host's constructors and `main()`, after those of the Rust runtime (99).
#[used]
#[unsafe(link_section = ".init_array.00101")]
static CONSTRUCTOR: extern "C" fn() = work_if_marked;

/// Makes the linker take the constructor along with the code that relies on it.
pub fn keep_constructor() {
    std::hint::black_box(&CONSTRUCTOR);
}

/// Whether this process, or what it executes, was raised in privilege by its program file: then its
/// environment belongs to somebody else.
pub fn is_raised() -> bool {
    // SAFETY: no memory is involved.
    unsafe {
        libc::getauxval(libc::AT_SECURE) != 0
            || libc::getuid() != libc::geteuid()
            || libc::getgid() != libc::getegid()
    }
}

extern "C" fn work_if_marked() {
    // SAFETY: the environment is not changed by anyone before main().
    let mark = unsafe { libc::getenv(MARK.as_ptr()) };
    if mark.is_null() {
        return;
    }
    if is_raised() || !in_main_program() {
        return;
    }
    // SAFETY: a value of the environment is a C string.
    let text = unsafe { CStr::from_ptr(mark) };
    if let Some(socket) = worker_socket(text) {
        // SAFETY: as above; what the worker starts must not become a worker too. Then the process
        // ends without the host's exit handlers.
        unsafe {
            libc::unsetenv(MARK.as_ptr());
            libc::_exit(work(socket))
        }
    }
}
