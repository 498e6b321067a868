//! The only door to the operating system: every system call that the project makes is wrapped here
//! once, one file per family of calls.
//!
//! A wrapper adds types and error numbers and decides nothing. Readers of `/proc` parse text, so
//! that they are tested on saved text. Some files are more than a
//! family of calls: [`beside`], [`process`] and [`threads`] start processes and threads of our own,
//! [`pin`] keeps them on one CPU, and [`probe`] asks the kernel what it knows.
//!
//! Invariants:
//! * `unsafe` occurs here, in `tracee` and in `capi`, and nowhere else;
//! * numbers that are valid in another process (its addresses and descriptors) have types of their
//!   own, see [`remote`], so that they cannot be used as ours;
//! * every new descriptor is close-on-exec from the start and is owned by a value, except what
//!   [`descriptor::duplicate_to`] makes in a private table;
//! * nothing here depends on what is dumped or restored.

pub mod beside;
pub mod capability;
pub mod clock;
pub mod cpu;
pub mod descriptor;
pub mod epoll;
pub mod eventfd;
pub mod fcntl;
pub mod fresh;
pub mod host;
pub mod kcmp;
pub mod lock;
pub mod mapping;
pub mod membarrier;
pub mod memfd;
pub mod memory;
pub mod namespace;
pub mod owner;
pub mod pagemap;
pub mod pid;
pub mod pidfd;
pub mod pin;
pub mod pipe;
pub mod probe;
pub mod proc;
pub mod process;
pub mod ptrace;
pub mod remote;
pub mod sched;
pub mod seccomp;
pub mod signalfd;
pub mod socket;
pub mod sys;
pub mod thread_area;
pub mod threads;
pub mod timerfd;
pub mod tty;
pub mod uffd;
pub mod xsave;

/// Result of one system call: the error number alone, as the caller knows what the call was for.
pub type Sys<T> = std::result::Result<T, nix::errno::Errno>;

/// Bytes of a page; the only size x86-64 has for ordinary memory.
pub const PAGE_SIZE: u64 = 4096;
