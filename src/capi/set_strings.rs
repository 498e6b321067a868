//! Setters of one string each. The string is copied.

use std::ffi::{c_char, c_int};

use super::settings::{Target, text};
use super::types::criu_opts;

/// The image directory by its path, for the worker to open.
///
/// It is used if no descriptor is given, and keeps a descriptor out of a self-dump.
///
/// Returns 0; -EINVAL if it is NULL. Not in upstream's library.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_images_dir(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.images_dir = Some(unsafe { text(path, "images_dir") }?);
        Ok(())
    })
}

/// `criu_set_images_dir()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_images_dir(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.images_dir = Some(unsafe { text(path, "images_dir") }?);
        Ok(())
    })
}

/// The images that this dump continues, relative to the image directory.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_parent_images(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.parent_img = Some(unsafe { text(path, "parent_img") }?);
        Ok(())
    })
}

/// `criu_set_parent_images()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_parent_images(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.parent_img = Some(unsafe { text(path, "parent_img") }?);
        Ok(())
    })
}

/// The log's file name in the work directory.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `log_file` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_log_file(log_file: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.log_file = Some(unsafe { text(log_file, "log_file") }?);
        Ok(())
    })
}

/// `criu_set_log_file()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `log_file` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_log_file(
    opts: *mut criu_opts,
    log_file: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.log_file = Some(unsafe { text(log_file, "log_file") }?);
        Ok(())
    })
}

/// The root directory of the restored tasks.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `root` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_root(root: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.root = Some(unsafe { text(root, "root") }?);
        Ok(())
    })
}

/// `criu_set_root()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `root` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_root(opts: *mut criu_opts, root: *const c_char) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.root = Some(unsafe { text(root, "root") }?);
        Ok(())
    })
}

/// The cgroup whose freezer stops the tasks.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_freeze_cgroup(name: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.freeze_cgroup = Some(unsafe { text(name, "freeze_cgroup") }?);
        Ok(())
    })
}

/// `criu_set_freeze_cgroup()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_freeze_cgroup(
    opts: *mut criu_opts,
    name: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.freeze_cgroup = Some(unsafe { text(name, "freeze_cgroup") }?);
        Ok(())
    })
}

/// The security profile of the restored tasks: `type:name`.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_lsm_profile(name: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.lsm_profile = Some(unsafe { text(name, "lsm_profile") }?);
        Ok(())
    })
}

/// `criu_set_lsm_profile()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_lsm_profile(
    opts: *mut criu_opts,
    name: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.lsm_profile = Some(unsafe { text(name, "lsm_profile") }?);
        Ok(())
    })
}

/// The SELinux context of restored mounts.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_lsm_mount_context(name: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.lsm_mount_context = Some(unsafe { text(name, "lsm_mount_context") }?);
        Ok(())
    })
}

/// `criu_set_lsm_mount_context()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_lsm_mount_context(
    opts: *mut criu_opts,
    name: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.lsm_mount_context = Some(unsafe { text(name, "lsm_mount_context") }?);
        Ok(())
    })
}

/// A configuration file that is read after all other options.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_config_file(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.config_file = Some(unsafe { text(path, "config_file") }?);
        Ok(())
    })
}

/// `criu_set_config_file()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_config_file(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.config_file = Some(unsafe { text(path, "config_file") }?);
        Ok(())
    })
}

/// The certificate authority for the page server's connection.
///
/// Returns 0; -EINVAL if it is NULL. Not in upstream's library.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_tls_cacert(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_cacert = Some(unsafe { text(path, "tls_cacert") }?);
        Ok(())
    })
}

/// `criu_set_tls_cacert()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tls_cacert(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_cacert = Some(unsafe { text(path, "tls_cacert") }?);
        Ok(())
    })
}

/// The revocation list for the page server's connection.
///
/// Returns 0; -EINVAL if it is NULL. Not in upstream's library.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_tls_cacrl(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_cacrl = Some(unsafe { text(path, "tls_cacrl") }?);
        Ok(())
    })
}

/// `criu_set_tls_cacrl()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tls_cacrl(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_cacrl = Some(unsafe { text(path, "tls_cacrl") }?);
        Ok(())
    })
}

/// The own certificate for the page server's connection.
///
/// Returns 0; -EINVAL if it is NULL. Not in upstream's library.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_tls_cert(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_cert = Some(unsafe { text(path, "tls_cert") }?);
        Ok(())
    })
}

/// `criu_set_tls_cert()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tls_cert(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_cert = Some(unsafe { text(path, "tls_cert") }?);
        Ok(())
    })
}

/// The private key for the page server's connection.
///
/// Returns 0; -EINVAL if it is NULL. Not in upstream's library.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_tls_key(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_key = Some(unsafe { text(path, "tls_key") }?);
        Ok(())
    })
}

/// `criu_set_tls_key()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_tls_key(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.tls_key = Some(unsafe { text(path, "tls_key") }?);
        Ok(())
    })
}

/// Properties of cgroups to dump, as text. Not in upstream's library.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `stream` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_cg_props(stream: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_props = Some(unsafe { text(stream, "cgroup_props") }?);
        Ok(())
    })
}

/// `criu_add_cg_props()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `stream` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_cg_props(
    opts: *mut criu_opts,
    stream: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_props = Some(unsafe { text(stream, "cgroup_props") }?);
        Ok(())
    })
}

/// A file with the properties of cgroups to dump. Not in upstream's library.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_cg_props_file(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_props_file = Some(unsafe { text(path, "cgroup_props_file") }?);
        Ok(())
    })
}

/// `criu_add_cg_props_file()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_cg_props_file(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_props_file = Some(unsafe { text(path, "cgroup_props_file") }?);
        Ok(())
    })
}

/// A directory where the cgroup controllers are mounted. Not in upstream's library.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_cg_yard(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_yard = Some(unsafe { text(path, "cgroup_yard") }?);
        Ok(())
    })
}

/// `criu_add_cg_yard()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_cg_yard(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_yard = Some(unsafe { text(path, "cgroup_yard") }?);
        Ok(())
    })
}
