//! The harness: programs are started, dumped, restored, told to look at themselves, and cleaned up
//! after, whatever happens. See `tests/README.md`.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod criu;
mod processes;
mod programs;
mod round;
mod rpc;
mod scene;

pub use criu::{Call, Criu, Ran, peer};
pub use processes::{alive, state_of, tree_of, until};
pub use programs::{compile, installed};
pub use round::{Round, round_trip, round_trip_as};
pub use rpc::{
    Caller, Note, Reply, Service, Worker, ask_as_user, directory, no_options, request, request_with,
};
pub use scene::{Dumped, Scene, Task};

/// A user without privileges.
pub const NOBODY: u32 = 4242;

/// One test per program: dumped and restored twice in a row, then asked whether all is well.
#[macro_export]
macro_rules! round_trips {
    (root: $($(#[$doc:meta])* $program:ident,)*) => {
        $($(#[$doc])* #[test] fn $program() { $crate::common::round_trip(stringify!($program)); })*
    };
    (anybody: $($(#[$doc:meta])* $program:ident,)*) => {
        $(mod $program {
            $(#[$doc])* #[test] fn as_root() {
                $crate::common::round_trip(stringify!($program));
            }
            $(#[$doc])* #[test] fn as_another_user() {
                $crate::common::round_trip_as(stringify!($program), $crate::common::NOBODY);
            }
        })*
    };
}
