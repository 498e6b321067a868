//! What the tests of criu know about the C programs of `tests/programs`: which states there are and
//! how each is tested, how a program is compiled, and what was left out on this machine.

mod left_out;
mod programs;

#[cfg(test)]
mod generate;
#[cfg(test)]
mod header;
#[cfg(test)]
mod tests;

pub use left_out::{Lack, needs};
pub use programs::{compile, compile_with};

include!(concat!(env!("OUT_DIR"), "/states.rs"));

/// A program that holds a state of kernel objects, looks at it when it is told to, and says what is
/// wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// `FAMILY/NAME` below `tests/programs`.
    pub program: &'static str,
    pub args: &'static [&'static str],
    /// What every dump of it has on its command line.
    pub dump: &'static [&'static str],
    /// What every restore of it has on its command line.
    pub restore: &'static [&'static str],
    /// Whether root may run it; otherwise it is for a user without privileges.
    pub runs_as_root: bool,
    /// Whether it gets the numbers of its terminals back.
    pub takes_terminals: bool,
}

/// A way in which a state is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Root's program, dumped and restored twice in a row.
    AsRoot,
    /// The same of a user without privileges.
    AsUser,
    /// The tree goes on after its dump.
    LeaveRunning,
    /// The program asks for its own dump.
    SelfDump,
    /// By requests to a worker.
    ByRpc,
    /// A user's program by that user's engine, a binary with the set-user-ID bit.
    SetUserId,
    /// Dumped by us, restored by CRIU, twice in a row.
    ToCriu,
    /// Dumped by CRIU, restored by us, twice in a row.
    FromCriu,
    ToCriuAsUser,
    FromCriuAsUser,
}
