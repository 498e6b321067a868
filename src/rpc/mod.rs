//! CRIU's RPC: one protobuf message a datagram on a SOCK_SEQPACKET unix socket.
//!
//! [`wire`] moves messages, [`peer`] is who sends them, [`rights`] what it may ask for; [`setup`]
//! makes a request of a message, [`notify`] asks the caller at the stages of the work, [`worker`]
//! serves the requests of one connection, [`service`] those of many, whose [`shares`] are limited.

pub mod listener;
pub mod notify;
pub mod peer;
pub mod rights;
pub mod service;
pub mod setup;
pub mod shares;
pub mod wire;
pub mod worker;

use crate::error::{Context, Result};
use crate::kernel::{descriptor, host};
use peer::Peer;
use rights::Rights;
use wire::Channel;

/// Exit status of a worker that could not even read its request.
const UNSERVED: i32 = 255;

/// Serves the connection `fd` until its caller has no more to ask; the result is an exit status.
///
/// This is `criu swrk FD`, and what the C library starts as its own worker. The process belongs to
/// the worker: its signals and its current directory are changed.
pub fn serve_worker(fd: i32) -> i32 {
    host::keep_memory();
    match host::settle_signals().and_then(|()| host::adopt(fd)) {
        Ok(socket) => worker::serve(&Channel::new(socket), Rights::Worker).unwrap_or(UNSERVED),
        // There is nobody to tell: the descriptor is the only way to the caller.
        Err(_) => UNSERVED,
    }
}

/// Serves the connection that is this process's standard input, for a service that has started this
/// program anew to serve somebody who is not root.
pub fn serve_user(patience: u32) -> i32 {
    host::keep_memory();
    let channel = host::settle_signals().and_then(|()| take_input());
    let served = channel.and_then(|channel| {
        let Peer { uid, gid, .. } = Peer::of(&channel)?;
        worker::serve(&channel.with_patience(patience)?, Rights::User { uid, gid })
    });
    served.unwrap_or(UNSERVED)
}

/// The connection under another number; standard input becomes as empty as the other standard files.
fn take_input() -> Result<Channel> {
    let doing = || "take the connection";
    let socket = descriptor::duplicate_above(libc::STDIN_FILENO, libc::STDERR_FILENO + 1);
    let channel = Channel::new(socket.doing(doing)?);
    let null = std::fs::File::open("/dev/null").doing(doing)?;
    nix::unistd::dup2_stdin(null).doing(doing)?;
    Ok(channel)
}
