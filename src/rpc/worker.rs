//! The requests of one connection, and their answers.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::notify::Notifier;
use super::setup::{Client, Session};
use super::wire::Channel;
use crate::engine::{self, Outcome, check};
use crate::error::{Error, Kind, Result};
use crate::images::proto::{
    CriuDumpResp, CriuFeatures, CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp,
    CriuVersion,
};
use crate::log::Log;
use crate::options::{Options, Request, Verb, table};
use crate::version;

/// Exit status after a request that was carried out, and after one that failed.
const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Serves requests for as long as each says `keep_open`. The result is the exit status.
pub fn serve(channel: &Channel) -> Result<i32> {
    loop {
        let message: CriuReq = match channel.receive() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(DONE),
            Err(error) => {
                channel.send(&failure(CriuReqType::Empty, &error))?;
                return Err(error);
            }
        };
        let kind = CriuReqType::try_from(message.r#type).unwrap_or(CriuReqType::Empty);
        if message.keep_open() && !may_stay_open(kind) {
            let cause = format!("keep_open does not go with {}", kind.as_str_name());
            channel.send(&failure(kind, &Error::new(Kind::BadOptions, cause)))?;
            return Ok(FAILED);
        }
        let status = answer(channel, kind, &message)?;
        if status != DONE || !message.keep_open() {
            return Ok(status);
        }
    }
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

fn answer(channel: &Channel, kind: CriuReqType, message: &CriuReq) -> Result<i32> {
    let options = message.opts.clone().unwrap_or_default();
    match kind {
        CriuReqType::Dump => dump(channel, &options),
        CriuReqType::Restore => restore(channel, &options),
        CriuReqType::Check => check(channel, message.opts.as_ref()),
        CriuReqType::Version => plain(channel, &version_answer()),
        CriuReqType::FeatureCheck => plain(channel, &features_answer(message)),
        CriuReqType::WaitPid => plain(channel, &wait_answer(message.pid())),
        CriuReqType::PreDump | CriuReqType::SinglePreDump => {
            not_carried_out(channel, kind, Verb::PreDump)
        }
        CriuReqType::PageServer | CriuReqType::PageServerChld => {
            not_carried_out(channel, kind, Verb::PageServer)
        }
        CriuReqType::CpuinfoDump => not_carried_out(channel, kind, Verb::CpuinfoDump),
        CriuReqType::CpuinfoCheck => not_carried_out(channel, kind, Verb::CpuinfoCheck),
        CriuReqType::Empty | CriuReqType::Notify => {
            let error = Error::new(Kind::BadOptions, "this is no request");
            let answer = CriuResp { cr_errno: None, ..failure(CriuReqType::Empty, &error) };
            channel.send(&answer)?;
            Ok(FAILED)
        }
    }
}

/// An answer without more to it.
fn plain(channel: &Channel, answer: &CriuResp) -> Result<i32> {
    channel.send(answer)?;
    Ok(DONE)
}

/// What every failed request is answered with.
pub fn failure(kind: CriuReqType, error: &Error) -> CriuResp {
    CriuResp {
        r#type: kind as i32,
        success: false,
        cr_errno: Some(error.rpc_errno()).filter(|errno| *errno != 0),
        cr_errmsg: Some(error.to_string()),
        ..CriuResp::default()
    }
}

fn success(kind: CriuReqType) -> CriuResp {
    CriuResp { r#type: kind as i32, success: true, ..CriuResp::default() }
}

/// Makes the request and runs it. What fails before the engine starts is a matter of options.
fn run(channel: &Channel, verb: Verb, message: &CriuOpts) -> (Log, Result<(Request, Outcome)>) {
    let bad = |error: Error| error.with_kind(Kind::BadOptions);
    let opened = Client::of(channel).and_then(|client| {
        let mut session = Session::new(verb, message, client)?;
        let log = session.open(client)?;
        Ok((session, log))
    });
    let (session, log) = match opened {
        Ok(opened) => opened,
        Err(error) => return (Log::none(), Err(bad(error))),
    };
    let result = session.into_request().map_err(bad).and_then(|request| {
        let mut hooks = Notifier::new(channel, &request);
        let outcome = engine::run(&request, &mut hooks, &log)?;
        Ok((request, outcome))
    });
    if let Err(error) = &result {
        log.error(error);
    }
    (log, result)
}

/// A process that dumped itself and is gone cannot be answered: its clone will be.
fn dump(channel: &Channel, message: &CriuOpts) -> Result<i32> {
    let (_log, result) = run(channel, Verb::Dump, message);
    let not_restored = Some(CriuDumpResp { restored: Some(false) });
    match result {
        Ok((request, _)) => {
            let options = &request.options;
            let lives = options.leave_running() || options.leave_stopped();
            if lives || options.pid != Some(channel.peer_pid()?) {
                channel.send(&CriuResp { dump: not_restored, ..success(CriuReqType::Dump) })?;
            }
            Ok(DONE)
        }
        Err(error) => {
            let answer = failure(CriuReqType::Dump, &error);
            channel.send(&CriuResp { dump: not_restored, ..answer })?;
            Ok(FAILED)
        }
    }
}

/// The answer goes out when the tree runs; then the worker may become the command it was given.
fn restore(channel: &Channel, message: &CriuOpts) -> Result<i32> {
    let (log, result) = run(channel, Verb::Restore, message);
    match result {
        Ok((request, Outcome::Restored { pid })) => {
            let restored = Some(CriuRestoreResp { pid });
            channel.send(&CriuResp { restore: restored, ..success(CriuReqType::Restore) })?;
            Ok(become_command(&request.options.exec_cmd, &log))
        }
        Ok((_, outcome)) => {
            let cause = format!("a restore ended as {outcome:?}");
            channel.send(&failed_restore(&Error::new(Kind::Internal, cause)))?;
            Ok(FAILED)
        }
        Err(error) => {
            channel.send(&failed_restore(&error))?;
            Ok(FAILED)
        }
    }
}

fn failed_restore(error: &Error) -> CriuResp {
    CriuResp { restore: Some(CriuRestoreResp { pid: -1 }), ..failure(CriuReqType::Restore, error) }
}

/// Returns only if there is no command, or it cannot be run.
fn become_command(words: &[String], log: &Log) -> i32 {
    let Some((program, arguments)) = words.split_first() else { return DONE };
    let output = || log.descriptor().map_or_else(Stdio::inherit, Stdio::from);
    let error = Command::new(program).args(arguments).stdout(output()).stderr(output()).exec();
    log.error(Error::io(format!("run {program}"), &error));
    FAILED
}

/// A check needs no options at all.
fn check(channel: &Channel, message: Option<&CriuOpts>) -> Result<i32> {
    let message = message.cloned().unwrap_or(CriuOpts { images_dir_fd: -1, ..CriuOpts::default() });
    let (_log, result) = run(channel, Verb::Check, &message);
    match result {
        Ok(_) => channel.send(&success(CriuReqType::Check))?,
        Err(error) => channel.send(&failure(CriuReqType::Check, &error))?,
    }
    Ok(DONE)
}

/// A verb of a later version, refused by name.
fn not_carried_out(channel: &Channel, kind: CriuReqType, verb: Verb) -> Result<i32> {
    let cause = || Error::new(Kind::Refused, format!("{} is not carried out", verb.name()));
    let error = table::check(verb, &Options::default()).err().unwrap_or_else(cause);
    channel.send(&failure(kind, &error))?;
    Ok(FAILED)
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
    let offers = |wanted: bool, name: &str, verb: Verb, option: &str| {
        Some(wanted && check::offers(name, verb, option))
    };
    let features = CriuFeatures {
        mem_track: offers(asked.mem_track(), "mem_dirty_track", Verb::PreDump, "track_mem"),
        lazy_pages: offers(asked.lazy_pages(), "uffd-noncoop", Verb::Restore, "lazy_pages"),
        pidfd_store: offers(asked.pidfd_store(), "pidfd_store", Verb::PreDump, "pidfd_store_sk"),
    };
    CriuResp { features: Some(features), ..success(CriuReqType::FeatureCheck) }
}

/// Only page servers are children to wait for, and this worker has started none.
fn wait_answer(pid: u32) -> CriuResp {
    let cause = format!("pid {pid} is no child of this worker");
    let answer = failure(CriuReqType::WaitPid, &Error::new(Kind::System, cause));
    CriuResp { cr_errno: Some(libc::ECHILD), ..answer }
}

#[cfg(test)]
mod tests;
