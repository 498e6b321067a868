//! Whether a process adopts the orphans among its descendants.

use super::Rebuild;
use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use crate::args;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

pub struct Subreaper;

impl Attribute for Subreaper {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let place = batch.space(4);
        let call = args![libc::PR_GET_CHILD_SUBREAPER, place];
        batch.must("ask for the subreaper flag", libc::SYS_prctl, call);
        Some(Box::new(move |outcome, draft, _| {
            draft.entry.child_subreaper = Some(outcome.u32(place) != 0);
            Ok(())
        }))
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Limits, Step::Leader(rebuild))]
    }
}

/// Sets the flag, either way: making the tree may have set it for a while.
fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    let call = args![libc::PR_SET_CHILD_SUBREAPER, u32::from(process.task.entry.child_subreaper())];
    batch.must("set the subreaper flag", libc::SYS_prctl, call);
}
