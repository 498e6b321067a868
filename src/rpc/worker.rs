//! The requests of one connection, and their answers.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::notify::Notifier;
use super::peer::Peer;
use super::rights::Rights;
use super::setup::{Client, Session};
use super::wire::Channel;
use crate::engine::{self, Outcome, check};
use crate::error::{Error, Kind, Result, shown};
use crate::images::proto::{
    CriuDumpResp, CriuFeatures, CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp,
    CriuVersion,
};
use crate::kernel::pid::HostPid;
use crate::kernel::process;
use crate::log::Log;
use crate::options::getopt::Scan;
use crate::options::{Options, Request, Verb, config, table};
use crate::version;

/// Exit status after a request that was carried out, and after one that failed.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Serves requests for as long as each says `keep_open`. The result is the exit status.
pub fn serve(channel: &Channel, rights: Rights) -> Result<i32> {
    let mut first = true;
    loop {
        let message: CriuReq = match channel.receive() {
            Ok(Some(message)) => message,
            Ok(None) if first => return Ok(unasked(rights)),
            Ok(None) => return Ok(DONE),
            Err(error) => {
                channel.send(&failure(CriuReqType::Empty, &error))?;
                return Err(error);
            }
        };
        first = false;
        let kind = CriuReqType::try_from(message.r#type).unwrap_or(CriuReqType::Empty);
        let allowed = may_be_served(kind, &message, rights);
        let last = allowed.is_err() || !message.keep_open();
        let status = answer(&Caller { channel, rights }, kind, &message, allowed)?;
        if status != DONE || last {
            return Ok(status);
        }
    }
}

/// A worker that was asked nothing can still say, by its exit status, that it would have failed.
fn unasked(rights: Rights) -> i32 {
    let mut options = Options::default();
    let configured = config::read_all(&Scan::default(), &mut options);
    if rights.reads_configuration() && configured.is_err() { FAILED } else { DONE }
}

fn may_be_served(kind: CriuReqType, message: &CriuReq, rights: Rights) -> Result<()> {
    if message.keep_open() && !may_stay_open(kind) {
        let cause = format!("keep_open does not go with {}", kind.as_str_name());
        return Err(Error::new(Kind::BadOptions, cause));
    }
    rights.check(kind, message.opts.as_ref())
}

/// Dump, restore and their like change the worker too much to serve another request.
fn may_stay_open(kind: CriuReqType) -> bool {
    matches!(
        kind,
        CriuReqType::PageServer
            | CriuReqType::PageServerChld
            | CriuReqType::CpuinfoDump
            | CriuReqType::CpuinfoCheck
            | CriuReqType::FeatureCheck
            | CriuReqType::Version
    )
}

/// Serves one request, or says why it is not `allowed`: where a request has a log, there too.
fn answer(
    caller: &Caller<'_>,
    kind: CriuReqType,
    message: &CriuReq,
    allowed: Result<()>,
) -> Result<i32> {
    let channel = caller.channel;
    let asked = Asked { kind, options: message.opts.clone().unwrap_or_else(no_options), allowed };
    match kind {
        CriuReqType::Dump => dump(caller, asked),
        CriuReqType::PreDump | CriuReqType::SinglePreDump => {
            not_carried_out(caller, kind, Verb::PreDump, asked)
        }
        CriuReqType::Restore => restore(caller, asked),
        CriuReqType::Check => check(caller, asked),
        // A page server of either kind is answered so, as CRIU does.
        CriuReqType::PageServer | CriuReqType::PageServerChld => {
            not_carried_out(caller, CriuReqType::PageServer, Verb::PageServer, asked)
        }
        CriuReqType::CpuinfoDump => cpuinfo(caller, Verb::CpuinfoDump, asked),
        CriuReqType::CpuinfoCheck => cpuinfo(caller, Verb::CpuinfoCheck, asked),
        _ => without_log(channel, asked, message),
    }
}

fn without_log(channel: &Channel, asked: Asked, message: &CriuReq) -> Result<i32> {
    if let Err(error) = asked.allowed {
        channel.send(&failure(asked.kind, &error))?;
        return Ok(FAILED);
    }
    match asked.kind {
        CriuReqType::Version => plain(channel, &version_answer()),
        CriuReqType::FeatureCheck => plain(channel, &features_answer(message)),
        CriuReqType::WaitPid => plain(channel, &wait_answer(message.pid())),
        _ => no_request(channel, "Invalid req: this type is no request"),
    }
}

fn no_options() -> CriuOpts {
    CriuOpts { images_dir_fd: -1, ..CriuOpts::default() }
}

/// What is no request, or none at this place, is answered with an empty type.
fn no_request(channel: &Channel, cause: &str) -> Result<i32> {
    let error = Error::new(Kind::BadOptions, cause);
    channel.send(&CriuResp { cr_errno: None, ..failure(CriuReqType::Empty, &error) })?;
    Ok(FAILED)
}

/// An answer without more to it.
fn plain(channel: &Channel, answer: &CriuResp) -> Result<i32> {
    channel.send(answer)?;
    Ok(DONE)
}

/// What every failed request is answered with; dumps and restores have their parts in it.
pub fn failure(kind: CriuReqType, error: &Error) -> CriuResp {
    CriuResp {
        r#type: kind as i32,
        success: false,
        cr_errno: Some(error.rpc_errno()).filter(|errno| *errno != 0),
        cr_errmsg: Some(error.to_string()),
        dump: (kind == CriuReqType::Dump).then_some(CriuDumpResp { restored: Some(false) }),
        restore: (kind == CriuReqType::Restore).then_some(CriuRestoreResp { pid: -1 }),
        ..CriuResp::default()
    }
}

fn success(kind: CriuReqType) -> CriuResp {
    CriuResp { r#type: kind as i32, success: true, ..CriuResp::default() }
}

/// Who asks, where, and with which rights.
struct Caller<'a> {
    channel: &'a Channel,
    rights: Rights,
}

/// What is asked for, and why it may not be, if so.
struct Asked {
    kind: CriuReqType,
    options: CriuOpts,
    allowed: Result<()>,
}

/// Makes the request and runs it. What fails before the engine starts is a matter of options.
fn run(caller: &Caller<'_>, verb: Verb, asked: Asked) -> (Log, Result<(Request, Outcome)>) {
    let bad = |error: Error| match error.kind() {
        Kind::NoSuchTask => error,
        Kind::Denied if caller.rights != Rights::Worker => error,
        _ => error.with_kind(Kind::BadOptions),
    };
    let (log, session) = match begin(caller, verb, asked) {
        Ok(begun) => begun,
        Err(error) => return (Log::none(), Err(bad(error))),
    };
    let request = session.and_then(Session::into_request).map_err(bad);
    let result = request.and_then(|request| {
        let mut hooks = Notifier::new(caller.channel, &request);
        let worked = catch_unwind(AssertUnwindSafe(|| engine::run(&request, &mut hooks, &log)));
        let outcome = worked.unwrap_or_else(|_| Err(defect()))?;
        Ok((request, outcome))
    });
    if let Err(error) = &result {
        log.error(error);
    }
    (log, result)
}

/// The log and the request. Whoever is not root is its own user from here on, except where a check
/// is made, which touches nothing of the peer's and is about what the service can do.
fn begin(caller: &Caller<'_>, verb: Verb, asked: Asked) -> Result<(Log, Result<Session>)> {
    let Asked { options, allowed, .. } = asked;
    let client = Client::of(caller.channel, caller.rights)?;
    if verb != Verb::Check || allowed.is_err() {
        caller.rights.assume(caller.channel)?;
    }
    let (log, session) = Session::begin(verb, &options, &client, allowed);
    let Peer { pid, uid, .. } = client.peer;
    log.info(format!("{} for pid {pid} of user {uid}", verb.name()));
    let owned = |session: Session| {
        caller.rights.check_target(session.target())?;
        Ok(session)
    };
    Ok((log, session.and_then(owned)))
}

fn defect() -> Error {
    Error::new(Kind::Internal, "a defect of this program ended the request")
}

/// A process that dumped itself and is gone cannot be answered: its clone will be.
fn dump(caller: &Caller<'_>, asked: Asked) -> Result<i32> {
    let channel = caller.channel;
    let (_log, result) = run(caller, Verb::Dump, asked);
    let not_restored = Some(CriuDumpResp { restored: Some(false) });
    match result {
        Ok((request, _)) => {
            let options = &request.options;
            let lives = options.leave_running() || options.leave_stopped();
            if lives || options.pid != Some(Peer::of(channel)?.pid.number()) {
                channel.send(&CriuResp { dump: not_restored, ..success(CriuReqType::Dump) })?;
            }
            Ok(DONE)
        }
        Err(error) => {
            channel.send(&failure(CriuReqType::Dump, &error))?;
            Ok(FAILED)
        }
    }
}

/// The answer goes out when the tree runs; then the worker may become the command it was given.
fn restore(caller: &Caller<'_>, asked: Asked) -> Result<i32> {
    let channel = caller.channel;
    let (log, result) = run(caller, Verb::Restore, asked);
    match result {
        Ok((request, Outcome::Restored { pid })) => {
            let restored = Some(CriuRestoreResp { pid: pid.number() });
            channel.send(&CriuResp { restore: restored, ..success(CriuReqType::Restore) })?;
            Ok(become_command(&request.options.exec_cmd, &log))
        }
        Ok((_, outcome)) => {
            let cause = format!("a restore ended as {outcome:?}");
            channel.send(&failure(CriuReqType::Restore, &Error::new(Kind::Internal, cause)))?;
            Ok(FAILED)
        }
        Err(error) => {
            channel.send(&failure(CriuReqType::Restore, &error))?;
            Ok(FAILED)
        }
    }
}

/// Returns only if there is no command, or it cannot be run.
fn become_command(words: &[OsString], log: &Log) -> i32 {
    let Some((program, arguments)) = words.split_first() else { return DONE };
    let output = || log.descriptor().map_or_else(Stdio::inherit, Stdio::from);
    let error = Command::new(program).args(arguments).stdout(output()).stderr(output()).exec();
    log.error(Error::io(format!("run {}", shown(program)), &error));
    FAILED
}

/// A check needs no options at all.
fn check(caller: &Caller<'_>, asked: Asked) -> Result<i32> {
    let (_log, result) = run(caller, Verb::Check, asked);
    match result {
        Ok(_) => caller.channel.send(&success(CriuReqType::Check))?,
        Err(error) => caller.channel.send(&failure(CriuReqType::Check, &error))?,
    }
    Ok(DONE)
}

/// A processor that lacks something is told by an errno of its own.
fn cpuinfo(caller: &Caller<'_>, verb: Verb, asked: Asked) -> Result<i32> {
    let kind = asked.kind;
    let (_log, result) = run(caller, verb, asked);
    let answer = match result {
        Ok(_) => success(kind),
        Err(error) if error.kind() == Kind::Refused => {
            CriuResp { cr_errno: Some(libc::ENOTSUP), ..failure(kind, &error) }
        }
        Err(error) => failure(kind, &error),
    };
    caller.channel.send(&answer).map(|()| DONE)
}

/// A verb of a later version, refused by name.
fn not_carried_out(
    caller: &Caller<'_>,
    kind: CriuReqType,
    verb: Verb,
    asked: Asked,
) -> Result<i32> {
    let allowed = asked.allowed.is_ok();
    let (_log, result) = run(caller, verb, asked);
    let later = table::check(verb, &Options::default()).err().filter(|_| allowed);
    let answer = match (later, result) {
        (Some(later), _) => CriuResp { cr_errno: Some(libc::ENOSYS), ..failure(kind, &later) },
        (None, Err(error)) => failure(kind, &error),
        (None, Ok(_)) => success(kind),
    };
    caller.channel.send(&answer).map(|()| FAILED)
}

pub fn version_answer() -> CriuResp {
    let (major_number, minor_number) = version::COMPATIBLE;
    // Not as `gitid`: callers count a version with one as the next minor version.
    let name = Some(format!("libcriu {}", version::OWN));
    let version = CriuVersion { major_number, minor_number, name, ..CriuVersion::default() };
    CriuResp { version: Some(version), ..success(CriuReqType::Version) }
}

/// A feature that was not asked for is answered no, as one that is missing.
pub fn features_answer(message: &CriuReq) -> CriuResp {
    let asked = message.features.unwrap_or_default();
    let has = |wanted: bool, name: &str| Some(wanted && check::has(name));
    let features = CriuFeatures {
        mem_track: has(asked.mem_track(), "mem_dirty_track"),
        lazy_pages: has(asked.lazy_pages(), "uffd-noncoop"),
        pidfd_store: has(asked.pidfd_store(), "pidfd_store"),
    };
    CriuResp { features: Some(features), ..success(CriuReqType::FeatureCheck) }
}

/// The exit status of a child of this worker, as `waitpid` gives it.
fn wait_answer(pid: u32) -> CriuResp {
    // Zero and what is negative as a pid would mean any child.
    let child = i32::try_from(pid).ok().filter(|pid| *pid > 0).map(HostPid::new);
    match child.ok_or(Errno::ECHILD).and_then(process::wait_status) {
        Ok(status) => CriuResp { status: Some(status), ..success(CriuReqType::WaitPid) },
        Err(errno) => {
            let error = Error::sys(format!("wait for pid {pid}, a child of this worker"), errno);
            CriuResp { cr_errno: Some(errno as i32), ..failure(CriuReqType::WaitPid, &error) }
        }
    }
}

#[cfg(test)]
mod tests;
