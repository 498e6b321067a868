//! CRIU's RPC: one protobuf message a datagram on a SOCK_SEQPACKET unix socket.
//!
//! [`wire`] moves messages, [`peer`] is who sends them, [`rights`] what it may ask for; [`setup`]
//! makes a request of a message, [`notify`] asks the caller at the stages of the work, [`worker`]
//! serves the requests of one connection, [`service`] those of many.

pub mod listener;
pub mod notify;
pub mod peer;
pub mod rights;
pub mod service;
pub mod setup;
pub mod wire;
pub mod worker;

use crate::error::Result;
use crate::images::proto::{CriuReq, CriuReqType};
use crate::kernel::host;
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
    let ready = host::settle_signals().and_then(|()| host::adopt(fd)).map(Channel::new);
    match ready {
        Ok(channel) => serve_caller(&channel).unwrap_or(UNSERVED),
        // There is nobody to tell: the descriptor is the only way to the caller.
        Err(_) => UNSERVED,
    }
}

/// A worker with the set-user-ID bit has more rights than who started it, and serves only callers
/// who have them as well.
fn serve_caller(channel: &Channel) -> Result<i32> {
    let allowed = host::refuse_set_user_id("swrk").or_else(|error| {
        let entitled = Peer::of(channel)?.uid == nix::unistd::geteuid().as_raw();
        if entitled { Ok(()) } else { Err(error) }
    });
    if let Err(error) = allowed {
        // An answer before the question would end the connection under who asks.
        let _: Option<CriuReq> = channel.receive()?;
        channel.send(&worker::failure(CriuReqType::Empty, &error))?;
        return Err(error);
    }
    worker::serve(channel, Rights::Worker)
}
