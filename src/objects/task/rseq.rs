//! A thread's registration of restartable sequences.
//!
//! A thread that was stopped inside a sequence has been moved to the sequence's abort handler when
//! it was frozen, so an image never needs the sequence itself.

use crate::args;
use crate::error::{Error, Result};
use crate::images::proto::RseqEntry;
use crate::kernel::ptrace::RseqConfig;
use crate::tracee::batch::Batch;

/// The registration as an image holds it. CRIU writes an empty one, too.
pub fn to_image(config: Option<&RseqConfig>) -> RseqEntry {
    let registered = config.map(|config| RseqEntry {
        rseq_abi_pointer: config.pointer,
        rseq_abi_size: config.size,
        signature: config.signature,
        rseq_cs_pointer: None,
    });
    registered.unwrap_or_default()
}

/// Refuses the flags of Linux before 6.1 that let a sequence run on after an interruption.
pub fn validate(file: &str, entry: &RseqEntry) -> Result<()> {
    match entry.rseq_cs_pointer {
        Some(_) => Err(Error::image(
            file,
            "the thread is inside a restartable sequence that may not be restarted, which newer \
             kernels do not allow",
        )),
        None => Ok(()),
    }
}

/// Registers for the thread that runs the batch. When the thread has no more rights than its memory
/// should: that can make it jump out of a batch at any later interruption.
pub fn rebuild(batch: &mut Batch, entry: &RseqEntry) {
    if entry.rseq_abi_pointer != 0 {
        let (pointer, size) = (entry.rseq_abi_pointer, entry.rseq_abi_size);
        let call = args![pointer, size, 0, entry.signature];
        batch.must("register restartable sequences", libc::SYS_rseq, call);
    }
}
