//! Dump, restore, check and the smaller verbs: stories read top to bottom.

pub mod check;
mod continuing;
mod cpuinfo;
mod dedup;
pub mod dump;
pub mod hooks;
pub mod restore;
pub mod scripts;
mod stats;
pub mod tree;

use crate::error::{Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::log::Log;
use crate::options::{Request, Verb};

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The images are complete.
    Dumped,
    /// The tree runs; `pid` is its root, a child of the engine unless it was asked for otherwise.
    Restored { pid: HostPid },
    /// Everything that was asked about is there.
    Checked,
    /// The work is done, and there is nothing to say about it.
    Done,
}

/// Carries a request out. The engine asks `hooks` at its stages, tells `log` what it does, and returns
/// its failure to the caller.
pub fn run(request: &Request, hooks: &mut dyn hooks::Hooks, log: &Log) -> Result<Outcome> {
    match request.verb {
        Verb::Dump => dump::dump(request, hooks, log),
        Verb::Restore => restore::restore(request, hooks, log),
        Verb::Check => check::run(&request.options, log).map(|_| Outcome::Checked),
        Verb::Dedup => dedup::run(request, log).map(|()| Outcome::Done),
        Verb::CpuinfoDump => cpuinfo::dump(request, log).map(|()| Outcome::Done),
        Verb::CpuinfoCheck => cpuinfo::check(request, log).map(|()| Outcome::Checked),
        Verb::Continue => continuing::run(request, log).map(|()| Outcome::Done),
        verb => {
            let cause = format!("{} is not carried out by this version", verb.name());
            Err(Error::new(Kind::Refused, cause))
        }
    }
}
