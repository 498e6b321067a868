//! Setters of switches.

use super::settings::Target;
use super::types::criu_opts;

/// The tasks run on after their dump.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_leave_running(on: bool) {
    Target::Global.set(|s| s.rpc.leave_running = Some(on));
}

/// `criu_set_leave_running()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_leave_running(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.leave_running = Some(on));
}

/// The tasks stay stopped after their dump or restore. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_leave_stopped(on: bool) {
    Target::Global.set(|s| s.rpc.leave_stopped = Some(on));
}

/// `criu_set_leave_stopped()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_leave_stopped(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.leave_stopped = Some(on));
}

/// The tasks may belong to a session or terminal outside the tree.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_shell_job(on: bool) {
    Target::Global.set(|s| s.rpc.shell_job = Some(on));
}

/// `criu_set_shell_job()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_shell_job(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.shell_job = Some(on));
}

/// Unix sockets may have their other end outside the tree.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_ext_unix_sk(on: bool) {
    Target::Global.set(|s| s.rpc.ext_unix_sk = Some(on));
}

/// `criu_set_ext_unix_sk()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_ext_unix_sk(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.ext_unix_sk = Some(on));
}

/// Established TCP connections are dumped and restored.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_tcp_established(on: bool) {
    Target::Global.set(|s| s.rpc.tcp_established = Some(on));
}

/// `criu_set_tcp_established()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tcp_established(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.tcp_established = Some(on));
}

/// TCP connections that are still being made are left out.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_tcp_skip_in_flight(on: bool) {
    Target::Global.set(|s| s.rpc.tcp_skip_in_flight = Some(on));
}

/// `criu_set_tcp_skip_in_flight()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tcp_skip_in_flight(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.tcp_skip_in_flight = Some(on));
}

/// TCP connections are restored closed.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_tcp_close(on: bool) {
    Target::Global.set(|s| s.rpc.tcp_close = Some(on));
}

/// `criu_set_tcp_close()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tcp_close(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.tcp_close = Some(on));
}

/// Sysctls that do not exist at restore are left out.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_weak_sysctls(on: bool) {
    Target::Global.set(|s| s.rpc.weak_sysctls = Some(on));
}

/// `criu_set_weak_sysctls()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_weak_sysctls(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.weak_sysctls = Some(on));
}

/// A device may be opened by another path than at the dump.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_evasive_devices(on: bool) {
    Target::Global.set(|s| s.rpc.evasive_devices = Some(on));
}

/// `criu_set_evasive_devices()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_evasive_devices(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.evasive_devices = Some(on));
}

/// The permission bits of files may have changed since the dump.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_skip_file_rwx_check(on: bool) {
    Target::Global.set(|s| s.rpc.skip_file_rwx_check = Some(on));
}

/// `criu_set_skip_file_rwx_check()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_skip_file_rwx_check(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.skip_file_rwx_check = Some(on));
}

/// Works as far as the capabilities of the caller allow.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_unprivileged(on: bool) {
    Target::Global.set(|s| s.rpc.unprivileged = Some(on));
}

/// `criu_set_unprivileged()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_unprivileged(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.unprivileged = Some(on));
}

/// The master of a console terminal is given to the callback at restore.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_orphan_pts_master(on: bool) {
    Target::Global.set(|s| s.rpc.orphan_pts_master = Some(on));
}

/// `criu_set_orphan_pts_master()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_orphan_pts_master(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.orphan_pts_master = Some(on));
}

/// File locks are dumped and restored.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_file_locks(on: bool) {
    Target::Global.set(|s| s.rpc.file_locks = Some(on));
}

/// `criu_set_file_locks()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_file_locks(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.file_locks = Some(on));
}

/// Changes of memory are tracked for the next dump.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_track_mem(on: bool) {
    Target::Global.set(|s| s.rpc.track_mem = Some(on));
}

/// `criu_set_track_mem()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_track_mem(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.track_mem = Some(on));
}

/// Pages that this dump replaces are removed from the parent images.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_auto_dedup(on: bool) {
    Target::Global.set(|s| s.rpc.auto_dedup = Some(on));
}

/// `criu_set_auto_dedup()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_auto_dedup(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.auto_dedup = Some(on));
}

/// Paths of inotify watches are searched for in the file system.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_force_irmap(on: bool) {
    Target::Global.set(|s| s.rpc.force_irmap = Some(on));
}

/// `criu_set_force_irmap()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_force_irmap(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.force_irmap = Some(on));
}

/// Unlinked files may be linked back under a temporary name.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_link_remap(on: bool) {
    Target::Global.set(|s| s.rpc.link_remap = Some(on));
}

/// `criu_set_link_remap()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_link_remap(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.link_remap = Some(on));
}

/// Cgroups are dumped and restored.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_manage_cgroups(on: bool) {
    Target::Global.set(|s| s.rpc.manage_cgroups = Some(on));
}

/// `criu_set_manage_cgroups()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_manage_cgroups(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.manage_cgroups = Some(on));
}

/// External mounts are found without being named.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_auto_ext_mnt(on: bool) {
    Target::Global.set(|s| s.rpc.auto_ext_mnt = Some(on));
}

/// `criu_set_auto_ext_mnt()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_auto_ext_mnt(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.auto_ext_mnt = Some(on));
}

/// Mounts may share propagation with mounts outside.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_ext_sharing(on: bool) {
    Target::Global.set(|s| s.rpc.ext_sharing = Some(on));
}

/// `criu_set_ext_sharing()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_ext_sharing(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.ext_sharing = Some(on));
}

/// Mounts may have their master outside.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_ext_masters(on: bool) {
    Target::Global.set(|s| s.rpc.ext_masters = Some(on));
}

/// `criu_set_ext_masters()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_ext_masters(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.ext_masters = Some(on));
}

/// Mounts are restored the way of kernels before 5.15.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_mntns_compat_mode(on: bool) {
    Target::Global.set(|s| s.rpc.mntns_compat_mode = Some(on));
}

/// `criu_set_mntns_compat_mode()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_mntns_compat_mode(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.mntns_compat_mode = Some(on));
}

/// Pages are restored on demand. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_lazy_pages(on: bool) {
    Target::Global.set(|s| s.rpc.lazy_pages = Some(on));
}

/// `criu_set_lazy_pages()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_lazy_pages(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.lazy_pages = Some(on));
}

/// Statistics are written to the log. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_display_stats(on: bool) {
    Target::Global.set(|s| s.rpc.display_stats = Some(on));
}

/// `criu_set_display_stats()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_display_stats(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.display_stats = Some(on));
}

/// The worker logs to its standard error instead of a file. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_log_to_stderr(on: bool) {
    Target::Global.set(|s| s.rpc.log_to_stderr = Some(on));
}

/// `criu_set_log_to_stderr()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_log_to_stderr(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.log_to_stderr = Some(on));
}

/// The page server's connection is encrypted. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_tls(on: bool) {
    Target::Global.set(|s| s.rpc.tls = Some(on));
}

/// `criu_set_tls()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tls(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.tls = Some(on));
}

/// The name in the page server's certificate is not compared with its address. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_tls_no_cn_verify(on: bool) {
    Target::Global.set(|s| s.rpc.tls_no_cn_verify = Some(on));
}

/// `criu_set_tls_no_cn_verify()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tls_no_cn_verify(opts: *mut criu_opts, on: bool) {
    Target::Local(opts).set(|s| s.rpc.tls_no_cn_verify = Some(on));
}
