//! Process groups: they are founded first, and then joined.
//!
//! A group exists as long as it has a member, whoever that is. So where the founder has moved on to
//! another group, it clones a helper that stays; where the founder is dead, a helper gets its number
//! and founds the group in its place.

use std::collections::BTreeSet;

use super::plan::{Planner, Who};
use crate::error::{Error, Kind, Result};

/// Brings all processes into their final groups.
pub(super) fn arrange(planner: &mut Planner<'_>) -> Result<()> {
    let groups: BTreeSet<i32> = planner.table.nodes().map(|node| node.pgid).collect();
    for group in groups {
        if !exists(planner, group) {
            found(planner, group);
        }
    }
    for node in planner.table.nodes() {
        let now = planner.task(node.pid).expect("everybody exists").pgid;
        if now != node.pgid {
            if node.pgid == 0 {
                return Err(cannot_return(node.pid));
            }
            planner.set_group(Who::Task(node.pid), node.pgid);
        }
    }
    Ok(())
}

/// setpgid(2) takes 0 for the caller's own group, so a group without a number cannot be entered.
fn cannot_return(pid: i32) -> Error {
    let text = format!(
        "pid {pid}: it left the restorer's process group and returned, but that group has no number \
         in this pid namespace"
    );
    Error::new(Kind::Refused, text).remedy("start the restore under setsid(1)")
}

/// Whether a group exists and will stay: it is the engine's own, or its founder or the helper in the
/// founder's place is in it. Other members may still move on.
fn exists(planner: &Planner<'_>, group: i32) -> bool {
    group == planner.table.outer.pgid
        || planner.alive.values().any(|alive| alive.pid == Some(group) && alive.pgid == group)
}

fn found(planner: &mut Planner<'_>, group: i32) {
    match planner.table.get(group) {
        Some(founder) => {
            let who = Who::Task(group);
            planner.set_group(who, group);
            if founder.pgid != group {
                let holder = planner.new_helper();
                planner.clone(who, holder, None, 0);
            }
        }
        None => {
            let member = planner.table.nodes().find(|node| node.pgid == group);
            let member = Who::Task(member.expect("groups are those of members").pid);
            let helper = planner.new_helper();
            planner.clone(member, helper, Some(group), 0);
            planner.set_group(helper, group);
        }
    }
}
