//! The C face: the ABI of CRIU 4.2's libcriu, and what this project adds to it.
//!
//! An exported function checks its arguments, converts them, calls, and converts the result back.
//! The setters only write into [`settings::Settings`]; the verbs take a copy of it, so that no lock
//! is held while a verb runs and a callback may call any function of the library.
//!
//! | module | what it holds |
//! |---|---|
//! | [`types`] | the types and constants of the header |
//! | [`settings`] | `criu_opts`, the global options, how a call reaches them |
//! | [`set_flags`], [`set_numbers`], [`set_strings`], [`set_lists`], [`set_service`] | the setters |
//! | [`verbs`], [`queries`], [`snapshot`] | the calls that talk to a worker |
//! | [`host`] | what keeps a verb from being noticed by the host: errno, cancellation, panics, SIGCHLD |
//! | [`client`] | one request and its answer over the socket |
//! | [`connect`] | where that socket comes from |
//! | [`spawn`] | a worker process that the host does not notice |
//! | [`guest`] | a worker in the caller's memory, for what is done soon |
//! | [`program`] | which program the worker is |
//! | [`entry`] | how the library becomes the worker's program itself |
//! | [`inprocess`] | the engine in the calling thread instead |
//! | [`notes`] | notifications and the last error |
//!
//! The header `include/criu/criu.h` is generated from these files; `make header` writes it anew.

pub mod client;
pub mod connect;
pub mod entry;
pub mod guest;
pub mod host;
pub mod inprocess;
pub mod notes;
pub mod program;
pub mod queries;
pub mod set_flags;
pub mod set_lists;
pub mod set_numbers;
pub mod set_service;
pub mod set_strings;
pub mod settings;
pub mod snapshot;
pub mod spawn;
pub mod types;
pub mod verbs;
