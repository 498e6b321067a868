//! `criu_opts`, the global options, and how a call reaches them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::RawFd;

use parking_lot::Mutex;

use super::host::shielded;
use super::types::{criu_notify_arg_t, criu_opts};
use crate::images::proto;

/// Where `criu_set_service_address(NULL)` connects to.
pub const DEFAULT_SERVICE_ADDRESS: &CStr = c"./criu_service.socket";

/// How the worker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// The worker that needs no set-up: see [`super::program`].
    Own,
    /// No worker: the engine runs in the calling thread.
    InProcess,
    /// A program that speaks `swrk FD`.
    Binary(CString),
    /// A service that listens on a Unix socket.
    Address(CString),
    /// A connected socket of the caller.
    Fd(RawFd),
}

impl Service {
    /// Whether the worker is started by this library, as a process that inherits descriptors.
    pub fn is_program(&self) -> bool {
        matches!(self, Service::Own | Service::Binary(_))
    }
}

/// The caller's pointer for its own callback.
#[derive(Clone, Copy)]
pub struct UserData(pub *mut c_void);

// SAFETY: the library never follows the pointer, it hands it back to the caller's callback.
unsafe impl Send for UserData {}

/// A callback as of `criu_set_notify_cb()`.
pub type NotifyCallback =
    Option<unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t) -> c_int>;

/// A callback as of `criu_set_notify_cb_data()`.
pub type NotifyDataCallback = Option<
    unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t, data: *mut c_void) -> c_int,
>;

/// Who is asked about notifications.
#[derive(Clone, Copy)]
pub enum Notify {
    /// Nobody.
    None,
    /// A callback as upstream has it.
    Plain(NotifyCallback),
    /// A callback with a user pointer.
    Data(NotifyDataCallback, UserData),
}

/// All that setters set.
#[derive(Clone)]
pub struct Settings {
    pub rpc: proto::CriuOpts,
    pub service: Service,
    pub notify: Notify,
    pub last_error: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rpc: proto::CriuOpts { images_dir_fd: -1, ..Default::default() },
            service: Service::Own,
            notify: Notify::None,
            last_error: String::new(),
        }
    }
}

/// The options that the functions without `local` in their name use.
struct Global {
    settings: Option<Settings>,
    /// The last error while there are no options to keep it in.
    last_error: String,
}

static GLOBAL: Mutex<Global> = Mutex::new(Global { settings: None, last_error: String::new() });

/// What is said of calls before `criu_init_opts()` or with a NULL `criu_opts`.
const NO_OPTIONS: &str = "there are no options; call criu_init_opts() or criu_local_init_opts()";

/// Which options a call is about.
#[derive(Clone, Copy)]
pub enum Target {
    Global,
    /// Never followed if NULL.
    Local(*mut criu_opts),
}

impl Target {
    /// Runs `body` on the options; None without options, or if `body` panicked.
    pub fn with<T>(self, body: impl FnOnce(&mut Settings) -> T) -> Option<T> {
        shielded(|| match self {
            Target::Global => {
                let mut global = GLOBAL.lock();
                if global.settings.is_none() {
                    global.last_error = NO_OPTIONS.to_owned();
                }
                global.settings.as_mut().map(body)
            }
            // SAFETY: the caller of the C function vouches for NULL or a live `criu_opts`.
            Target::Local(opts) => unsafe { opts.as_ref() }.map(|o| body(&mut o.settings.lock())),
        })
        .flatten()
    }

    /// For setters that return nothing: without options nothing happens.
    pub fn set(self, body: impl FnOnce(&mut Settings)) {
        let _ = self.with(body);
    }

    /// For setters that return a code: 0, or the refusal's code with its message kept.
    pub fn try_set(self, body: impl FnOnce(&mut Settings) -> Result<(), Bad>) -> c_int {
        let set = |settings: &mut Settings| match body(settings) {
            Ok(()) => 0,
            Err(bad) => {
                settings.last_error = bad.message;
                bad.code
            }
        };
        self.with(set).unwrap_or(-libc::EINVAL)
    }

    /// The options as they are now.
    pub fn snapshot(self) -> Option<Settings> {
        self.with(|settings| settings.clone())
    }

    /// The whole message of the last failure; empty if the last verb succeeded.
    pub fn last_error(self) -> String {
        match self.with(|settings| settings.last_error.clone()) {
            Some(message) => message,
            None => match self {
                Target::Global => GLOBAL.lock().last_error.clone(),
                Target::Local(_) => NO_OPTIONS.to_owned(),
            },
        }
    }
}

/// An argument that a setter refuses.
#[derive(Debug)]
pub struct Bad {
    pub code: c_int,
    pub message: String,
}

impl Bad {
    /// Refused with -EINVAL.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: -libc::EINVAL, message: message.into() }
    }

    /// Refused with -1, where upstream's functions do so.
    pub fn minus_one(message: impl Into<String>) -> Self {
        Self { code: -1, message: message.into() }
    }
}

/// Copies a C string, whose bytes may be any. `what` names the argument in the refusal of NULL.
///
/// # Safety
/// `text` is NULL or a C string.
pub unsafe fn text(text: *const c_char, what: &str) -> Result<Vec<u8>, Bad> {
    // SAFETY: passed on to the caller.
    unsafe { optional_text(text) }.ok_or_else(|| Bad::new(format!("{what} is NULL")))
}

/// The same where NULL has a meaning.
///
/// # Safety
/// `text` is NULL or a C string.
pub unsafe fn optional_text(text: *const c_char) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, so a C string as the caller promised.
    let bytes = unsafe { CStr::from_ptr(text) };
    Some(bytes.to_bytes().to_vec())
}

/// Sets the options to their defaults. To be called first.
///
/// Returns 0. Options that were set before are forgotten.
#[unsafe(no_mangle)]
pub extern "C" fn criu_init_opts() -> c_int {
    let reset = || {
        let mut global = GLOBAL.lock();
        global.settings = Some(Settings::default());
        global.last_error.clear();
    };
    shielded(reset).map_or(-1, |()| 0)
}

/// Forgets the options, until the next `criu_init_opts()`.
#[unsafe(no_mangle)]
pub extern "C" fn criu_free_opts() {
    shielded(|| GLOBAL.lock().settings = None);
}

/// Makes options of their own and stores them in `*opts`.
///
/// `*opts` has to be NULL or options of an earlier call, which are freed. Returns 0; -1 if `opts`
/// is NULL. Free them with `criu_local_free_opts()`.
///
/// # Safety
/// `opts` is NULL or points to such a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_init_opts(opts: *mut *mut criu_opts) -> c_int {
    if opts.is_null() {
        return -1;
    }
    let fresh = shielded(|| Box::new(criu_opts { settings: Mutex::new(Settings::default()) }));
    // SAFETY: `opts` is valid and `*opts` NULL or ours, as the caller promised.
    unsafe {
        criu_local_free_opts(*opts);
        *opts = fresh.map_or(std::ptr::null_mut(), Box::into_raw);
        if (*opts).is_null() { -1 } else { 0 }
    }
}

/// Frees the options; NULL is allowed.
///
/// # Safety
/// `opts` is NULL or came from `criu_local_init_opts()`, and no other thread is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_free_opts(opts: *mut criu_opts) {
    if !opts.is_null() {
        // SAFETY: it came from Box::into_raw, and is given up here.
        shielded(|| drop(unsafe { Box::from_raw(opts) }));
    }
}
