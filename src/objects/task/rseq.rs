//! A thread's registration of restartable sequences.
//!
//! A thread that was stopped inside a sequence has been moved to the sequence's abort handler when
//! it was frozen, so an image never needs the sequence itself.

use super::attribute::{Attribute, Seen, Step};
use super::draft::ThreadDraft;
use super::{Rebuild, RecordedThread};
use crate::args;
use crate::error::{Error, Refusals, Result};
use crate::images::proto::RseqEntry;
use crate::kernel::ptrace::RseqConfig;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

pub struct Rseq;

impl Attribute for Rseq {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        _: &mut Refusals,
    ) -> Result<()> {
        thread.entry.rseq_entry = Some(to_image(seen.frozen.rseq.as_ref()));
        Ok(())
    }

    /// Refuses the flags of Linux before 6.1 that let a sequence run on after an interruption.
    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        match thread.entry.rseq_entry.and_then(|entry| entry.rseq_cs_pointer) {
            Some(_) => Err(Error::image(
                thread.file(),
                "the thread is inside a restartable sequence that may not be restarted, which \
                 newer kernels do not allow",
            )),
            None => Ok(()),
        }
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Exposure, Step::Threads(rebuild))]
    }
}

/// The registration as an image holds it. CRIU writes an empty one, too.
fn to_image(config: Option<&RseqConfig>) -> RseqEntry {
    let registered = config.map(|config| RseqEntry {
        rseq_abi_pointer: config.pointer,
        rseq_abi_size: config.size,
        signature: config.signature,
        rseq_cs_pointer: None,
    });
    registered.unwrap_or_default()
}

/// When the thread has no more rights than its memory should: that can make it jump out of a batch
/// at any later interruption.
fn rebuild(_: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    let Some(entry) = thread.entry.rseq_entry.filter(|entry| entry.rseq_abi_pointer != 0) else {
        return;
    };
    let call = args![entry.rseq_abi_pointer, entry.rseq_abi_size, 0, entry.signature];
    batch.must("register restartable sequences", libc::SYS_rseq, call);
}
