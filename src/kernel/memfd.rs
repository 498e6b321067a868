//! Memory that is a file, and its seals.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use super::Sys;
use super::descriptor::owned;
use super::fcntl::fcntl;

const F_ADD_SEALS: i32 = 1033;
const F_GET_SEALS: i32 = 1034;

/// A new memfd; `flags` are `MFD_*`.
pub fn create(name: &CStr, flags: u32) -> Sys<OwnedFd> {
    // SAFETY: `name` is a string that ends in NUL.
    owned(unsafe { libc::memfd_create(name.as_ptr(), flags) })
}

/// The seals of a memfd.
pub fn seals(fd: impl AsFd) -> Sys<u32> {
    fcntl(fd, F_GET_SEALS, 0).map(i32::cast_unsigned)
}

/// Adds seals to a memfd.
pub fn add_seals(fd: impl AsFd, seals: u32) -> Sys<()> {
    fcntl(fd, F_ADD_SEALS, seals.cast_signed()).map(drop)
}
