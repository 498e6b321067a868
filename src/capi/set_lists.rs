//! Setters of lists and of values with parts. Strings are copied.

use std::ffi::{c_char, c_int, c_uint};

use super::settings::{Bad, Settings, Target, optional_text, text};
use super::types::criu_opts;
use crate::images::proto;

/// # Safety
/// The arguments are NULL or C strings.
unsafe fn join_ns(
    s: &mut Settings,
    ns: *const c_char,
    ns_file: *const c_char,
    extra_opt: *const c_char,
) -> Result<(), Bad> {
    let minus_one = |bad: Bad| Bad::minus_one(bad.message);
    // SAFETY: as the caller promised.
    let joined = unsafe {
        proto::JoinNamespace {
            ns: text(ns, "ns").map_err(minus_one)?,
            ns_file: text(ns_file, "ns_file").map_err(minus_one)?,
            extra_opt: optional_text(extra_opt),
        }
    };
    s.rpc.join_ns.push(joined);
    Ok(())
}

/// # Safety
/// `key` is NULL or a C string.
unsafe fn inherit_fd(s: &mut Settings, fd: c_int, key: *const c_char) -> Result<(), Bad> {
    if !s.service.is_program() {
        return Err(Bad::minus_one("a service cannot inherit descriptors; use a worker program"));
    }
    if fd < 0 {
        return Err(Bad::new(format!("descriptor {fd} cannot be inherited")));
    }
    // SAFETY: as the caller promised.
    let key = unsafe { text(key, "key") }?;
    s.rpc.inherit_fd.push(proto::InheritFd { key, fd });
    Ok(())
}

fn add_unix_sk(s: &mut Settings, inode: c_uint) -> Result<(), Bad> {
    if s.rpc.ext_unix_sk == Some(false) {
        s.rpc.unix_sk_ino.clear();
        return Err(Bad::minus_one("ext_unix_sk was switched off"));
    }
    s.rpc.ext_unix_sk = Some(true);
    s.rpc.unix_sk_ino.push(proto::UnixSk { inode });
    Ok(())
}

/// # Safety
/// `argv` is NULL or holds `argc` C strings or NULLs.
unsafe fn set_exec_cmd(s: &mut Settings, argc: c_int, argv: *mut *mut c_char) -> Result<(), Bad> {
    let count = usize::try_from(argc).map_err(|_| Bad::new(format!("argc is {argc}")))?;
    if argv.is_null() && count > 0 {
        return Err(Bad::new("argv is NULL"));
    }
    // SAFETY: `argv` holds `count` pointers, as the caller promised.
    let word = |index: usize| unsafe { text(*argv.add(index), "argv") };
    s.rpc.exec_cmd = (0..count).map(word).collect::<Result<_, _>>()?;
    Ok(())
}

/// An object that is outside the tree on purpose: `kind[identity]:name`.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `key` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_external(key: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.external.push(unsafe { text(key, "key") }?);
        Ok(())
    })
}

/// `criu_add_external()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `key` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_external(
    opts: *mut criu_opts,
    key: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.external.push(unsafe { text(key, "key") }?);
        Ok(())
    })
}

/// A file system that is mounted again at restore though it has no known content.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `fs` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_enable_fs(fs: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.enable_fs.push(unsafe { text(fs, "fs") }?);
        Ok(())
    })
}

/// `criu_add_enable_fs()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `fs` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_enable_fs(
    opts: *mut criu_opts,
    fs: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.enable_fs.push(unsafe { text(fs, "fs") }?);
        Ok(())
    })
}

/// A mount point that is left out.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `mnt` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_skip_mnt(mnt: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.skip_mnt.push(unsafe { text(mnt, "mnt") }?);
        Ok(())
    })
}

/// `criu_add_skip_mnt()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `mnt` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_skip_mnt(
    opts: *mut criu_opts,
    mnt: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.skip_mnt.push(unsafe { text(mnt, "mnt") }?);
        Ok(())
    })
}

/// A directory where the files of inotify watches are searched.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_irmap_path(path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.irmap_scan_paths.push(unsafe { text(path, "path") }?);
        Ok(())
    })
}

/// `criu_add_irmap_path()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `path` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_irmap_path(
    opts: *mut criu_opts,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.irmap_scan_paths.push(unsafe { text(path, "path") }?);
        Ok(())
    })
}

/// A cgroup controller to dump; without any, all known ones. Not in upstream's library.
///
/// Returns 0; -EINVAL if it is NULL.
///
/// # Safety
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_cg_dump_controller(name: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_dump_controller.push(unsafe { text(name, "name") }?);
        Ok(())
    })
}

/// `criu_add_cg_dump_controller()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_cg_dump_controller(
    opts: *mut criu_opts,
    name: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        s.rpc.cgroup_dump_controller.push(unsafe { text(name, "name") }?);
        Ok(())
    })
}

/// A mount that comes from outside: its mount point at dump, its source at restore.
///
/// Returns 0; -EINVAL if one is NULL.
///
/// # Safety
/// `key` and `val` are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_ext_mount(key: *const c_char, val: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        let key = unsafe { text(key, "key") }?;
        // SAFETY: as the caller promised.
        let val = unsafe { text(val, "val") }?;
        s.rpc.ext_mnt.push(proto::ExtMountMap { key, val });
        Ok(())
    })
}

/// `criu_add_ext_mount()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `key` and `val` are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_ext_mount(
    opts: *mut criu_opts,
    key: *const c_char,
    val: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        let key = unsafe { text(key, "key") }?;
        // SAFETY: as the caller promised.
        let val = unsafe { text(val, "val") }?;
        s.rpc.ext_mnt.push(proto::ExtMountMap { key, val });
        Ok(())
    })
}

/// A veth device inside and the name of its peer outside.
///
/// Returns 0; -EINVAL if one is NULL.
///
/// # Safety
/// `in` and `out` are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_veth_pair(r#in: *const c_char, out: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        let if_in = unsafe { text(r#in, "in") }?;
        // SAFETY: as the caller promised.
        let if_out = unsafe { text(out, "out") }?;
        s.rpc.veths.push(proto::CriuVethPair { if_in, if_out });
        Ok(())
    })
}

/// `criu_add_veth_pair()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `in` and `out` are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_veth_pair(
    opts: *mut criu_opts,
    r#in: *const c_char,
    out: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        let if_in = unsafe { text(r#in, "in") }?;
        // SAFETY: as the caller promised.
        let if_out = unsafe { text(out, "out") }?;
        s.rpc.veths.push(proto::CriuVethPair { if_in, if_out });
        Ok(())
    })
}

/// The cgroup that restored tasks are put under; `ctrl` NULL: for all controllers.
///
/// Returns 0; -EINVAL if `path` is NULL.
///
/// # Safety
/// `ctrl` and `path` are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_cg_root(ctrl: *const c_char, path: *const c_char) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        let ctrl = unsafe { optional_text(ctrl) };
        // SAFETY: as the caller promised.
        let path = unsafe { text(path, "path") }?;
        s.rpc.cg_root.push(proto::CgroupRoot { ctrl, path });
        Ok(())
    })
}

/// `criu_add_cg_root()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `ctrl` and `path` are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_cg_root(
    opts: *mut criu_opts,
    ctrl: *const c_char,
    path: *const c_char,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        let ctrl = unsafe { optional_text(ctrl) };
        // SAFETY: as the caller promised.
        let path = unsafe { text(path, "path") }?;
        s.rpc.cg_root.push(proto::CgroupRoot { ctrl, path });
        Ok(())
    })
}

/// A namespace that the restored tasks join: its kind, its file or a pid; `extra_opt` may be NULL.
///
/// Returns 0; -1 if `ns` or `ns_file` is NULL.
///
/// # Safety
/// the arguments are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_join_ns_add(
    ns: *const c_char,
    ns_file: *const c_char,
    extra_opt: *const c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    Target::Global.try_set(|s| unsafe { join_ns(s, ns, ns_file, extra_opt) })
}

/// `criu_join_ns_add()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; the arguments are NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_join_ns_add(
    opts: *mut criu_opts,
    ns: *const c_char,
    ns_file: *const c_char,
    extra_opt: *const c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    Target::Local(opts).try_set(|s| unsafe { join_ns(s, ns, ns_file, extra_opt) })
}

/// A descriptor of the caller that takes the place of what `key` names in the images.
///
/// Returns 0; -1 if the worker is a service; -EINVAL if `fd` is negative or `key` is NULL.
///
/// # Safety
/// `key` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_add_inherit_fd(fd: c_int, key: *const c_char) -> c_int {
    // SAFETY: as the caller promised.
    Target::Global.try_set(|s| unsafe { inherit_fd(s, fd, key) })
}

/// `criu_add_inherit_fd()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `key` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_inherit_fd(
    opts: *mut criu_opts,
    fd: c_int,
    key: *const c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    Target::Local(opts).try_set(|s| unsafe { inherit_fd(s, fd, key) })
}

/// A Unix socket, by its inode, whose other end may be outside; switches `ext_unix_sk` on.
///
/// Returns 0; -1 if `ext_unix_sk` was switched off, which forgets the sockets added before.
#[unsafe(no_mangle)]
pub extern "C" fn criu_add_unix_sk(inode: c_uint) -> c_int {
    Target::Global.try_set(|s| add_unix_sk(s, inode))
}

/// `criu_add_unix_sk()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_add_unix_sk(opts: *mut criu_opts, inode: c_uint) -> c_int {
    Target::Local(opts).try_set(|s| add_unix_sk(s, inode))
}

/// The page server.
///
/// Returns 0; -EINVAL if `address` is NULL.
///
/// # Safety
/// `address` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_page_server_address_port(
    address: *const c_char,
    port: c_int,
) -> c_int {
    Target::Global.try_set(|s| {
        // SAFETY: as the caller promised.
        let address = Some(unsafe { text(address, "address") }?);
        s.rpc.ps =
            Some(proto::CriuPageServerInfo { address, port: Some(port), ..Default::default() });
        Ok(())
    })
}

/// `criu_set_page_server_address_port()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `address` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_page_server_address_port(
    opts: *mut criu_opts,
    address: *const c_char,
    port: c_int,
) -> c_int {
    Target::Local(opts).try_set(|s| {
        // SAFETY: as the caller promised.
        let address = Some(unsafe { text(address, "address") }?);
        s.rpc.ps =
            Some(proto::CriuPageServerInfo { address, port: Some(port), ..Default::default() });
        Ok(())
    })
}

/// The command that the restored tasks' parent becomes.
///
/// Returns 0; -EINVAL if `argc` is negative or a string is NULL.
///
/// # Safety
/// `argv` is NULL or holds `argc` C strings or NULLs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_set_exec_cmd(argc: c_int, argv: *mut *mut c_char) -> c_int {
    // SAFETY: as the caller promised.
    Target::Global.try_set(|s| unsafe { set_exec_cmd(s, argc, argv) })
}

/// `criu_set_exec_cmd()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live; `argv` is NULL or holds `argc` C strings or NULLs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_exec_cmd(
    opts: *mut criu_opts,
    argc: c_int,
    argv: *mut *mut c_char,
) -> c_int {
    // SAFETY: as the caller promised.
    Target::Local(opts).try_set(|s| unsafe { set_exec_cmd(s, argc, argv) })
}
