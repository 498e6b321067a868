//! What belongs to a process and its threads: registers, signals, timers, credentials, limits.
//!
//! One file per attribute. What `/proc` and ptrace tell is read from outside; what only the task
//! itself can tell is put as questions into one batch for the process and one per thread
//! (`ask(&mut Batch) -> Answer`). `validate` checks an image before anything is built, `rebuild`
//! adds the calls that give the attribute back.

pub mod altstack;
pub mod capture;
pub mod clear_tid;
pub mod comm;
pub mod credentials;
pub mod dumpable;
pub mod fpu;
mod inside;
pub mod itimers;
pub mod loginuid;
pub mod mdwe;
pub mod membarrier;
pub mod oom_score;
mod outside;
pub mod pdeath_signal;
pub mod pending;
pub mod personality;
pub mod posix_timers;
pub mod registers;
pub mod restore;
pub mod rlimits;
pub mod robust_list;
pub mod rseq;
pub mod scheduling;
pub mod seccomp;
pub mod sigaction;
pub mod state;
pub mod status;
pub mod subreaper;
pub mod syscall_restart;
#[cfg(test)]
mod tests;
pub mod validate;

pub use capture::{Captured, capture_process};
pub use restore::Rebuild;
pub use state::{stop_signal, zombie_core};
pub use validate::{check_reach, validate};
