//! The caller is asked at every stage, and answers before the work goes on.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;

use super::wire::Channel;
use crate::engine::hooks::{Hooks, Stage};
use crate::engine::scripts::Scripts;
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{CriuNotify, CriuReq, CriuReqType, CriuResp};
use crate::kernel::pid::HostPid;
use crate::options::Request;

/// Asks the caller, then runs the action scripts that a configuration file names.
#[derive(Debug)]
pub struct Notifier<'a> {
    channel: &'a Channel,
    /// The caller wants to be asked.
    asked: bool,
    scripts: Scripts,
}

impl<'a> Notifier<'a> {
    /// What `request` wants asked and run.
    pub fn new(channel: &'a Channel, request: &Request) -> Self {
        let asked = request.options.notify_scripts();
        Self { channel, asked, scripts: Scripts::new(request) }
    }

    fn ask(
        &self,
        stage: Stage,
        pid: Option<HostPid>,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<CriuReq> {
        let question = question(stage, pid);
        match fd {
            Some(fd) => self.channel.send_with_fd(&question, fd)?,
            None => self.channel.send(&question)?,
        }
        let answer: Option<CriuReq> = self.channel.receive()?;
        let answer = answer.ok_or_else(|| refused(stage, "the caller is gone"))?;
        let agreed = answer.r#type == CriuReqType::Notify as i32 && answer.notify_success();
        if agreed { Ok(answer) } else { Err(refused(stage, "the caller said no")) }
    }
}

/// Callers are told the pid at the two stages at which CRIU tells it.
fn question(stage: Stage, pid: Option<HostPid>) -> CriuResp {
    let pid = pid.filter(|_| matches!(stage, Stage::SetupNamespaces | Stage::PostRestore));
    CriuResp {
        r#type: CriuReqType::Notify as i32,
        success: true,
        notify: Some(CriuNotify {
            script: Some(stage.name().to_owned()),
            pid: pid.map(HostPid::number),
        }),
        ..CriuResp::default()
    }
}

fn refused(stage: Stage, why: &str) -> Error {
    Error::new(Kind::CallbackRefused, format!("notification {}: {why}", stage.name()))
}

impl Hooks for Notifier<'_> {
    fn notify(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        if self.asked {
            self.ask(stage, pid, None).doing(|| format!("ask the caller at {}", stage.name()))?;
        }
        self.scripts.notify(stage, pid)
    }

    fn notify_with_fd(
        &mut self,
        stage: Stage,
        pid: Option<HostPid>,
        fd: BorrowedFd<'_>,
    ) -> Result<()> {
        if self.asked {
            self.ask(stage, pid, Some(fd))
                .doing(|| format!("ask the caller at {}", stage.name()))?;
        }
        self.scripts.notify(stage, pid)
    }

    fn query_external(&mut self) -> Result<Vec<OsString>> {
        if !self.asked {
            return Ok(Vec::new());
        }
        let answer = self.ask(Stage::QueryExtFiles, None, None)?;
        let keys = answer.opts.map(|opts| opts.external).unwrap_or_default();
        Ok(keys.into_iter().map(OsString::from_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Options, Places, Verb};

    fn pair() -> (Channel, Channel) {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        (Channel::new(ours), Channel::new(theirs))
    }

    fn request(asked: bool) -> Request {
        let options = Options { notify_scripts: Some(asked), ..Options::default() };
        Request::new(Verb::Restore, options, Places::default()).unwrap()
    }

    fn answer(caller: &Channel, agreed: bool) {
        let message = CriuReq {
            r#type: CriuReqType::Notify as i32,
            notify_success: Some(agreed),
            ..CriuReq::default()
        };
        caller.send(&message).unwrap();
    }

    #[test]
    fn the_caller_is_asked_and_its_no_is_an_error() {
        let (worker, caller) = pair();
        let request = request(true);
        let mut hooks = Notifier::new(&worker, &request);
        answer(&caller, true);
        hooks.notify(Stage::PostRestore, Some(HostPid::new(12))).unwrap();
        let question: CriuResp = caller.receive().unwrap().unwrap();
        let asked = question.notify.unwrap();
        assert_eq!((asked.script(), asked.pid), ("post-restore", Some(12)));

        answer(&caller, false);
        let error = hooks.notify(Stage::PreResume, Some(HostPid::new(12))).unwrap_err();
        assert_eq!(error.kind(), Kind::CallbackRefused);
        assert!(error.to_string().contains("pre-resume"), "{error}");
        let question: CriuResp = caller.receive().unwrap().unwrap();
        assert_eq!(question.notify.unwrap().pid, None);
        drop(caller);
        assert!(hooks.notify(Stage::PreResume, None).is_err());
    }

    #[test]
    fn nobody_is_asked_who_did_not_want_it() {
        let (worker, caller) = pair();
        let request = request(false);
        let mut hooks = Notifier::new(&worker, &request);
        drop(caller);
        hooks.notify(Stage::PreDump, None).unwrap();
        assert!(hooks.query_external().unwrap().is_empty());
    }
}
