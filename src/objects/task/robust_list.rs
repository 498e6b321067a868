//! A thread's list of futexes that the kernel marks as abandoned when it ends.

use super::attribute::{Attribute, Seen, Step};
use super::draft::ThreadDraft;
use super::{Rebuild, RecordedThread};
use crate::args;
use crate::error::{Error, Refusals, Result};
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

/// The only length that the kernel takes.
const LEN: u32 = 24;

pub struct RobustList;

impl Attribute for RobustList {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        _: &mut Refusals,
    ) -> Result<()> {
        let (head, len) = seen.frozen.robust_list;
        (thread.entry.futex_rla, thread.entry.futex_rla_len) = (head, len as u32);
        Ok(())
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        match thread.entry.futex_rla_len {
            0 | LEN => Ok(()),
            len => Err(Error::image(thread.file(), format!("a robust list head of {len} bytes"))),
        }
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Registrations, Step::Threads(rebuild))]
    }
}

fn rebuild(_: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    let (head, len) = (thread.entry.futex_rla, thread.entry.futex_rla_len);
    if len != 0 {
        batch.must("set the robust list", libc::SYS_set_robust_list, args![head, len]);
    }
}
