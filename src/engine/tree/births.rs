//! The session that each process was born in, or could have been born in.
//!
//! A process that founded no session was born in the one it is in. A founder was born in another one;
//! only children that it had before it founded its own can show which.

use std::collections::{BTreeSet, HashMap};

use super::table::Table;

/// The session of each process at its birth.
pub(super) type Births = HashMap<i32, i32>;

/// Possible births of the whole table, the likeliest first.
///
/// There is more than one only if several dead sessions have members both among the children of a
/// founder and elsewhere.
pub(super) fn births(table: &Table) -> Vec<Births> {
    /// Enough to find the right one; a table that needs more is not one that a kernel made.
    const MAX: usize = 64;
    let mut order = table.order.clone();
    order.sort_by_key(|pid| std::cmp::Reverse(table.depth(*pid)));
    let mut all = vec![Births::new()];
    for pid in order {
        let mut variants = Vec::new();
        for births in &mut all {
            let mut possible = candidates(table, births, pid).into_iter();
            let likeliest = possible.next().expect("every process was born somewhere");
            variants.extend(possible.map(|sid| {
                let mut other = births.clone();
                other.insert(pid, sid);
                other
            }));
            births.insert(pid, likeliest);
        }
        all.extend(variants);
        all.truncate(MAX);
    }
    all
}

/// The sessions that `pid` may have been born in; those of its children are known.
fn candidates(table: &Table, births: &Births, pid: i32) -> Vec<i32> {
    let node = table.node(pid);
    if node.sid != pid {
        return vec![node.sid];
    }
    let inherited: BTreeSet<i32> =
        table.children(pid).iter().map(|child| births[child]).filter(|sid| *sid != pid).collect();
    // A living founder that is not below: its session can only have come from above.
    let from_above = |sid: &&i32| table.get(**sid).is_some() && !table.is_within(**sid, pid);
    if let Some(sid) = inherited.iter().find(from_above) {
        return vec![*sid];
    }
    let mut possible: Vec<i32> = Vec::new();
    let outer = table.outer.sid;
    possible.extend(inherited.get(&outer).filter(|_| table.get(outer).is_none()));
    let dead = |sid: &&i32| table.get(**sid).is_none() && **sid != outer;
    possible.extend(
        inherited.iter().filter(dead).filter(|sid| has_members_elsewhere(table, **sid, pid)),
    );
    possible.push(free_birth(table, pid));
    possible
}

fn has_members_elsewhere(table: &Table, sid: i32, pid: i32) -> bool {
    table.nodes().any(|other| other.sid == sid && !table.is_within(other.pid, pid))
}

/// A birth for a founder of which nothing is known: the session that its parent ends in will do.
fn free_birth(table: &Table, pid: i32) -> i32 {
    if pid == table.root() { table.outer.sid } else { table.node(table.node(pid).ppid).sid }
}
