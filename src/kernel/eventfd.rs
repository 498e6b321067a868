//! Event counters.

use std::os::fd::OwnedFd;

use super::Sys;
use super::descriptor::owned;

/// A new eventfd that counts from 0; `flags` are `EFD_*`.
pub fn create(flags: i32) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::eventfd(0, flags | libc::EFD_CLOEXEC) })
}
