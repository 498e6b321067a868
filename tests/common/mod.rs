//! The harness: programs are started, dumped, restored, told to look at themselves, and cleaned up
//! after, whatever happens. See `tests/README.md`.

// The benchmarks compile this module too, and use a part of it.
#![allow(dead_code, unused_imports)]

mod criu;
mod installed;
mod processes;
mod round;
mod rpc;
mod scene;
pub mod terminals;

pub use criu::{Call, Criu, Ran, peer};
pub use installed::installed;
pub use processes::{alive, state_of, ticks_of, tree_of, until};
pub use round::Round;
pub use rpc::{
    Caller, Note, Reply, Service, Worker, ask_as_user, directory, no_options, request, request_with,
};
pub use scene::{Dumped, Scene, Task};

/// A user without privileges.
pub const NOBODY: u32 = 4242;
