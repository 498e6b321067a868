//! The types and constants of the header.

#![allow(non_camel_case_types)]

use std::ffi::{c_int, c_uint, c_void};

use parking_lot::Mutex;

use super::settings::Settings;

/// As `log_level`: nothing was said.
pub const CRIU_LOG_UNSET: c_int = -1;
/// As `log_level`: only messages that are always written.
pub const CRIU_LOG_MSG: c_int = 0;
/// As `log_level`: errors.
pub const CRIU_LOG_ERROR: c_int = 1;
/// As `log_level`: warnings too.
pub const CRIU_LOG_WARN: c_int = 2;
/// As `log_level`: what is being done too.
pub const CRIU_LOG_INFO: c_int = 3;
/// As `log_level`: everything.
pub const CRIU_LOG_DEBUG: c_int = 4;

/// How the worker is reached: a socket address, a connected socket, a program.
#[repr(C)]
pub enum criu_service_comm {
    CRIU_COMM_SK,
    CRIU_COMM_FD,
    CRIU_COMM_BIN,
}

/// How much of the cgroups is restored.
#[repr(C)]
pub enum criu_cg_mode {
    CRIU_CG_MODE_IGNORE,
    CRIU_CG_MODE_NONE,
    CRIU_CG_MODE_PROPS,
    CRIU_CG_MODE_SOFT,
    CRIU_CG_MODE_FULL,
    CRIU_CG_MODE_STRICT,
    CRIU_CG_MODE_DEFAULT,
}

/// How the network is kept still while connections are dumped or restored.
#[repr(C)]
pub enum criu_network_lock_method {
    CRIU_NETWORK_LOCK_IPTABLES = 1,
    CRIU_NETWORK_LOCK_NFTABLES = 2,
    CRIU_NETWORK_LOCK_SKIP = 3,
}

/// How a pre-dump reads the memory of the tasks.
#[repr(C)]
pub enum criu_pre_dump_mode {
    CRIU_PRE_DUMP_SPLICE = 1,
    CRIU_PRE_DUMP_READ = 2,
}

/// What `criu_feature_check()` asks about and answers.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct criu_feature_check {
    /// Changed pages can be tracked.
    pub mem_track: bool,
    /// Pages can be restored on demand.
    pub lazy_pages: bool,
    /// Tasks can be told apart from later tasks with the same pid.
    pub pidfd_store: bool,
}

/// Options, the way to the worker, the callback and the last error of one user of the library.
pub struct criu_opts {
    pub(super) settings: Mutex<Settings>,
}

/// A notification, as its callback sees it.
pub struct criu_notify {
    pub(super) pid: Option<i32>,
}

/// An opaque value that a callback passes on to `criu_notify_pid()`; it ends with the callback.
pub type criu_notify_arg_t = *mut criu_notify;

/// An opaque value that the callback of `criu_dump_iters()` is given; always NULL.
pub type criu_predump_info = *mut c_void;

// An enum argument from C may hold any number, a Rust enum may not: so the functions take the
// number, under a name that the generated header turns into the enum's.
pub type CgMode = c_uint;
pub type NetworkLockMethod = c_uint;
pub type PreDumpMode = c_uint;
