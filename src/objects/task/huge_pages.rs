//! Whether a process goes without transparent huge pages.
//!
//! Newer kernels have flags for how it does; the image format has a field for whether only.

use super::Rebuild;
use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use crate::args;
use crate::error::Context;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

pub struct HugePages;

impl Attribute for HugePages {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let call = batch.call(libc::SYS_prctl, args![libc::PR_GET_THP_DISABLE]);
        Some(Box::new(move |outcome, draft, refusals| {
            let disabled = outcome.ret(call).doing(|| "prctl(PR_GET_THP_DISABLE)")?;
            if !(0..=1).contains(&disabled) {
                refusals.refuse(
                    format!("pid {}", draft.pid),
                    "PR_SET_THP_DISABLE with flags",
                    "the image format has no field for its flags",
                    "",
                );
            }
            draft.mm.thp_disabled = Some(disabled != 0);
            Ok(())
        }))
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Places, Step::Leader(rebuild))]
    }
}

/// Sets the flag, either way: a new program inherits that of the engine.
fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    let disabled = process.task.image.mm.as_ref().is_some_and(|mm| mm.thp_disabled());
    let call = args![libc::PR_SET_THP_DISABLE, u32::from(disabled), 0, 0, 0];
    batch.must("set the huge page flag", libc::SYS_prctl, call);
}
