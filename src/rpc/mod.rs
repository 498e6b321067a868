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

use crate::kernel::host;
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
