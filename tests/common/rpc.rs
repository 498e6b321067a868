//! Callers of the RPC: of a worker, as go-criu and runc start it, and of a service.

use std::ffi::OsStr;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use criu::images::proto::{CriuOpts, CriuReq, CriuReqType, CriuResp};
use criu::kernel::host::adopt;
use criu::rpc::wire::Channel;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    socket, socketpair,
};
use nix::unistd::Pid;
use prost::Message;

use super::NOBODY;
use super::criu::unique;
use super::processes::{self, until};
use super::scene::Scene;

/// Nothing said but that there are options.
pub fn no_options() -> CriuOpts {
    CriuOpts { images_dir_fd: -1, ..CriuOpts::default() }
}

/// A request without options.
pub fn request(kind: CriuReqType) -> CriuReq {
    CriuReq { r#type: kind as i32, ..CriuReq::default() }
}

/// A request with options.
pub fn request_with(kind: CriuReqType, opts: CriuOpts) -> CriuReq {
    CriuReq { opts: Some(opts), ..request(kind) }
}

/// A directory that a request can name; it stays open as long as this lives.
pub fn directory(path: &Path) -> fs::File {
    fs::create_dir_all(path).expect("make a directory");
    fs::File::open(path).expect("open a directory")
}

/// What a caller says to a notification.
#[derive(Default)]
pub struct Reply {
    pub refuse: bool,
    pub external: Vec<String>,
}

/// A notification that was seen.
#[derive(Debug)]
pub struct Note {
    pub stage: String,
    pub pid: Option<i32>,
    pub fds: Vec<OwnedFd>,
}

/// The caller's end of a connection.
pub struct Caller {
    channel: Channel,
}

impl Caller {
    /// Connects to a service.
    pub fn connect(address: &Path) -> nix::Result<Self> {
        let socket =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(address)?)?;
        Ok(Self { channel: Channel::new(socket) })
    }

    pub fn send(&self, request: &CriuReq) {
        self.channel.send(request).expect("send a request");
    }

    /// Whether the other end is still there to be sent to.
    pub fn try_send(&self, request: &CriuReq) -> bool {
        self.channel.send(request).is_ok()
    }

    /// The next message; None at the end of the connection.
    pub fn receive(&self) -> Option<CriuResp> {
        self.channel.receive().expect("receive an answer")
    }

    /// Fails where nothing comes.
    pub fn until_answered(&self) {
        let mut waited = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waited, 60_000_u16), Ok(1), "there is no answer");
    }

    /// One request without notifications, and its answer.
    pub fn ask(&self, request: &CriuReq) -> CriuResp {
        self.send(request);
        self.receive().unwrap_or_else(|| panic!("no answer to {request:?}"))
    }

    /// Sends a request and answers notifications as `reply` says, until the request is answered.
    pub fn converse(
        &self,
        request: &CriuReq,
        mut reply: impl FnMut(&Note) -> Reply,
    ) -> (CriuResp, Vec<Note>) {
        self.send(request);
        let mut notes = Vec::new();
        loop {
            let (response, fds) = self.receive_with_fds();
            let Some(notify) = response.notify.clone() else { return (response, notes) };
            assert_eq!(response.r#type(), CriuReqType::Notify);
            assert!(response.success);
            let note = Note { stage: notify.script().to_owned(), pid: notify.pid, fds };
            let said = reply(&note);
            let external = said.external.into_iter().map(String::into_bytes).collect();
            let opts = CriuOpts { external, ..no_options() };
            self.send(&CriuReq {
                notify_success: Some(!said.refuse),
                opts: (!opts.external.is_empty()).then_some(opts),
                ..self::request(CriuReqType::Notify)
            });
            notes.push(note);
        }
    }

    fn receive_with_fds(&self) -> (CriuResp, Vec<OwnedFd>) {
        let mut bytes = vec![0; 1 << 16];
        let mut space = nix::cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let socket = self.channel.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut space), flags);
        let received = received.expect("receive a message");
        let mut numbers = Vec::new();
        for part in received.cmsgs().expect("control messages") {
            if let ControlMessageOwned::ScmRights(fds) = part {
                numbers.extend(fds);
            }
        }
        let length = received.bytes;
        assert!(length > 0, "the connection was closed instead of an answer");
        let response = CriuResp::decode(&bytes[..length]).expect("a response");
        (response, numbers.into_iter().map(|fd| adopt(fd).expect("take a descriptor")).collect())
    }
}

/// One request by a process of the unprivileged user, to a service or worker that `rpc_peer` knows
/// how to reach.
pub fn ask_as_user(scene: &Scene, server: &OsStr, images: &Path, request: &CriuReq) -> CriuResp {
    let (asked, answered) = (scene.path("request"), scene.path("answer"));
    let _ = fs::remove_file(&answered);
    fs::write(&asked, request.encode_to_vec()).expect("write a request");
    let mut peer = Command::new(scene.program("helpers/rpc_peer"));
    peer.arg(server).arg(images).args([&asked, &answered]);
    peer.env("SCENE_DIR", scene.dir()).uid(NOBODY).gid(NOBODY);
    let status = peer.status().expect("run a peer");
    assert!(status.success(), "{status}: {}", scene.complaints());
    CriuResp::decode(fs::read(answered).expect("read an answer").as_slice()).expect("a response")
}

/// `criu swrk FD` as a child.
pub struct Worker {
    pub caller: Caller,
    child: Child,
}

impl Worker {
    /// Starts a worker as callers in other languages do: with one end of a pair as descriptor 3.
    pub fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// The same, with a say in the environment and the like.
    pub fn start_with(prepare: impl FnOnce(&mut Command)) -> Self {
        Self::start_binary(super::Criu::ours().binary(), prepare)
    }

    /// The same, of another binary.
    pub fn start_binary(binary: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("a pair of sockets");
        let mut command = Command::new("/bin/sh");
        let line = "exec \"$0\" swrk 3 3<&0 </dev/null";
        command.args(["-c", line]).arg(binary).stdin(theirs);
        prepare(&mut command);
        let child = command.spawn().expect("start a worker");
        // The command still has the worker's end.
        drop(command);
        Self { caller: Caller { channel: Channel::new(ours) }, child }
    }

    /// Ends the connection; the result is how the worker ended.
    pub fn finish(self) -> ExitStatus {
        let Self { caller, mut child } = self;
        drop(caller);
        child.wait().expect("wait for the worker")
    }
}

/// `criu service` in a scene.
pub struct Service {
    pub socket: PathBuf,
    child: Child,
}

impl Service {
    /// A call of `criu service` whose socket is `name` in the scene.
    pub fn command(scene: &Scene, name: &str) -> Command {
        let mut command = Command::new(super::Criu::ours().binary());
        let log = format!("service-{}.log", unique());
        command.args(["service", "-v4", "-o", &log, "--address", name, "-W"]).arg(scene.dir());
        command.env("SCENE_DIR", scene.dir()).stdin(Stdio::null());
        command
    }

    /// Starts a service and waits until it serves.
    pub fn start(scene: &Scene) -> Self {
        Self::start_with(scene, |_| ())
    }

    /// The same, with a say in its options and environment.
    pub fn start_with(scene: &Scene, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Self::command(scene, "socket");
        prepare(&mut command);
        let mut child = command.spawn().expect("start a service");
        let socket = scene.path("socket");
        until(
            || "the service does not serve".to_owned(),
            || {
                assert_eq!(child.try_wait().expect("look at the service"), None, "it ended");
                Caller::connect(&socket).ok()
            },
        );
        Self { socket, child }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn caller(&self) -> Caller {
        Caller::connect(&self.socket).expect("connect to the service")
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &CriuReq) -> CriuResp {
        self.caller().ask(request)
    }

    /// Ends the service by a signal.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.pid()), signal).expect("signal the service");
        self.child.wait().expect("wait for the service")
    }

    /// The processes that serve connections now.
    pub fn workers(&self) -> Vec<i32> {
        processes::tree_of(self.pid()).split_off(1)
    }

    /// Waits until it has no children, dead or alive.
    pub fn until_idle(&self) {
        let children = || format!("children {:?}", self.workers());
        until(children, || self.workers().is_empty().then_some(()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
