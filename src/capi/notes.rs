//! Notifications and the last error.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use super::host::shielded;
use super::settings::{Notify, Target, UserData};
use super::types::{criu_notify, criu_notify_arg_t, criu_opts};

/// The version of CRIU that this library stands for, as text.
///
/// A variable of C type `const char *`: an atomic pointer has that layout, and may be shared.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static criu_lib_version: AtomicPtr<c_char> = AtomicPtr::new(c"4.2".as_ptr().cast_mut());

/// The descriptor that came with the last `orphan-pts-master`. The caller owns it.
static ORPHAN_PTS_MASTER: AtomicI32 = AtomicI32::new(-1);

/// Keeps a descriptor that came with a notification for the caller to fetch.
pub fn keep_descriptor(fd: OwnedFd) {
    ORPHAN_PTS_MASTER.store(fd.into_raw_fd(), Ordering::Release);
}

impl Notify {
    /// Calls the caller's callback: 0 to go on.
    pub fn call(self, action: &str, pid: Option<i32>) -> c_int {
        // The callback's argument is `char *`: some callers write into it.
        let mut action: Vec<u8> = action.bytes().chain([0]).collect();
        let action = action.as_mut_ptr().cast::<c_char>();
        let mut note = criu_notify { pid };
        let note = ptr::from_mut(&mut note);
        // SAFETY: the callbacks are C functions of these types, given by the caller.
        unsafe {
            match self {
                Notify::Plain(Some(callback)) => callback(action, note),
                Notify::Data(Some(callback), UserData(data)) => callback(action, note, data),
                Notify::None | Notify::Plain(None) | Notify::Data(None, _) => 0,
            }
        }
    }
}

fn set_notify(target: Target, notify: Notify) {
    target.set(|settings| {
        settings.notify = notify;
        settings.rpc.notify_scripts = Some(true);
    });
}

/// Sets the callback that is asked at every stage of a dump or restore.
///
/// `action` is the stage: pre-dump, post-dump, pre-restore, post-restore, network-lock,
/// network-unlock, setup-namespaces, post-setup-namespaces, pre-resume, post-resume,
/// orphan-pts-master, query-ext-files, status-ready. The callback returns 0 to go on; a negative
/// value stops the verb, which returns that value. NULL agrees to everything.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_notify_cb(
    cb: Option<unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t) -> c_int>,
) {
    set_notify(Target::Global, Notify::Plain(cb));
}

/// `criu_set_notify_cb()` for options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_notify_cb(
    opts: *mut criu_opts,
    cb: Option<unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t) -> c_int>,
) {
    set_notify(Target::Local(opts), Notify::Plain(cb));
}

/// `criu_set_notify_cb()` with a pointer that the callback is given. Not in upstream's library.
#[unsafe(no_mangle)]
pub extern "C" fn criu_set_notify_cb_data(
    cb: Option<
        unsafe extern "C" fn(
            action: *mut c_char,
            na: criu_notify_arg_t,
            data: *mut c_void,
        ) -> c_int,
    >,
    data: *mut c_void,
) {
    set_notify(Target::Global, Notify::Data(cb, UserData(data)));
}

/// `criu_set_notify_cb_data()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_set_notify_cb_data(
    opts: *mut criu_opts,
    cb: Option<
        unsafe extern "C" fn(
            action: *mut c_char,
            na: criu_notify_arg_t,
            data: *mut c_void,
        ) -> c_int,
    >,
    data: *mut c_void,
) {
    set_notify(Target::Local(opts), Notify::Data(cb, UserData(data)));
}

/// The pid of the root task that a notification is about; 0 if there is none.
///
/// # Safety
/// `na` is NULL or what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_notify_pid(na: criu_notify_arg_t) -> c_int {
    // SAFETY: as the caller promised.
    unsafe { na.as_ref() }.and_then(|note| note.pid).unwrap_or(0)
}

/// The descriptor that came with the stage `orphan-pts-master`; -1 if none came.
///
/// To be called in or after the callback of that stage. The caller owns the descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn criu_get_orphan_pts_master_fd() -> c_int {
    ORPHAN_PTS_MASTER.load(Ordering::Acquire)
}

thread_local! {
    /// The texts that were handed out in this thread, by the options they are about.
    static HANDED_OUT: RefCell<HashMap<usize, CString>> = RefCell::default();
}

/// A text that stays valid until this thread asks about the same options again.
fn hand_out(target: Target) -> *const c_char {
    let key = match target {
        Target::Global => 0,
        Target::Local(opts) => opts as usize,
    };
    let keep = || {
        let mut bytes = target.last_error().into_bytes();
        bytes.retain(|byte| *byte != 0);
        let text = CString::new(bytes).unwrap_or_default();
        HANDED_OUT.with_borrow_mut(|texts| {
            texts.insert(key, text);
            texts[&key].as_ptr()
        })
    };
    shielded(keep).unwrap_or(c"".as_ptr())
}

/// What failed last, on which object, why, and what would help. Not in upstream's library.
///
/// Never NULL; empty if the last verb succeeded. Valid until the same thread asks again.
#[unsafe(no_mangle)]
pub extern "C" fn criu_last_error() -> *const c_char {
    hand_out(Target::Global)
}

/// `criu_last_error()` for options of their own. Not in upstream's library.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_last_error(opts: *const criu_opts) -> *const c_char {
    hand_out(Target::Local(opts.cast_mut()))
}
