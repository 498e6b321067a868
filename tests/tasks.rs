//! What belongs to a task: registers, system calls, signals, timers, credentials, limits, names.

mod common;

use common::{NOBODY, Round, round_trip};

round_trips! { anybody:
    /// A process that does nothing but compute.
    busy,
    /// General registers, x87, MMX, SSE, AVX, AVX-512 and AMX, as far as the machine has them.
    registers,
    /// System calls of each restart class, interrupted by the dump.
    syscalls,
    /// Dispositions, masks, alternative stacks, pending signals with their order and values.
    signals,
    /// Interval timers and POSIX timers.
    timers,
    /// Registered areas of restartable sequences.
    rseq,
    /// Lists of robust mutexes.
    robust,
    /// Ids, groups, capabilities, securebits, no_new_privs, dumpable, the parent-death signal.
    credentials,
    /// Limits, nice values, ordinary scheduling policies.
    limits,
    /// Filters of system calls, of the process and of one thread.
    filtered,
    /// Many threads with what is their own.
    threads,
}

/// Real-time scheduling, which takes a privilege.
#[test]
fn realtime() {
    round_trip("realtime");
}

/// A root directory of its own, which takes a privilege.
#[test]
fn chrooted() {
    round_trip("chrooted");
}

/// The names under which others see a process.
#[test]
fn identity() {
    for user in [None, Some(NOBODY)] {
        Round { user, args: &["first", "second argument"], ..Round::of("identity") }.run();
    }
}
