//! A turn of one process: what several phases do in it, in as few batches as can be.

use super::Phase;
use crate::error::Result;
use crate::kernel::pid::HostPid;
use crate::tracee::batch::{Batch, Outcome};
use crate::tracee::blank::{Blank, Delivery};

/// A process that takes some phases.
///
/// Calls are gathered until something needs their effect. In a process with several threads that is
/// the end of a phase, as all threads have to be through it before the first goes on.
pub struct Turn<'b> {
    /// The leader's calls.
    delivery: Delivery<'b>,
    /// Those of the other threads.
    others: Vec<Batch>,
    /// How often calls have run, in whatever number of threads.
    #[cfg(test)]
    pub rounds: usize,
}

impl<'b> Turn<'b> {
    /// Has a process take some phases; `take` does what one of them is for it.
    pub fn take(
        blank: &'b mut Blank,
        phases: &[Phase],
        mut take: impl FnMut(Phase, &mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut turn = Self {
            delivery: Delivery::to(blank),
            others: Vec::new(),
            #[cfg(test)]
            rounds: 0,
        };
        for phase in phases {
            take(*phase, &mut turn)?;
            if turn.stopped().thread_ids().len() > 1 {
                turn.run()?;
            }
        }
        turn.run()
    }

    /// The pid.
    pub fn pid(&self) -> HostPid {
        self.delivery.pid()
    }

    /// Where the calls of a thread are added; the leader is thread 0.
    pub fn batch(&mut self, thread: usize) -> &mut Batch {
        if thread == 0 {
            return self.delivery.batch();
        }
        if self.others.len() < thread {
            self.others.resize_with(thread, Batch::new);
        }
        &mut self.others[thread - 1]
    }

    /// The same for the leader, which can be handed descriptors as well.
    pub fn delivery(&mut self) -> &mut Delivery<'b> {
        &mut self.delivery
    }

    /// Has what the leader's calls bring looked at as soon as they have run.
    pub fn check(&mut self, check: impl FnOnce(&Outcome) -> Result<()> + 'static) {
        self.delivery.check(check);
    }

    /// The process itself; calls that were added since it last ran have not run yet.
    pub fn stopped(&mut self) -> &mut Blank {
        self.delivery.blank()
    }

    /// The process itself, in which all calls so far have run.
    pub fn blank(&mut self) -> Result<&mut Blank> {
        self.run()?;
        Ok(self.delivery.blank())
    }

    fn run(&mut self) -> Result<()> {
        let others = std::mem::take(&mut self.others).into_iter();
        let others: Vec<_> = (1..).zip(others).filter(|(_, batch)| !batch.is_empty()).collect();
        #[cfg(test)]
        if !others.is_empty() || !self.delivery.batch().is_empty() {
            self.rounds += 1;
        }
        self.delivery.flush_with(others)
    }
}
