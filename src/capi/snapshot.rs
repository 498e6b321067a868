//! `criu_snapshot()`: the caller goes on, and a later restore goes on as the caller.

use std::ffi::{OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::client::Failure;
use super::settings::{Bad, Settings, Target, text};
use super::types::criu_opts;
use super::verbs::{dump_once, run};
use crate::error::shown;

/// What the options are for a snapshot into `dir`.
fn into_directory(mut settings: Settings, dir: &Path) -> Result<Settings, Failure> {
    let failed = |what: &str, error: std::io::Error| Failure {
        code: -libc::EBADE,
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
        message: format!("{what} {}: {error}", shown(dir.as_os_str())),
    };
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed("cannot make the image directory", error));
        }
        _ => {}
    }
    // By its path, since a descriptor of the directory would be dumped with the caller.
    let absolute = dir.canonicalize().map_err(|e| failed("no image directory", e))?;
    settings.rpc.images_dir_fd = -1;
    settings.rpc.images_dir = Some(absolute.into_os_string().into_vec());
    settings.rpc.pid = None;
    settings.rpc.leave_running = Some(true);
    settings.rpc.leave_stopped = None;
    // A program that was started from a terminal is in somebody else's session.
    settings.rpc.shell_job.get_or_insert(true);
    Ok(settings)
}

/// # Safety
/// `dir` is NULL or a C string.
unsafe fn snapshot(target: Target, dir: *const c_char) -> c_int {
    // SAFETY: as the caller promised.
    let dir = unsafe { text(dir, "the directory of a snapshot") };
    run(target, |settings| {
        let bad = |bad: Bad| Failure::new(bad.code, bad.message);
        let dir = OsString::from_vec(dir.map_err(bad)?);
        dump_once(into_directory(settings, Path::new(&dir))?)
    })
}

/// Takes a snapshot of the calling process into the directory `images_dir`, and goes on.
///
/// Returns 0 in the caller, and 1 in every process that is restored from the images. Below 0 as
/// `criu_dump()`. The directory is made if it is missing. Options that were set hold, but
/// `leave_running` is always on and `shell_job` is on unless it was switched off;
/// `criu_init_opts()` may be left out. Not in upstream's library.
///
/// # Safety
/// `images_dir` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_snapshot(images_dir: *const c_char) -> c_int {
    if Target::Global.with(|_| ()).is_none() {
        super::settings::criu_init_opts();
    }
    // SAFETY: as the caller promised.
    unsafe { snapshot(Target::Global, images_dir) }
}

/// `criu_snapshot()` with options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live; `images_dir` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_snapshot(
    opts: *mut criu_opts,
    images_dir: *const c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    unsafe { snapshot(Target::Local(opts), images_dir) }
}
