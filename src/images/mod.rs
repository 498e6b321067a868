//! The image directory: CRIU's format, read and written by this project's own code.
//!
//! [`proto`] are the messages, [`sections`] says in which files they stand, [`snapshot`] is their
//! collection in memory.

pub mod checksum;
pub mod codec;
pub mod dir;
pub mod forms;
pub mod manifest;
pub mod names;
pub mod pages;
pub mod payload;
pub mod pid;
pub mod read;
pub mod sections;
pub mod snapshot;
pub mod write;

/// The messages of the image format and of the RPC, generated from `proto/`.
pub mod proto {
    #![allow(clippy::all, clippy::pedantic, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/images.rs"));
}
