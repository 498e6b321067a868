//! The signal that a thread gets when its parent dies.
//!
//! The kernel forgets it at a change of credentials, so it comes after them.

use super::attribute::{Attribute, Step, ThreadReply};
use super::{Rebuild, RecordedThread};
use crate::args;
use crate::error::{Error, Result};
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

const SIGNALS: u32 = 64;

pub struct PdeathSignal;

impl Attribute for PdeathSignal {
    fn ask_thread(&self, batch: &mut Batch) -> Option<ThreadReply> {
        let place = batch.space(4);
        let call = args![libc::PR_GET_PDEATHSIG, place];
        batch.must("get the parent death signal", libc::SYS_prctl, call);
        Some(Box::new(move |outcome, thread| {
            thread.entry.pdeath_sig = Some(outcome.u32(place)).filter(|signal| *signal != 0);
            Ok(())
        }))
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        match thread.entry.pdeath_sig {
            Some(signal) if signal > SIGNALS => {
                Err(Error::image(thread.file(), format!("parent death signal {signal}")))
            }
            _ => Ok(()),
        }
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Limits, Step::Threads(rebuild))]
    }
}

/// No new thread has one.
fn rebuild(_: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    if let Some(signal) = thread.entry.pdeath_sig {
        let what = format!("set the parent death signal {signal}");
        batch.must(what, libc::SYS_prctl, args![libc::PR_SET_PDEATHSIG, signal]);
    }
}
