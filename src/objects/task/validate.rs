//! Checks of a process of an image, before anything of it is built.

use super::{ATTRIBUTES, Reach, Recorded};
use crate::error::Result;
use crate::images::pid::TreePid;
use crate::images::snapshot::Snapshot;

/// Checks a process by itself. A zombie has no more than its state.
pub fn validate(all: &Snapshot, pid: TreePid) -> Result<()> {
    let task = Recorded::of(all, pid)?;
    if task.is_dead() {
        return Ok(());
    }
    for attribute in ATTRIBUTES {
        attribute.validate(&task)?;
        task.threads.iter().try_for_each(|thread| attribute.validate_thread(thread))?;
    }
    Ok(())
}

/// Checks that the engine has what the process is to have.
pub fn check_reach(all: &Snapshot, pid: TreePid, reach: &Reach) -> Result<()> {
    let task = Recorded::of(all, pid)?;
    ATTRIBUTES.iter().try_for_each(|attribute| attribute.check_reach(&task, reach))
}
