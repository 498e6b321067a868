//! Control groups. None is carried: a restored task is in the group of whoever restores it.
//!
//! A caller who asks for more (`--manage-cgroups` and its like) has it of a tree that is in the
//! group of who dumps it, as CRIU stores nothing of those either. A tree in other groups is refused,
//! and so are the images of such a tree.

use crate::error::{Context, Refusals, Result};
use crate::images::proto::CoreEntry;
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::proc;

const REASON: &str = "control groups are not carried";
const REMEDY: &str =
    "with --manage-cgroups=ignore the restored tasks are in the control group of who restores them";

/// Refuses threads, by pid and tid, that are in another control group than this process.
pub fn check(
    threads: impl IntoIterator<Item = (HostPid, HostPid)>,
    refusals: &mut Refusals,
) -> Result<()> {
    let own = groups("/proc/self/cgroup")?;
    for (pid, tid) in threads {
        let theirs = groups(&format!("/proc/{pid}/task/{tid}/cgroup"))?;
        let other: Vec<&str> =
            theirs.lines().filter(|line| !own.lines().any(|o| o == *line)).collect();
        if !other.is_empty() {
            let place =
                if pid == tid { format!("pid {pid}") } else { format!("pid {pid} thread {tid}") };
            refusals.refuse(place, format!("control group {}", other.join(" ")), REASON, REMEDY);
        }
    }
    Ok(())
}

/// A line for each hierarchy; none where the kernel has no control groups.
fn groups(path: &str) -> Result<String> {
    match proc::text(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.doing(|| format!("read {path}")),
    }
}

/// Refuses images of tasks that were in another control group than who dumped them.
pub fn validate(snapshot: &Snapshot, refusals: &mut Refusals) {
    let engine = snapshot.inventory.root_cg_set();
    for (pid, task) in &snapshot.tasks {
        let threads = task.threads.iter().map(|(_, core)| core);
        let mut sets = std::iter::once(&task.core).chain(threads).flat_map(sets_of);
        // Zombies have none.
        if sets.any(|set| set != 0 && set != engine) {
            refusals.refuse(format!("pid {pid}"), "control group of its own", REASON, REMEDY);
        }
    }
}

fn sets_of(core: &CoreEntry) -> impl Iterator<Item = u32> + use<> {
    let of_thread = core.thread_core.as_ref().and_then(|thread| thread.cg_set);
    let of_process = core.tc.as_ref().and_then(|process| process.cg_set);
    of_thread.into_iter().chain(of_process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::pid::TreePid;
    use crate::images::proto::{InventoryEntry, ThreadCoreEntry};
    use crate::images::snapshot::TaskImage;

    #[test]
    fn a_task_in_the_own_group_passes() {
        let mut refusals = Refusals::default();
        let me = HostPid::own();
        check([(me, me)], &mut refusals).unwrap();
        assert!(refusals.is_empty());
    }

    #[test]
    fn images_of_a_task_in_another_set_are_refused() {
        let inventory = InventoryEntry { root_cg_set: Some(1), ..Default::default() };
        let mut snapshot = Snapshot { inventory, ..Default::default() };
        let image = |set| {
            let thread = ThreadCoreEntry { cg_set: set, ..Default::default() };
            let core = CoreEntry { thread_core: Some(thread), ..Default::default() };
            TaskImage { core, ..Default::default() }
        };
        snapshot
            .tasks
            .extend([(5, Some(1)), (6, None)].map(|(pid, set)| (TreePid::new(pid), image(set))));
        let mut refusals = Refusals::default();
        validate(&snapshot, &mut refusals);
        assert!(refusals.is_empty());
        snapshot.tasks.insert(TreePid::new(7), image(Some(2)));
        validate(&snapshot, &mut refusals);
        let text = refusals.check().unwrap_err().to_string();
        assert!(text.starts_with("pid 7: control group of its own: "), "{text}");
    }
}
