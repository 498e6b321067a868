//! The signals that a thread blocks. Images have those of the leader with the process.

use super::attribute::{Attribute, Seen};
use super::draft::{Draft, ThreadDraft};
use super::{Recorded, RecordedThread};
use crate::error::{Refusals, Result};
use crate::images::snapshot::Snapshot;
use crate::tracee::blank::FinalState;
use crate::tracee::dumpee::FrozenTask;

pub struct SignalMask;

impl Attribute for SignalMask {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        _: &mut Refusals,
    ) -> Result<()> {
        thread.entry.blk_sigset = Some(seen.frozen.sigmask);
        Ok(())
    }

    fn settle(&self, task: &FrozenTask, draft: &mut Draft, _: &mut Snapshot) -> Result<()> {
        draft.entry.blk_sigset = task.threads[0].sigmask;
        draft.threads[0].entry.blk_sigset = None;
        Ok(())
    }

    fn set_final(&self, task: &Recorded<'_>, states: &mut [FinalState]) -> Result<()> {
        for (thread, state) in task.threads.iter().zip(states) {
            state.sigmask = blocked(task, thread);
        }
        Ok(())
    }
}

/// The signals that a thread of an image blocks.
pub fn blocked(task: &Recorded<'_>, thread: &RecordedThread<'_>) -> u64 {
    if thread.index == 0 { task.entry.blk_sigset } else { thread.entry.blk_sigset() }
}
