//! A thread's list of futexes that the kernel marks as abandoned when it ends.

use crate::args;
use crate::error::{Error, Result};
use crate::tracee::batch::Batch;

/// The only length that the kernel takes.
const LEN: u32 = 24;

/// Checks the length.
pub fn validate(file: &str, len: u32) -> Result<()> {
    match len {
        0 | LEN => Ok(()),
        len => Err(Error::image(file, format!("a robust list head of {len} bytes"))),
    }
}

/// Registers the list of the thread that runs the batch.
pub fn rebuild(batch: &mut Batch, head: u64, len: u32) {
    if len != 0 {
        batch.must("set the robust list", libc::SYS_set_robust_list, args![head, len]);
    }
}
