//! libcriu, standing on its own: checkpoint and restore of Linux processes.
//!
//! ```text
//!  C program            runc, go-criu, pycriu        a person, scripts
//!  libcriu.so.2 / .a    criu swrk FD | service       criu dump | restore | check
//!      capi                    rpc                          cli
//!         \                     |                          /
//!          `------------->   options   <------------------'     one table
//!                               |
//!                            engine        dump, restore, check: stories read top to bottom
//!                               |
//!                            objects       one file per kind of kernel object
//!                           /       \
//!                      images        tracee      the format; processes that work for the engine
//!                           \       /
//!                            kernel        the only door to the system
//! ```
//!
//! Imports run downwards only.

pub mod capi;
pub mod cli;
pub mod engine;
pub mod error;
pub mod helper;
pub mod images;
pub mod kernel;
pub mod log;
pub mod objects;
pub mod options;
pub mod progress;
pub mod rpc;
pub mod tracee;
pub mod version;
