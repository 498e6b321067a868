//! Whether what a snapshot says can be built: asked by a restore of what it has read, and by a dump
//! of what it is about to write, before it ends anything.
//!
//! A restore has the whole snapshot. A dump forgets the messages of a process as soon as they are on
//! their way to the files, so it asks about each process when that is captured, and about the tree in
//! the end.

use super::namespaces::Join;
use super::{files, memory, namespaces, task};
use crate::error::{Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::snapshot::Snapshot;

/// Checks a whole snapshot, whose tree is to join some namespaces. What is not restored is added to
/// `refusals`; an error is a snapshot that makes no sense.
pub fn validate(snapshot: &Snapshot, joined: &[Join], refusals: &mut Refusals) -> Result<()> {
    tree(snapshot, joined, refusals)?;
    snapshot.tasks.keys().try_for_each(|pid| process(snapshot, *pid, refusals))
}

/// Checks what belongs to the tree as a whole, likewise.
pub fn tree(snapshot: &Snapshot, joined: &[Join], refusals: &mut Refusals) -> Result<()> {
    namespaces::validate(snapshot, joined, refusals)?;
    files::validate(snapshot)?;
    memory::validate_shared(snapshot)
}

/// Checks what is one process's own, likewise. The snapshot has to hold the process and the files that
/// it uses.
pub fn process(snapshot: &Snapshot, pid: TreePid, refusals: &mut Refusals) -> Result<()> {
    files::validate_process(snapshot, pid)?;
    memory::validate(snapshot, pid, refusals)?;
    task::validate(snapshot, pid)
}
