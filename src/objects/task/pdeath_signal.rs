//! The signal that a thread gets when its parent dies.
//!
//! The kernel forgets it at a change of credentials, so it comes after them.

use crate::args;
use crate::error::{Error, Result};
use crate::tracee::batch::{Batch, DataRef, Outcome};

const SIGNALS: u32 = 64;

/// The question to a thread: its parent death signal.
pub struct Answer(DataRef);

/// Asks for the parent death signal.
pub fn ask(batch: &mut Batch) -> Answer {
    let place = batch.space(4);
    let call = args![libc::PR_GET_PDEATHSIG, place];
    batch.must("get the parent death signal", libc::SYS_prctl, call);
    Answer(place)
}

impl Answer {
    /// The signal as an image holds it: none is no field.
    pub fn to_image(&self, outcome: &Outcome) -> Option<u32> {
        Some(outcome.u32(self.0)).filter(|signal| *signal != 0)
    }
}

/// Checks the number.
pub fn validate(file: &str, signal: Option<u32>) -> Result<()> {
    match signal {
        Some(signal) if signal > SIGNALS => {
            Err(Error::image(file, format!("parent death signal {signal}")))
        }
        _ => Ok(()),
    }
}

/// Sets the signal of the thread that runs the batch; no new thread has one.
pub fn rebuild(batch: &mut Batch, signal: Option<u32>) {
    if let Some(signal) = signal {
        let what = format!("set the parent death signal {signal}");
        batch.must(what, libc::SYS_prctl, args![libc::PR_SET_PDEATHSIG, signal]);
    }
}
