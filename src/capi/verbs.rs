//! The calls that do something: check, dump, pre-dump, restore.
//!
//! | returns | errno | meaning |
//! |---|---|---|
//! | 0 | kept | success |
//! | > 0 | kept | the restored root's pid; 1 in the restored self of a self-dump |
//! | -EBADE | ESRCH, EEXIST, EBADRQC or 0 | the request failed |
//! | -ECONNREFUSED | why | there is no connection to a worker |
//! | -ECOMM | why | a message could not be sent or received |
//! | -EINVAL | EINVAL | the request is not supported, or there are no options |
//! | -EBADMSG | EBADMSG | an unexpected answer |

use std::ffi::c_int;
use std::ptr;

use super::client::{Failure, converse, response};
use super::connect::connect;
use super::guest;
use super::host::{NoCancel, errno, is_child, set_errno, shielded};
use super::inprocess;
use super::settings::{Service, Settings, Target};
use super::spawn::Kinship;
use super::types::{criu_opts, criu_predump_info};
use crate::images::proto::{CriuReq, CriuReqType, CriuResp};
use crate::kernel::pid::HostPid;
use crate::rpc::setup::Client;

/// Runs a verb on a copy of the options, so that no lock is held meanwhile.
pub fn run(target: Target, verb: impl FnOnce(Settings) -> Result<c_int, Failure>) -> c_int {
    let before = errno();
    let _no_cancel = NoCancel::hold();
    let outcome = match target.snapshot() {
        None => Err(Failure::new(-libc::EINVAL, "there are no options")),
        Some(settings) => shielded(|| verb(settings)).unwrap_or_else(|| {
            Err(Failure::new(-libc::EBADMSG, "a defect of this library ended the call"))
        }),
    };
    let (value, after, message) = match outcome {
        Ok(value) => (value, before, String::new()),
        Err(failure) => (failure.code, failure.errno, failure.message),
    };
    target.set(|settings| settings.last_error = message);
    set_errno(after);
    value
}

/// A request with the options.
pub fn request(kind: CriuReqType, settings: &Settings) -> CriuReq {
    CriuReq { r#type: kind.into(), opts: Some(settings.rpc.clone()), ..Default::default() }
}

/// One request over a connection of its own; fails if the worker says no.
pub fn ask(settings: &Settings, kinship: Kinship, request: &CriuReq) -> Result<CriuResp, Failure> {
    if runs_here(settings, request) {
        return inprocess::answer(settings, request, Client::this_process());
    }
    let early = may_be_carried_out_at_once(request);
    if early
        && guest::may_do(settings, request)
        && let Some(answer) = guest::answer(settings, request)
    {
        return answer;
    }
    let connection = connect(settings, kinship, early.then_some(request))?;
    let response = match early {
        true => response(&connection.channel, settings.notify, request),
        false => converse(&connection.channel, settings.notify, request),
    };
    connection.finish();
    let response = response?;
    match response.success {
        true => Ok(response),
        false => Err(Failure::refused(&response)),
    }
}

/// Whether the worker may begin while it is still being started.
///
/// Who is dumped has to wait for the answer then, and nothing else: a copy made while it starts a
/// worker would have a child that it knows nothing of. A child of the caller has not the caller in
/// its tree; of other processes that is not as easy to tell.
fn may_be_carried_out_at_once(request: &CriuReq) -> bool {
    let pid = request.opts.as_ref().and_then(|options| options.pid);
    match request.r#type() {
        CriuReqType::Restore => true,
        CriuReqType::Dump => pid.is_some_and(is_child),
        _ => false,
    }
}

/// Nobody can stop itself and go on: a caller that dumps itself needs a worker.
fn runs_here(settings: &Settings, request: &CriuReq) -> bool {
    let dumps_itself = request.r#type() == CriuReqType::Dump && settings.rpc.pid.is_none();
    settings.service == Service::InProcess && !dumps_itself
}

/// The caller's own pid is said by saying nothing: the worker then knows that its client is the
/// dumpee, and does not wait for it to read an answer.
fn self_dump(settings: &mut Settings) {
    let own = HostPid::own().number();
    if settings.rpc.pid == Some(own) {
        settings.rpc.pid = None;
    }
}

/// 0, or 1 in the restored self.
pub fn dump_once(mut settings: Settings) -> Result<c_int, Failure> {
    self_dump(&mut settings);
    let response = ask(&settings, Kinship::Stranger, &request(CriuReqType::Dump, &settings))?;
    Ok(c_int::from(response.dump.is_some_and(|dump| dump.restored())))
}

fn pre_dump(settings: Settings) -> Result<c_int, Failure> {
    let request = request(CriuReqType::SinglePreDump, &settings);
    ask(&settings, Kinship::Stranger, &request).map(|_| 0)
}

fn check(settings: Settings) -> Result<c_int, Failure> {
    ask(&settings, Kinship::Stranger, &request(CriuReqType::Check, &settings)).map(|_| 0)
}

fn restore(settings: &Settings, kinship: Kinship) -> Result<c_int, Failure> {
    let response = ask(settings, kinship, &request(CriuReqType::Restore, settings))?;
    match response.restore {
        Some(restored) => Ok(restored.pid),
        None => Err(Failure::bad_answer("does not tell the root's pid")),
    }
}

/// Only a worker that is the caller's child can give its own children to the caller.
fn restore_child(mut settings: Settings) -> Result<c_int, Failure> {
    if settings.service == Service::InProcess {
        return restore(&settings, Kinship::Child);
    }
    if !settings.service.is_program() {
        settings.service = Service::Own;
    }
    settings.rpc.rst_sibling = Some(true);
    restore(&settings, Kinship::Child)
}

/// As of `criu_dump_iters()`. The exported functions spell it out, and so does the header then: a
/// type name in the header might be taken in a program.
type MoreCallback = Option<unsafe extern "C" fn(pi: criu_predump_info) -> c_int>;

/// Rounds of pre-dumps over one connection, then the dump.
fn dump_iters(settings: Settings, more: MoreCallback) -> Result<c_int, Failure> {
    let own = HostPid::own().number();
    let (Some(more), Some(_)) = (more, settings.rpc.pid.filter(|pid| *pid != own)) else {
        let why = "a dump in rounds needs the pid of another process and a callback";
        return Err(Failure::new(-libc::EINVAL, why));
    };
    if settings.service == Service::InProcess {
        return Err(Failure::new(-libc::EINVAL, "a dump in rounds needs a worker"));
    }
    let connection = connect(&settings, Kinship::Stranger, None)?;
    let round = |kind| {
        let request = request(kind, &settings);
        let response = converse(&connection.channel, settings.notify, &request)?;
        if response.success { Ok(()) } else { Err(Failure::refused(&response)) }
    };
    let rounds = || {
        loop {
            round(CriuReqType::PreDump)?;
            // SAFETY: a C function of this type, given by the caller.
            match unsafe { more(ptr::null_mut()) } {
                0 => return round(CriuReqType::Dump),
                refused if refused < 0 => {
                    let message = format!("the callback ended the rounds with {refused}");
                    return Err(Failure { code: refused, errno: 0, message });
                }
                _ => {}
            }
        }
    };
    let outcome = rounds();
    connection.finish();
    outcome.map(|()| 0)
}

/// Whether the kernel has what is needed: 0 if so.
#[unsafe(no_mangle)]
pub extern "C" fn criu_check() -> c_int {
    run(Target::Global, check)
}

/// `criu_check()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_check(opts: *mut criu_opts) -> c_int {
    run(Target::Local(opts), check)
}

/// Dumps a tree of processes; without a pid, or with the caller's own, the caller itself.
///
/// Returns 0 when the images are complete; 1 in the restored clone of a caller that dumped itself.
/// Without `criu_set_leave_running(true)` the tree is killed when the dump is whole, and may still be
/// dying when this returns.
///
/// A dump of some MiB of a child, and a restore of as much, is done without the start of a program
/// if there is no callback. Signals to the calling thread then wait until it is over, which takes
/// milliseconds.
///
/// Values below 0, with errno: -EBADE: the request failed (ESRCH: no such process; EBADRQC: wrong
/// options; else 0); -ECONNREFUSED: no worker could be reached; -ECOMM: no message could be sent or
/// received; -EINVAL: not supported, or no options; -EBADMSG: unexpected answer. A negative value
/// of the callback is returned as it is. `criu_last_error()` says more.
#[unsafe(no_mangle)]
pub extern "C" fn criu_dump() -> c_int {
    run(Target::Global, dump_once)
}

/// `criu_dump()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_dump(opts: *mut criu_opts) -> c_int {
    run(Target::Local(opts), dump_once)
}

/// Dumps the memory of a tree, which runs on; a dump with these images as parent is quicker.
///
/// Returns 0, or as `criu_dump()`.
#[unsafe(no_mangle)]
pub extern "C" fn criu_pre_dump() -> c_int {
    run(Target::Global, pre_dump)
}

/// `criu_pre_dump()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_pre_dump(opts: *mut criu_opts) -> c_int {
    run(Target::Local(opts), pre_dump)
}

/// Pre-dumps another process until `more` returns 0, then dumps it.
///
/// `more` returns a positive value for one more round, a negative one to give up, which is then
/// returned. -EINVAL without a pid or callback; else as `criu_dump()`.
#[unsafe(no_mangle)]
pub extern "C" fn criu_dump_iters(
    more: Option<unsafe extern "C" fn(pi: criu_predump_info) -> c_int>,
) -> c_int {
    run(Target::Global, |settings| dump_iters(settings, more))
}

/// `criu_dump_iters()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_dump_iters(
    opts: *mut criu_opts,
    more: Option<unsafe extern "C" fn(pi: criu_predump_info) -> c_int>,
) -> c_int {
    run(Target::Local(opts), |settings| dump_iters(settings, more))
}

/// Restores a tree, which is not the caller's child.
///
/// Returns the pid of its root. Below 0 as `criu_dump()`; with -EBADE, errno EEXIST means that a pid
/// of the tree is taken. About signals meanwhile see there, too.
#[unsafe(no_mangle)]
pub extern "C" fn criu_restore() -> c_int {
    run(Target::Global, |settings| restore(&settings, Kinship::Detached))
}

/// `criu_restore()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_restore(opts: *mut criu_opts) -> c_int {
    run(Target::Local(opts), |settings| restore(&settings, Kinship::Detached))
}

/// Restores a tree whose root becomes the caller's child and can be waited for.
///
/// Returns as `criu_restore()`. A service cannot do this: the worker is then a program all the same.
#[unsafe(no_mangle)]
pub extern "C" fn criu_restore_child() -> c_int {
    run(Target::Global, restore_child)
}

/// `criu_restore_child()` with options of their own.
///
/// # Safety
/// `opts` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn criu_local_restore_child(opts: *mut criu_opts) -> c_int {
    run(Target::Local(opts), restore_child)
}
