//! Many system calls for a blank, run in batches that fit its helper area.

use std::os::fd::BorrowedFd;

use crate::args;
use crate::error::Result;
use crate::images::proto::VmaEntry;
use crate::kernel::remote::RemoteFd;
use crate::tracee::batch::Arg;
use crate::tracee::blank::{Blank, Delivery};

/// Calls per batch: a fraction of what the helper area holds.
const PER_BATCH: usize = 1000;

/// Collects calls that all have to succeed, and runs them in batches.
pub struct Calls<'a> {
    delivery: Delivery<'a>,
}

impl<'a> Calls<'a> {
    /// Collects calls for `blank`.
    pub fn new(blank: &'a mut Blank) -> Self {
        Self { delivery: Delivery::to(blank) }
    }

    /// Adds a call; `what` says what it does.
    pub fn must(
        &mut self,
        what: impl Into<String>,
        nr: libc::c_long,
        args: [Arg; 6],
    ) -> Result<()> {
        self.delivery.batch().must(what, nr, args);
        if self.delivery.batch().len() < PER_BATCH { Ok(()) } else { self.flush() }
    }

    /// Adds a call on the range of a VMA: `name` is its name, `arg` what follows the range.
    pub fn must_on(
        &mut self,
        vma: &VmaEntry,
        name: &str,
        nr: libc::c_long,
        arg: impl Into<Arg>,
    ) -> Result<()> {
        let what = format!("{name} {:x}-{:x}", vma.start, vma.end);
        self.must(what, nr, args![vma.start, vma.end - vma.start, arg.into()])
    }

    /// Adds a call that may fail.
    pub fn may_fail(&mut self, nr: libc::c_long, args: [Arg; 6]) {
        self.delivery.batch().call(nr, args);
    }

    /// Runs what is left.
    pub fn flush(&mut self) -> Result<()> {
        self.delivery.flush()
    }

    /// Gives the blank open files, to be used and closed by the next calls.
    pub fn receive(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<RemoteFd>> {
        self.delivery.receive(fds)
    }
}
