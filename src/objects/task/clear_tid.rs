//! Where the kernel writes a zero and wakes a futex when a thread ends: what `pthread_join` waits
//! for.

use crate::args;
use crate::tracee::batch::{Batch, DataRef, Outcome};

/// PR_GET_TID_ADDRESS
const PR_GET_TID_ADDRESS: i32 = 40;

/// The question to a thread: its address.
pub struct Answer(DataRef);

/// Asks for the address.
pub fn ask(batch: &mut Batch) -> Answer {
    let place = batch.space(8);
    let call = args![PR_GET_TID_ADDRESS, place];
    batch.must("get the address that the end of the thread clears", libc::SYS_prctl, call);
    Answer(place)
}

impl Answer {
    /// The address as an image holds it.
    pub fn to_image(&self, outcome: &Outcome) -> u64 {
        outcome.u64(self.0)
    }
}

/// Sets the address of the thread that runs the batch. It returns the thread's id.
pub fn rebuild(batch: &mut Batch, address: u64) {
    let what = "set the address that the end of the thread clears";
    batch.must(what, libc::SYS_set_tid_address, args![address]);
}
