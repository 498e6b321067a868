//! libcriu, standing on its own: checkpoint and restore of Linux processes.
//!
//! ```text
//!  C program            runc, go-criu, pycriu        a person, scripts
//!  libcriu.so.2 / .a    criu swrk FD | service       criu dump | restore | check
//!      capi  ------------->    rpc                          cli
//!         \                     |                          /
//!          `-------------->  engine   <-------------------'
//!                               |          dump, restore, check: stories read top to bottom
//!                            options       one table for every face; the request that it makes
//!                               |
//!                            objects       one file per kind of kernel object
//!                           /       \
//!                      images        tracee      the format; processes that work for the engine
//!                           \       /
//!                          helper, log     threads that work beside the engine's; the log file
//!                               |
//!                            kernel        the only door to the system
//! ```
//!
//! Imports run downwards only, and the modules of one height do not know each other, except that
//! `capi` uses `rpc`. `error`, `progress` and `version` may be used by all. `unsafe` occurs in
//! `kernel`, `tracee` and `capi` alone. `layers.rs` checks these rules.

pub mod capi;
#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod engine;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod helper;
#[forbid(unsafe_code)]
pub mod images;
pub mod kernel;
#[cfg(test)]
mod layers;
#[forbid(unsafe_code)]
pub mod log;
#[forbid(unsafe_code)]
pub mod objects;
#[forbid(unsafe_code)]
pub mod options;
#[forbid(unsafe_code)]
pub mod progress;
#[forbid(unsafe_code)]
pub mod rpc;
pub mod tracee;
#[forbid(unsafe_code)]
pub mod version;
