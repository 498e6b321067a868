//! The engine in the calling thread, by the same requests: no worker, no exec.
//!
//! The host then is the tracer: its children and its SIGCHLD are the engine's too. A restored root
//! is the host's child in any case. A [`guest`](super::guest) is its own host.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;

use super::client::{Failure, callback_refused};
use super::notes::keep_descriptor;
use super::settings::{Notify, Settings};
use crate::engine::hooks::{Hooks, Stage};
use crate::engine::scripts::Scripts;
use crate::engine::{self, Outcome};
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{
    CriuDumpResp, CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp,
};
use crate::kernel::pid::HostPid;
use crate::options::Verb;
use crate::rpc::setup::{Client, Session};
use crate::rpc::worker::{features_answer, version_answer};

/// Asks the host's callback, then runs the action scripts that a configuration file names.
struct Callback {
    notify: Notify,
    scripts: Scripts,
    /// The first refusal: the callback's value and the stage.
    refusal: Option<(i32, Stage)>,
}

impl Callback {
    fn ask(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        // As a worker tells it: see `rpc::notify`.
        let told = pid.filter(|_| matches!(stage, Stage::SetupNamespaces | Stage::PostRestore));
        self.call(stage, told)?;
        self.scripts.notify(stage, pid)
    }

    fn call(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        match self.notify.call(stage.name(), pid.map(HostPid::number)) {
            0 => Ok(()),
            code => {
                self.refusal.get_or_insert((code, stage));
                let cause = format!("the callback refused {}", stage.name());
                Err(Error::new(Kind::CallbackRefused, cause))
            }
        }
    }
}

impl Hooks for Callback {
    fn notify(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        self.ask(stage, pid)
    }

    fn notify_with_fd(
        &mut self,
        stage: Stage,
        pid: Option<HostPid>,
        fd: BorrowedFd<'_>,
    ) -> Result<()> {
        keep_descriptor(fd.try_clone_to_owned().doing(|| "duplicate a descriptor for the caller")?);
        self.ask(stage, pid)
    }

    /// A callback has no way to name any; as with a worker, it is told, and scripts are not.
    fn query_external(&mut self) -> Result<Vec<OsString>> {
        self.call(Stage::QueryExtFiles, None).map(|()| Vec::new())
    }
}

/// Carries a request out and answers as a worker would.
pub fn answer(
    settings: &Settings,
    request: &CriuReq,
    client: Client,
) -> std::result::Result<CriuResp, Failure> {
    let verb = match request.r#type() {
        CriuReqType::Version => return Ok(version_answer()),
        CriuReqType::FeatureCheck => return Ok(features_answer(request)),
        CriuReqType::Dump => Verb::Dump,
        CriuReqType::PreDump | CriuReqType::SinglePreDump => Verb::PreDump,
        CriuReqType::Restore => Verb::Restore,
        CriuReqType::Check => Verb::Check,
        _ => return Err(Failure::new(-libc::EINVAL, "this request needs a worker")),
    };
    let mut refusal = None;
    match run(verb, settings, request, &client, &mut refusal) {
        Ok(outcome) => Ok(response(request, outcome)),
        Err(error) => Err(failure(&error, refusal)),
    }
}

fn run(
    verb: Verb,
    settings: &Settings,
    message: &CriuReq,
    client: &Client,
    refusal: &mut Option<(i32, Stage)>,
) -> Result<Outcome> {
    let bad = |error: Error| match error.kind() {
        Kind::NoSuchTask => error,
        _ => error.with_kind(Kind::BadOptions),
    };
    let options = message.opts.clone().unwrap_or_default();
    let (log, session) = Session::begin(verb, &options, client, may_be_done(&options));
    let request = session.and_then(Session::into_request).map_err(bad);
    let result = request.and_then(|request| {
        let scripts = Scripts::new(&request);
        let mut hooks = Callback { notify: settings.notify, scripts, refusal: None };
        let result = engine::run(&request, &mut hooks, &log);
        *refusal = hooks.refusal;
        result
    });
    if let Err(error) = &result {
        log.error(error);
    }
    result
}

fn may_be_done(options: &CriuOpts) -> Result<()> {
    if options.exec_cmd.is_empty() {
        return Ok(());
    }
    let cause = "exec_cmd: the caller's own process would become the command";
    Err(Error::new(Kind::BadOptions, cause).remedy("use a worker"))
}

fn response(request: &CriuReq, outcome: Outcome) -> CriuResp {
    let mut response = CriuResp { r#type: request.r#type, success: true, ..Default::default() };
    match outcome {
        Outcome::Dumped => response.dump = Some(CriuDumpResp { restored: Some(false) }),
        Outcome::Restored { pid } => response.restore = Some(CriuRestoreResp { pid: pid.number() }),
        Outcome::Checked | Outcome::Done => {}
    }
    response
}

fn failure(error: &Error, refusal: Option<(i32, Stage)>) -> Failure {
    match refusal {
        Some((code, stage)) => callback_refused(code, stage.name(), Some(&error.to_string())),
        None => {
            Failure { code: -libc::EBADE, errno: error.rpc_errno(), message: error.to_string() }
        }
    }
}
