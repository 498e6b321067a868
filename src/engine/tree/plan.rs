//! The planner: from a table of processes to a list of steps.

use std::collections::{BTreeMap, BTreeSet};

use super::births::{Births, births};
use super::table::{Node, Outer, Table, bad};
use super::{groups, sharing};
use crate::error::Result;

/// A process of the table, or a helper that lives only during the construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The process with this pid in the table.
    Task(i32),
    /// A helper, by its number in the plan.
    Helper(u32),
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `by` clones `who`, with a certain pid or, for some helpers, any that the table leaves free.
    Clone { by: Who, who: Who, pid: Option<i32>, flags: u64 },
    /// `who` founds a session.
    Setsid { who: Who },
    /// `who` enters a process group; 0 founds its own.
    SetGroup { who: Who, group: i32 },
    /// `who` begins, or ceases, to inherit orphans among its descendants.
    Subreaper { who: Who, on: bool },
    /// The helper `who` dies and `parent` waits for it.
    Exit { who: Who, parent: Who },
}

/// How to rebuild a table.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The root, which has to exist as a blank before the first step.
    pub root: i32,
    /// The steps, in order.
    pub ops: Vec<Op>,
    /// Numbers that helpers must not get for which the kernel chooses a pid.
    pub numbers: BTreeSet<i32>,
    /// Every process with its parent, parents first.
    pub order: Vec<(i32, i32)>,
}

/// Plans how to rebuild the table `nodes`, whose first entry is the root.
///
/// `outer` is the session and group for a root that founded no session; without it, such a table is
/// refused.
pub fn plan(nodes: &[Node], outer: Option<Outer>) -> Result<Plan> {
    let table = Table::new(nodes, outer)?;
    let mut first_error = None;
    for births in births(&table) {
        match Planner::new(&table, births).run() {
            Ok(ops) => return Ok(finished(&table, ops)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| bad("no order of events leads to it")))
}

fn finished(table: &Table, ops: Vec<Op>) -> Plan {
    let order = table.nodes().map(|node| (node.pid, node.ppid)).collect();
    Plan { root: table.root(), ops, numbers: table.numbers(), order }
}

/// What the planner knows of a process that exists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alive {
    pub pid: Option<i32>,
    pub parent: Option<Who>,
    pub sid: i32,
    pub pgid: i32,
}

pub(super) struct Planner<'t> {
    pub table: &'t Table,
    births: Births,
    pub alive: BTreeMap<Who, Alive>,
    pub ops: Vec<Op>,
    /// Helpers that still live, in the order of their birth.
    pub helpers: Vec<Who>,
    next_helper: u32,
    /// Who cloned each process of the table: what it shares is checked by this.
    pub creators: BTreeMap<i32, Who>,
}

impl<'t> Planner<'t> {
    fn new(table: &'t Table, births: Births) -> Self {
        let root = table.root();
        let outer = table.outer;
        let alive = Alive { pid: Some(root), parent: None, sid: outer.sid, pgid: outer.pgid };
        Self {
            table,
            births,
            alive: BTreeMap::from([(Who::Task(root), alive)]),
            ops: Vec::new(),
            helpers: Vec::new(),
            next_helper: 0,
            creators: BTreeMap::new(),
        }
    }

    fn run(mut self) -> Result<Vec<Op>> {
        self.create_all()?;
        sharing::check(self.table, &self.creators)?;
        groups::arrange(&mut self)?;
        for helper in std::mem::take(&mut self.helpers).into_iter().rev() {
            self.exit(helper);
        }
        Ok(self.ops)
    }

    /// Advances all processes in rounds until each exists and is in its session.
    fn create_all(&mut self) -> Result<()> {
        loop {
            let before = self.ops.len();
            let table = self.table;
            for pid in &table.order {
                self.advance(*pid);
            }
            if self.is_complete() {
                return Ok(());
            }
            if self.ops.len() == before && !self.make_phantom() {
                return Err(bad("no order of events leads to these sessions and parents"));
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.table
            .nodes()
            .all(|node| self.task(node.pid).is_some_and(|alive| alive.sid == node.sid))
    }

    /// Clones those children of `pid`, and founds its session, as far as that is possible now.
    fn advance(&mut self, pid: i32) {
        if self.task(pid).is_none() {
            return;
        }
        let table = self.table;
        for child in table.children(pid) {
            if self.task(*child).is_none() {
                self.try_create(pid, *child);
            }
        }
        let waits =
            |child: &i32| self.births[child] == self.births[&pid] && self.task(*child).is_none();
        let founded = self.task(pid).is_some_and(|alive| alive.sid == pid);
        if self.table.is_session_leader(pid)
            && !founded
            && !self.table.children(pid).iter().any(waits)
        {
            self.setsid(Who::Task(pid));
        }
    }

    fn try_create(&mut self, parent: i32, child: i32) {
        let sid = self.births[&child];
        if self.is_plain(parent, child) {
            if self.task(parent).is_some_and(|alive| alive.sid == sid) {
                self.create_plain(parent, child);
            }
        } else if let Some(creator) = self.member_below(parent, sid, child) {
            self.create_by_adoption(parent, child, creator);
        }
    }

    /// Whether the parent itself is at some time in the session that the child is born in.
    fn is_plain(&self, parent: i32, child: i32) -> bool {
        let sid = self.births[&child];
        sid == self.births[&parent] || sid == self.table.node(parent).sid
    }

    /// Has the parent clone the child, or a sibling that shares more with the child.
    fn create_plain(&mut self, parent: i32, child: i32) {
        let shared = |pid: i32| sharing::flags(self.table, pid, child);
        let sid = self.births[&child];
        let is_sibling = |pid: &&i32| self.task(**pid).is_some_and(|alive| alive.sid == sid);
        let best = self
            .table
            .children(parent)
            .iter()
            .filter(is_sibling)
            .max_by_key(|pid| shared(**pid).count_ones())
            .filter(|pid| shared(**pid).count_ones() > shared(parent).count_ones());
        let (by, flags) = match best {
            Some(sibling) => (*sibling, shared(*sibling) | libc::CLONE_PARENT as u64),
            None => (parent, shared(parent)),
        };
        self.creators.insert(child, Who::Task(by));
        self.clone(Who::Task(by), Who::Task(child), Some(child), flags);
    }

    /// A living descendant of `parent` that is in session `sid` now. If there are several, it is the one
    /// that shares most with `child`.
    fn member_below(&self, parent: i32, sid: i32, child: i32) -> Option<Who> {
        let shared = |who: &Who| match who {
            Who::Task(pid) => sharing::flags(self.table, *pid, child).count_ones(),
            Who::Helper(_) => 0,
        };
        self.alive
            .iter()
            .filter(|(who, alive)| alive.sid == sid && self.is_below(**who, Who::Task(parent)))
            .map(|(who, _)| *who)
            .max_by_key(shared)
    }

    fn is_below(&self, who: Who, above: Who) -> bool {
        let mut at = self.alive[&who].parent;
        while let Some(parent) = at {
            if parent == above {
                return true;
            }
            at = self.alive[&parent].parent;
        }
        false
    }

    /// `creator` clones a helper, and the helper clones the child and dies. The orphan goes to the
    /// nearest ancestor that inherits orphans, which for this moment is its parent.
    fn create_by_adoption(&mut self, parent: i32, child: i32, creator: Who) {
        let flags = match creator {
            Who::Task(pid) => sharing::flags(self.table, pid, child),
            Who::Helper(_) => 0,
        };
        let helper = self.new_helper();
        self.creators.insert(child, creator);
        self.clone(creator, helper, None, flags);
        self.clone(helper, Who::Task(child), Some(child), flags);
        let parent = Who::Task(parent);
        self.ops.push(Op::Subreaper { who: parent, on: true });
        self.helpers.pop();
        self.exit(helper);
        self.ops.push(Op::Subreaper { who: parent, on: false });
        self.task_mut(child).parent = Some(parent);
    }

    /// Makes a helper that founds a session in place of its dead founder, since processes have to be
    /// born in it. It is a child of the deepest process that has such processes for children. False if
    /// there is none.
    fn make_phantom(&mut self) -> bool {
        let needs = |parent: i32| {
            let missing = |child: &&i32| {
                let sid = self.births[*child];
                self.task(**child).is_none()
                    && !self.is_plain(parent, **child)
                    && self.table.get(sid).is_none()
                    && self.alive.values().all(|alive| alive.sid != sid)
            };
            self.table.children(parent).iter().find(missing).map(|child| self.births[child])
        };
        let deepest = self
            .table
            .order
            .iter()
            .filter(|pid| self.task(**pid).is_some())
            .filter_map(|pid| Some((*pid, needs(*pid)?)))
            .max_by_key(|(pid, _)| self.table.depth(*pid));
        let Some((parent, sid)) = deepest else { return false };
        let phantom = self.new_helper();
        self.clone(Who::Task(parent), phantom, Some(sid), 0);
        self.setsid(phantom);
        true
    }

    pub fn task(&self, pid: i32) -> Option<&Alive> {
        self.alive.get(&Who::Task(pid))
    }

    fn task_mut(&mut self, pid: i32) -> &mut Alive {
        self.alive.get_mut(&Who::Task(pid)).expect("it was created just now")
    }

    pub fn new_helper(&mut self) -> Who {
        self.next_helper += 1;
        let helper = Who::Helper(self.next_helper);
        self.helpers.push(helper);
        helper
    }

    pub fn clone(&mut self, by: Who, who: Who, pid: Option<i32>, flags: u64) {
        let Alive { sid, pgid, parent, .. } = self.alive[&by];
        let sibling = flags & libc::CLONE_PARENT as u64 != 0;
        let parent = if sibling { parent } else { Some(by) };
        self.alive.insert(who, Alive { pid, parent, sid, pgid });
        self.ops.push(Op::Clone { by, who, pid, flags });
    }

    fn setsid(&mut self, who: Who) {
        let alive = self.alive.get_mut(&who).expect("only the living found sessions");
        let pid = alive.pid.expect("founders have a certain pid");
        (alive.sid, alive.pgid) = (pid, pid);
        self.ops.push(Op::Setsid { who });
    }

    pub fn set_group(&mut self, who: Who, group: i32) {
        let alive = self.alive.get_mut(&who).expect("only the living enter groups");
        alive.pgid = group;
        let group = if alive.pid == Some(group) { 0 } else { group };
        self.ops.push(Op::SetGroup { who, group });
    }

    fn exit(&mut self, who: Who) {
        let gone = self.alive.remove(&who).expect("only the living die");
        let parent = gone.parent.expect("helpers have parents");
        self.ops.push(Op::Exit { who, parent });
    }
}
