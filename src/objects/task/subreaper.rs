//! Whether a process adopts the orphans among its descendants.

use crate::args;
use crate::tracee::batch::{Batch, DataRef, Outcome};

/// The question to the process: whether it is a subreaper.
pub struct Answer(DataRef);

/// Asks whether the process is a subreaper.
pub fn ask(batch: &mut Batch) -> Answer {
    let place = batch.space(4);
    let call = args![libc::PR_GET_CHILD_SUBREAPER, place];
    batch.must("ask for the subreaper flag", libc::SYS_prctl, call);
    Answer(place)
}

impl Answer {
    /// The flag as an image holds it.
    pub fn to_image(&self, outcome: &Outcome) -> bool {
        outcome.u32(self.0) != 0
    }
}

/// Sets the flag, either way: making the tree may have set it for a while.
pub fn rebuild(batch: &mut Batch, subreaper: bool) {
    let call = args![libc::PR_SET_CHILD_SUBREAPER, u32::from(subreaper)];
    batch.must("set the subreaper flag", libc::SYS_prctl, call);
}
