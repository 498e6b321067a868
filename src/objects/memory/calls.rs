//! Many system calls for a blank, sent as it has room for them.

use crate::error::Result;
use crate::kernel::blank::Blank;
use crate::kernel::remote::{Arg, Batch};

/// Calls per batch: a fraction of what the helper area holds.
const PER_BATCH: usize = 1000;

/// Collects calls that all have to succeed, and runs them in batches.
pub struct Calls<'a> {
    pub blank: &'a mut Blank,
    batch: Batch,
}

impl<'a> Calls<'a> {
    /// None yet.
    pub fn new(blank: &'a mut Blank) -> Self {
        Self { blank, batch: Batch::new() }
    }

    /// Adds one; `what` says what it does.
    pub fn must(
        &mut self,
        what: impl Into<String>,
        nr: libc::c_long,
        args: [Arg; 6],
    ) -> Result<()> {
        self.batch.must(what, nr, args);
        if self.batch.len() < PER_BATCH { Ok(()) } else { self.flush() }
    }

    /// Runs what is left.
    pub fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.blank.run(std::mem::take(&mut self.batch)).map(drop)
    }
}
