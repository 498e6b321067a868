//! How the worker is reached.

use std::ffi::{CStr, CString, c_char, c_int};

use super::settings::{DEFAULT_SERVICE_ADDRESS, Service, Target};
use super::types::criu_opts;

/// # Safety
/// `path` is NULL or a C string.
unsafe fn copy(path: *const c_char) -> Option<CString> {
    // SAFETY: not NULL, so a C string as the caller promised.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_owned())
}

fn set(target: Target, service: Service) -> c_int {
    target.try_set(|settings| {
        settings.service = service;
        Ok(())
    })
}

/// Talks to a service that listens on the Unix socket `path`; NULL: `./criu_service.socket`.
///
/// Returns 0, or -EINVAL without options.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_service_address(path: *const c_char) -> c_int {
    // SAFETY: as the caller promised.
    let path = unsafe { copy(path) };
    set(Target::Global, Service::Address(path.unwrap_or_else(|| DEFAULT_SERVICE_ADDRESS.into())))
}

/// `criu_set_service_address()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_service_address(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    let path = unsafe { copy(path) };
    let service = Service::Address(path.unwrap_or_else(|| DEFAULT_SERVICE_ADDRESS.into()));
    set(Target::Local(opts), service)
}

/// Talks over `fd`, a SOCK_SEQPACKET Unix socket that is connected to a service.
///
/// The next verb uses it up and closes it, `criu_restore_child()` excepted.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_service_fd(fd: c_int) {
    set(Target::Global, Service::Fd(fd));
}

/// `criu_set_service_fd()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_service_fd(opts: *mut criu_opts, fd: c_int) {
    set(Target::Local(opts), Service::Fd(fd));
}

/// Starts the program `path` as the worker; it is searched in PATH if it has no slash.
///
/// NULL: the library's own worker, which is the default and needs no set-up. Returns 0, or -EINVAL
/// without options.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_service_binary(path: *const c_char) -> c_int {
    // SAFETY: as the caller promised.
    set(Target::Global, unsafe { copy(path) }.map_or(Service::Own, Service::Binary))
}

/// `criu_set_service_binary()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_service_binary(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    set(Target::Local(opts), unsafe { copy(path) }.map_or(Service::Own, Service::Binary))
}

/// Runs the engine in the calling thread: no worker, no exec. Not in upstream's library.
///
/// For hosts that can afford it: the engine traces tasks and waits for them from this very process,
/// and every restored root is its child. A caller that dumps itself gets a worker all the same.
/// Returns 0, or -EINVAL without options.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_service_inprocess() -> c_int {
    set(Target::Global, Service::InProcess)
}

/// `criu_set_service_inprocess()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_service_inprocess(opts: *mut criu_opts) -> c_int {
    set(Target::Local(opts), Service::InProcess)
}

/// Forgets what was said about the service: the library's own worker is used again.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_free_service(opts: *mut criu_opts) {
    set(Target::Local(opts), Service::Own);
}
