//! From the images of a process to a process.

use super::attribute::Step;
use super::{ATTRIBUTES, Reach, Recorded};
use crate::error::Result;
use crate::images::pid::TreePid;
use crate::images::snapshot::Snapshot;
use crate::kernel::ptrace::zero_regs;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::blank::FinalState;

/// The rebuilding of one process; its image is [valid](super::validate).
pub struct Rebuild<'a> {
    /// What it is to be.
    pub task: Recorded<'a>,
    /// What the engine has.
    pub reach: &'a Reach,
}

impl<'a> Rebuild<'a> {
    /// Of a process of an image.
    pub fn new(all: &'a Snapshot, pid: TreePid, reach: &'a Reach) -> Result<Self> {
        Ok(Self { task: Recorded::of(all, pid)?, reach })
    }

    /// Takes the steps of all attributes that belong to a phase.
    pub fn take(&self, phase: Phase, turn: &mut Turn<'_>) -> Result<()> {
        let steps = || ATTRIBUTES.iter().flat_map(|attribute| attribute.steps());
        let steps = || steps().filter(|(at, _)| *at == phase).map(|(_, step)| step);
        for step in steps() {
            if let Step::Act(act) = step {
                act(self, turn)?;
            }
        }
        for step in steps() {
            match step {
                Step::Leader(add) => add(self, turn.batch(0)),
                Step::Threads(add) => {
                    for thread in &self.task.threads {
                        add(self, thread, turn.batch(thread.index));
                    }
                }
                Step::Act(_) => {}
            }
        }
        Ok(())
    }

    /// Registers and masks of all threads, the leader first.
    pub fn final_states(&self) -> Result<Vec<FinalState>> {
        let empty = FinalState { regs: zero_regs(), xstate: Vec::new(), sigmask: 0 };
        let mut states = vec![empty; self.task.threads.len()];
        for attribute in ATTRIBUTES {
            attribute.set_final(&self.task, &mut states)?;
        }
        Ok(states)
    }
}
