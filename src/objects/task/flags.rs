//! What the kernel notes of a process for itself, such as that it has not executed a program yet.
//!
//! CRIU stores these flags; nobody can set them.

use super::attribute::Attribute;
use super::draft::Draft;
use crate::error::Result;
use crate::kernel::proc::Stat;
use crate::tracee::dumpee::FrozenTask;

pub struct Flags;

impl Attribute for Flags {
    fn read(&self, task: &FrozenTask, draft: &mut Draft) -> Result<()> {
        draft.entry.flags = Stat::of(task.stat()?)?.flags;
        Ok(())
    }
}
