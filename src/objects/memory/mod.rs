//! Address spaces: their layout, the pages that hold something, and how both come back.
//!
//! Labels given by `PR_SET_VMA_ANON_NAME` have no place in the image format; they are lost.

pub mod bits;
pub mod capture;
pub mod classify;
pub mod mm;
pub mod pages;
pub mod runs;
pub mod smaps;
pub mod vdso;
