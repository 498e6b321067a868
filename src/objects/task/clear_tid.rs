//! Where the kernel writes a zero and wakes a futex when a thread ends: what `pthread_join` waits
//! for.

use super::Rebuild;
use super::attribute::{Attribute, Step, ThreadReply};
use crate::args;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

/// PR_GET_TID_ADDRESS
const PR_GET_TID_ADDRESS: i32 = 40;

pub struct ClearTid;

impl Attribute for ClearTid {
    fn ask_thread(&self, batch: &mut Batch) -> Option<ThreadReply> {
        let place = batch.space(8);
        let call = args![PR_GET_TID_ADDRESS, place];
        batch.must("get the address that the end of the thread clears", libc::SYS_prctl, call);
        Some(Box::new(move |outcome, thread| {
            thread.info.clear_tid_addr = outcome.u64(place);
            Ok(())
        }))
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Registrations, Step::Leader(rebuild))]
    }
}

/// Sets the address of the leader: the others are [born](super::threads) with theirs.
fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    if let Some(leader) = process.task.threads.first() {
        let what = "set the address that the end of the thread clears";
        let call = args![leader.info.clear_tid_addr];
        // It returns the thread's id.
        batch.must(what, libc::SYS_set_tid_address, call);
    }
}
