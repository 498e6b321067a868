//! Tables and address spaces that processes share.
//!
//! An object can be shared only from the clone on. The planner has a process cloned by its parent, by
//! a sibling, or by a member of its session. Processes that share something, and are connected by none
//! of these, are refused.

use std::collections::BTreeMap;

use super::plan::Who;
use super::table::Table;
use crate::error::{Refusals, Result};

/// The clone flags for what two processes of the table share.
pub(super) fn flags(table: &Table, a: i32, b: i32) -> u64 {
    match (table.node(a).objects, table.node(b).objects) {
        (Some(a), Some(b)) => a.common(b),
        _ => 0,
    }
}

/// Refuses every process that shares something with another one, but not with the one that clones it.
pub(super) fn check(table: &Table, creators: &BTreeMap<i32, Who>) -> Result<()> {
    let mut refusals = Refusals::default();
    // The first process that has an object need not share it with the one that clones it.
    for kind in 0..4 {
        let mut heads: BTreeMap<u32, i32> = BTreeMap::new();
        for node in table.nodes() {
            let Some(objects) = node.objects else { continue };
            let (flag, id, what) = objects.by_flag()[kind];
            let cloned_with_it = matches!(creators.get(&node.pid),
                Some(Who::Task(by)) if flags(table, *by, node.pid) & flag as u64 != 0);
            if cloned_with_it || id == 0 {
                continue;
            }
            if let Some(other) = heads.insert(id, node.pid) {
                refusals.refuse(
                    format!("pid {}", node.pid),
                    format!("{what} shared with pid {other}"),
                    "neither its parent nor a sibling shares it, so it cannot be inherited",
                    "",
                );
            }
        }
    }
    check_signal_actions(table, creators, &mut refusals);
    refusals.check()
}

/// The kernel shares signal actions only within an address space.
fn check_signal_actions(table: &Table, creators: &BTreeMap<i32, Who>, refusals: &mut Refusals) {
    for (pid, creator) in creators {
        let Who::Task(by) = creator else { continue };
        let shared = flags(table, *by, *pid);
        let has = |flag: i32| shared & flag as u64 != 0;
        if has(libc::CLONE_SIGHAND) && !has(libc::CLONE_VM) {
            refusals.refuse(
                format!("pid {pid}"),
                format!("table of signal actions shared with pid {by}"),
                "they do not share their address space, which the kernel demands",
                "",
            );
        }
    }
}
