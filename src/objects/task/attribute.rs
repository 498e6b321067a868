//! What the engine knows of an attribute.

use super::draft::{Draft, ThreadDraft};
use super::recorded::{Recorded, RecordedThread};
use super::status::Status;
use super::{Reach, Rebuild};
use crate::error::{Refusals, Result};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::batch::{Batch, Outcome};
use crate::tracee::blank::FinalState;
use crate::tracee::dumpee::{FrozenTask, FrozenThread};

/// Something that a process or each of its threads has.
///
/// The methods stand in the order in which they are called: those up to [`settle`](Self::settle) by a
/// dump, which then validates, too; the others by a restore. Each is called for all attributes before
/// the next one is, and an attribute implements those that it needs.
pub trait Attribute: Sync {
    /// Looks at a process before it runs anything for the engine: all its threads are stopped, and
    /// ptrace requests can be made.
    fn look(&self, _: &FrozenTask, _: &mut Draft, _: &mut Refusals) -> Result<()> {
        Ok(())
    }

    /// Puts questions to the process into the one batch that it runs.
    fn ask(&self, _: &mut Batch, _: &Draft) -> Option<Reply> {
        None
    }

    /// Puts questions into the batch of a thread.
    fn ask_thread(&self, _: &mut Batch) -> Option<ThreadReply> {
        None
    }

    /// Reads what can be seen of the process. It is about to answer: no ptrace requests.
    fn read(&self, _: &FrozenTask, _: &mut Draft) -> Result<()> {
        Ok(())
    }

    /// Reads what can be seen of a thread. The process is answering: no ptrace requests.
    fn read_thread(&self, _: &Seen<'_>, _: &mut ThreadDraft, _: &mut Refusals) -> Result<()> {
        Ok(())
    }

    /// Makes of what was read and answered what goes to the images. All threads are stopped again.
    fn settle(&self, _: &FrozenTask, _: &mut Draft, _: &mut Snapshot) -> Result<()> {
        Ok(())
    }

    /// Checks what an image says of a process.
    fn validate(&self, _: &Recorded<'_>) -> Result<()> {
        Ok(())
    }

    /// Checks what an image says of a thread.
    fn validate_thread(&self, _: &RecordedThread<'_>) -> Result<()> {
        Ok(())
    }

    /// Checks that the engine can give what the image asks for.
    fn check_reach(&self, _: &Recorded<'_>, _: &Reach) -> Result<()> {
        Ok(())
    }

    /// What is done to give the attribute back, and when.
    fn steps(&self) -> &'static [(Phase, Step)] {
        &[]
    }

    /// Sets what threads get when they are let go; the states are in the order of the threads.
    fn set_final(&self, _: &Recorded<'_>, _: &mut [FinalState]) -> Result<()> {
        Ok(())
    }
}

/// Takes the answer of a process to what an attribute has asked.
pub type Reply = Box<dyn FnOnce(&Outcome, &mut Draft, &mut Refusals) -> Result<()>>;

/// Takes the answer of a thread.
pub type ThreadReply = Box<dyn FnOnce(&Outcome, &mut ThreadDraft) -> Result<()>>;

/// A thread as it can be seen while its process is busy.
pub struct Seen<'a> {
    /// The id of its process.
    pub pid: HostPid,
    /// The thread as it was when it was stopped.
    pub frozen: &'a FrozenThread,
    /// The text of `/proc/PID/task/TID/status`.
    pub text: &'a [u8],
    /// What that says.
    pub status: Status,
}

/// Something that is done in a process under construction.
pub enum Step {
    /// Calls that the leader makes for the process.
    Leader(fn(&Rebuild<'_>, &mut Batch)),
    /// Calls that each thread makes.
    Threads(fn(&Rebuild<'_>, &RecordedThread<'_>, &mut Batch)),
    /// Anything else. In a phase it comes before the calls.
    Act(fn(&Rebuild<'_>, &mut Turn<'_>) -> Result<()>),
}

/// The registry: a line `module: Type` for each attribute.
///
/// It also declares the modules, so that a new attribute is one file and one line. `cargo fmt` does
/// not see modules that a macro declares: `make lint` gives it their files by name.
macro_rules! attributes {
    ($($file:ident: $Attribute:ident,)+) => {
        $(mod $file;)+

        /// Every attribute.
        const ATTRIBUTES: &[&dyn Attribute] = &[$(&$file::$Attribute,)+];
    };
}
pub(super) use attributes;
