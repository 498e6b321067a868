//! Setters of numbers: pids, descriptors, limits, modes.

use std::ffi::{c_int, c_uint};

use super::settings::{Bad, Settings, Target};
use super::types::{CgMode, NetworkLockMethod, PreDumpMode, criu_opts};
use crate::images::proto::{CriuNetworkLockMethod, CriuPreDumpMode};

fn set_network_lock(s: &mut Settings, method: NetworkLockMethod) -> Result<(), Bad> {
    match CriuNetworkLockMethod::try_from(method.cast_signed()) {
        Ok(method) => s.rpc.network_lock = Some(method.into()),
        Err(_) => return Err(Bad::minus_one(format!("there is no network lock method {method}"))),
    }
    Ok(())
}

fn set_pre_dump_mode(s: &mut Settings, mode: PreDumpMode) -> Result<(), Bad> {
    match CriuPreDumpMode::try_from(mode.cast_signed()) {
        Ok(mode) => s.rpc.pre_dump_mode = Some(mode.into()),
        Err(_) => return Err(Bad::minus_one(format!("there is no pre-dump mode {mode}"))),
    }
    Ok(())
}

/// The root of the tree to dump; without it the caller dumps itself.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_pid(pid: c_int) {
    Target::Global.set(|s| s.rpc.pid = Some(pid));
}

/// `criu_set_pid()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_pid(opts: *mut criu_opts, pid: c_int) {
    Target::Local(opts).set(|s| s.rpc.pid = Some(pid));
}

/// The image directory. The descriptor has to stay open until the verb returns.
///
/// A negative number takes back what was said.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_images_dir_fd(fd: c_int) {
    Target::Global.set(|s| s.rpc.images_dir_fd = fd.max(-1));
}

/// `criu_set_images_dir_fd()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_images_dir_fd(opts: *mut criu_opts, fd: c_int) {
    Target::Local(opts).set(|s| s.rpc.images_dir_fd = fd.max(-1));
}

/// The directory for log and statistics; without it, the image directory.
///
/// A negative number takes back what was said.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_work_dir_fd(fd: c_int) {
    Target::Global.set(|s| s.rpc.work_dir_fd = (fd >= 0).then_some(fd));
}

/// `criu_set_work_dir_fd()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_work_dir_fd(opts: *mut criu_opts, fd: c_int) {
    Target::Local(opts).set(|s| s.rpc.work_dir_fd = (fd >= 0).then_some(fd));
}

/// A descriptor that gets a byte when the worker is ready.
///
/// A negative number takes back what was said. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_status_fd(fd: c_int) {
    Target::Global.set(|s| s.rpc.status_fd = (fd >= 0).then_some(fd));
}

/// `criu_set_status_fd()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_status_fd(opts: *mut criu_opts, fd: c_int) {
    Target::Local(opts).set(|s| s.rpc.status_fd = (fd >= 0).then_some(fd));
}

/// A socket that keeps the pidfds of dumped tasks from one dump to the next.
///
/// A negative number takes back what was said.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_pidfd_store_sk(sk: c_int) {
    Target::Global.set(|s| s.rpc.pidfd_store_sk = (sk >= 0).then_some(sk));
}

/// `criu_set_pidfd_store_sk()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_pidfd_store_sk(opts: *mut criu_opts, sk: c_int) {
    Target::Local(opts).set(|s| s.rpc.pidfd_store_sk = (sk >= 0).then_some(sk));
}

/// How much is logged: `CRIU_LOG_ERROR` to `CRIU_LOG_DEBUG`.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_log_level(log_level: c_int) {
    Target::Global.set(|s| s.rpc.log_level = Some(log_level));
}

/// `criu_set_log_level()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_log_level(opts: *mut criu_opts, log_level: c_int) {
    Target::Local(opts).set(|s| s.rpc.log_level = Some(log_level));
}

/// What of the processor is written by a dump and compared by a restore: 1 for the floating point
/// state, 2 for every capability, 4 for instructions, or a sum. Nothing is, where it is not called.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_cpu_cap(cap: c_uint) {
    Target::Global.set(|s| s.rpc.cpu_cap = Some(cap));
}

/// `criu_set_cpu_cap()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_cpu_cap(opts: *mut criu_opts, cap: c_uint) {
    Target::Local(opts).set(|s| s.rpc.cpu_cap = Some(cap));
}

/// The time limit of a verb in seconds.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_timeout(timeout: c_uint) {
    Target::Global.set(|s| s.rpc.timeout = Some(timeout));
}

/// `criu_set_timeout()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_timeout(opts: *mut criu_opts, timeout: c_uint) {
    Target::Local(opts).set(|s| s.rpc.timeout = Some(timeout));
}

/// The largest unlinked file that is stored in the images, in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_ghost_limit(limit: c_uint) {
    Target::Global.set(|s| s.rpc.ghost_limit = Some(limit));
}

/// `criu_set_ghost_limit()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_ghost_limit(opts: *mut criu_opts, limit: c_uint) {
    Target::Local(opts).set(|s| s.rpc.ghost_limit = Some(limit));
}

/// Namespaces (`CLONE_NEW...`) that are restored empty.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_empty_ns(namespaces: c_int) {
    Target::Global.set(|s| s.rpc.empty_ns = Some(namespaces.cast_unsigned()));
}

/// `criu_set_empty_ns()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_empty_ns(opts: *mut criu_opts, namespaces: c_int) {
    Target::Local(opts).set(|s| s.rpc.empty_ns = Some(namespaces.cast_unsigned()));
}

/// How much of the cgroups is restored.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_manage_cgroups_mode(mode: CgMode) {
    Target::Global.set(|s| {
        s.rpc.manage_cgroups_mode = Some(mode.cast_signed());
    });
}

/// `criu_set_manage_cgroups_mode()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_manage_cgroups_mode(opts: *mut criu_opts, mode: CgMode) {
    Target::Local(opts).set(|s| {
        s.rpc.manage_cgroups_mode = Some(mode.cast_signed());
    });
}

/// How the network is kept still.
///
/// Returns 0; -1 if there is no such method.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_network_lock(method: NetworkLockMethod) -> c_int {
    Target::Global.try_set(|s| set_network_lock(s, method))
}

/// `criu_set_network_lock()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_network_lock(
    opts: *mut criu_opts,
    method: NetworkLockMethod,
) -> c_int {
    Target::Local(opts).try_set(|s| set_network_lock(s, method))
}

/// How a pre-dump reads memory.
///
/// Returns 0; -1 if there is no such mode.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_pre_dump_mode(mode: PreDumpMode) -> c_int {
    Target::Global.try_set(|s| set_pre_dump_mode(s, mode))
}

/// `criu_set_pre_dump_mode()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_pre_dump_mode(
    opts: *mut criu_opts,
    mode: PreDumpMode,
) -> c_int {
    Target::Local(opts).try_set(|s| set_pre_dump_mode(s, mode))
}
