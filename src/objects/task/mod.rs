//! What belongs to a process and its threads: registers, signals, timers, credentials, limits.
//!
//! An attribute is one file with an implementation of [`Attribute`] in it, which says of it all there
//! is to say, and one line in the registry below. [`capture_process`] asks and reads, [`validate()`]
//! checks, [`Rebuild`] takes the steps of each phase of a restore; none of them knows an attribute.

mod asking;
mod attribute;
mod capture;
mod draft;
mod reach;
mod rebuild;
mod recorded;
pub mod status;
mod syscall_restart;
#[cfg(test)]
mod tests;
mod validate;

use self::attribute::{Attribute, attributes};

pub use self::capture::{Captured, capture_process};
pub use self::reach::Reach;
pub use self::rebuild::Rebuild;
pub use self::recorded::{Recorded, RecordedThread};
pub use self::state::{stop_signal, zombie_core};
pub use self::validate::{check_reach, validate};

// Steps of the same phase are taken in this order: dumpable is reset by calls for which credentials
// may leave no right, and limits hinder whatever comes after them.
attributes! {
    threads: Threads,
    flags: Flags,
    brk: Brk,
    huge_pages: HugePages,
    registers: Registers,
    fpu: ProcessorState,
    sigmask: SignalMask,
    clear_tid: ClearTid,
    robust_list: RobustList,
    altstack: AltStack,
    comm: Comm,
    membarrier: Membarrier,
    seccomp: Seccomp,
    loginuid: LoginUid,
    oom_score: OomScore,
    dumpable: Dumpable,
    credentials: Credentials,
    sigaction: Actions,
    pending: PendingSignals,
    posix_timers: PosixTimers,
    itimers: Itimers,
    pdeath_signal: PdeathSignal,
    subreaper: Subreaper,
    mdwe: Mdwe,
    rlimits: ResourceLimits,
    personality: Personality,
    rseq: Rseq,
    scheduling: Scheduling,
    state: State,
}
