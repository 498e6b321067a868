//! Identity of what tasks share: address spaces, descriptor tables, signal actions, namespaces.
//!
//! It is settled once for the whole tree. kcmp compares objects and also orders them, so that each new
//! one is found by bisection; namespaces are told apart by their inodes.

use std::cmp::Ordering;

use crate::error::{Context, Refusals, Result};
use crate::images::proto::TaskKobjIdsEntry;
use crate::kernel::kcmp::{self, Kcmp};
use crate::kernel::pid::HostPid;
use crate::objects::namespaces;
use crate::tracee::dumpee::FrozenTask;

/// Objects of one kind, in kcmp's order.
#[derive(Debug)]
struct Identities {
    what: Kcmp,
    /// A pid that has the object, and the object's id.
    known: Vec<(HostPid, u32)>,
    last: u32,
}

impl Identities {
    fn new(what: Kcmp) -> Self {
        // CRIU gives the first number to its own process; images show tasks from 2 on.
        Self { what, known: Vec::new(), last: 1 }
    }

    /// The id of what `pid` has, and who was seen with it before.
    fn identify(&mut self, pid: HostPid) -> Result<(u32, Option<HostPid>)> {
        match kcmp::search(&self.known, |(other, _)| compare(*other, pid, self.what))? {
            Ok(found) => {
                let (other, id) = self.known[found];
                Ok((id, Some(other)))
            }
            Err(place) => {
                self.last += 1;
                self.known.insert(place, (pid, self.last));
                Ok((self.last, None))
            }
        }
    }
}

fn compare(pid: HostPid, other: HostPid, what: Kcmp) -> Result<Ordering> {
    kcmp::compare(pid, other, what, 0, 0)
        .doing(|| format!("kcmp {what:?} of pids {pid} and {other}"))
}

/// All identities of a tree.
#[derive(Debug)]
pub struct SharedIds {
    vm: Identities,
    files: Identities,
    fs: Identities,
    sighand: Identities,
    namespaces: namespaces::Ids,
}

impl SharedIds {
    /// The engine's own namespaces are numbered first: they are the `root_ids` of the inventory.
    pub fn new() -> Result<Self> {
        Ok(Self {
            vm: Identities::new(Kcmp::Vm),
            files: Identities::new(Kcmp::Files),
            fs: Identities::new(Kcmp::Fs),
            sighand: Identities::new(Kcmp::Sighand),
            namespaces: namespaces::Ids::of_engine()?,
        })
    }

    /// The ids of the engine itself.
    pub fn root_ids(&self) -> TaskKobjIdsEntry {
        let mut ids = TaskKobjIdsEntry {
            vm_id: 1,
            files_id: 1,
            fs_id: 1,
            sighand_id: 1,
            ..Default::default()
        };
        self.namespaces.fill_engine(&mut ids);
        ids
    }

    /// The ids of one task. Sharing that images cannot express is refused.
    pub fn identify(
        &mut self,
        task: &FrozenTask,
        refusals: &mut Refusals,
    ) -> Result<TaskKobjIdsEntry> {
        let pid = task.pid;
        let (vm_id, vm_with) = self.vm.identify(pid)?;
        let (sighand_id, sighand_with) = self.sighand.identify(pid)?;
        for (what, with) in [("address space", vm_with), ("signal actions", sighand_with)] {
            let Some(with) = with else { continue };
            refusals.refuse(
                format!("pid {pid}"),
                what,
                format!("is shared with the process {with} (clone without CLONE_THREAD)"),
                "",
            );
        }
        let mut ids = TaskKobjIdsEntry {
            vm_id,
            files_id: self.files.identify(pid)?.0,
            fs_id: self.fs.identify(pid)?.0,
            sighand_id,
            ..Default::default()
        };
        check_threads(task, refusals)?;
        self.namespaces.identify(pid, &mut ids, refusals)?;
        Ok(ids)
    }
}

/// Refuses threads that have a descriptor table or a working directory of their own: the image format
/// has one of each per process.
fn check_threads(task: &FrozenTask, refusals: &mut Refusals) -> Result<()> {
    for thread in &task.threads[1..] {
        for (what, name) in [(Kcmp::Files, "descriptor table"), (Kcmp::Fs, "working directory")] {
            if compare(task.pid, thread.tid, what)?.is_ne() {
                refusals.refuse(
                    format!("pid {} thread {}", task.pid, thread.tid),
                    name,
                    "the thread has its own (unshare), which images cannot say",
                    "",
                );
            }
        }
    }
    Ok(())
}
