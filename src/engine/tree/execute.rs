//! The executor: it has blanks take the steps of a plan.

use std::collections::{BTreeMap, HashMap};

use super::plan::{Op, Plan, Who};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::tracee::batch::{Batch, CallId, Outcome};
use crate::tracee::blank::{Blank, CloneCall, CloneSpec};

/// Called before a clone: who clones, its blank, and who will be born.
pub type OnClone<'a> = dyn FnMut(Who, &mut Blank, Who) -> Result<()> + 'a;

/// A tree of blanks. Dropping it kills them, children first, each waited for by its parent.
#[derive(Debug, Default)]
pub struct Tree {
    tasks: BTreeMap<HostPid, Blank>,
    /// Every process with its parent, parents first.
    order: Vec<(HostPid, HostPid)>,
}

impl Tree {
    /// Makes the processes of a plan; `root` is a blank with the pid of the plan's root.
    ///
    /// `on_clone` is called before a process clones another: a child is born with what its creator has
    /// in memory then. Processes that will be zombies are alive in the end: see [`bury`](Self::bury).
    pub fn build(root: Blank, plan: &Plan, on_clone: &mut OnClone<'_>) -> Result<Self> {
        if root.pid().number() != plan.root {
            let text = format!("the root is pid {}, not {}", plan.root, root.pid());
            return Err(Error::new(Kind::Internal, text));
        }
        let host = |(pid, parent): &(i32, i32)| (HostPid::new(*pid), HostPid::new(*parent));
        let order = plan.order.iter().map(host).collect();
        let tree = Self { tasks: BTreeMap::from([(root.pid(), root)]), order };
        let mut work = Work { tree, helpers: HashMap::new(), plan };
        work.live(&plan.ops, on_clone)?;
        Ok(work.tree)
    }

    /// The blank with this pid.
    pub fn get_mut(&mut self, pid: HostPid) -> Result<&mut Blank> {
        self.tasks.get_mut(&pid).ok_or_else(|| {
            Error::new(Kind::Internal, format!("pid {pid} is not in the tree of blanks"))
        })
    }

    /// All blanks by pid.
    pub fn blanks(&mut self) -> &mut BTreeMap<HostPid, Blank> {
        &mut self.tasks
    }

    /// Makes these processes inherit orphans. This comes last, or they would inherit the children of
    /// helpers.
    pub fn set_subreapers(&mut self, pids: &[HostPid]) -> Result<()> {
        for pid in pids {
            let mut batch = Batch::new();
            let args = args![libc::PR_SET_CHILD_SUBREAPER, 1];
            batch.must("become a subreaper", libc::SYS_prctl, args);
            self.get_mut(*pid)?.run(batch).doing(|| format!("pid {pid}"))?;
        }
        Ok(())
    }

    /// Ends the processes that are zombies in the images, with these wait statuses. Their parents must
    /// not ignore SIGCHLD yet; the signal that tells them is taken away from them.
    ///
    /// Returns the zombies whose status lacks the core dump flag that it should have.
    pub fn bury(&mut self, zombies: &[(HostPid, i32)]) -> Result<Vec<HostPid>> {
        let mut different = Vec::new();
        for (pid, status) in zombies {
            let Some(blank) = self.tasks.remove(pid) else {
                return Err(Error::new(Kind::Internal, format!("zombie {pid} was never made")));
            };
            if blank.into_zombie(*status).doing(|| format!("zombie {pid}"))? != *status {
                different.push(*pid);
            }
        }
        let is_buried = |pid: HostPid| zombies.iter().any(|zombie| zombie.0 == pid);
        let parents = self.order.iter().filter(|entry| is_buried(entry.0)).map(|entry| entry.1);
        for parent in parents.collect::<std::collections::BTreeSet<_>>() {
            if let Some(blank) = self.tasks.get_mut(&parent) {
                blank.flush_sigchld()?;
            }
        }
        Ok(different)
    }

    /// Takes the blanks out, children before parents: the order in which to let them go.
    pub fn into_blanks(mut self) -> Vec<Blank> {
        let mut tasks = std::mem::take(&mut self.tasks);
        self.order.iter().rev().filter_map(|(pid, _)| tasks.remove(pid)).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for (pid, parent) in std::mem::take(&mut self.order).into_iter().rev() {
            let was_here = self.tasks.remove(&pid).is_some();
            if let (true, Some(parent)) = (was_here, self.tasks.get_mut(&parent)) {
                // The tree is dropped for an error, which is the one to report.
                let _ = parent.reap_child(pid);
            }
        }
    }
}

struct Work<'p> {
    tree: Tree,
    helpers: HashMap<u32, Blank>,
    plan: &'p Plan,
}

/// A step of a batch, to look at its result afterwards.
enum Call {
    Clone { who: Who, call: CloneCall },
    Plain { what: String, call: CallId },
}

impl Work<'_> {
    /// Takes the steps; those that one process takes in a row are one batch.
    fn live(&mut self, ops: &[Op], on_clone: &mut OnClone<'_>) -> Result<()> {
        let mut rest = ops;
        while let Some(first) = rest.first() {
            if let Op::Exit { who, parent } = first {
                self.exit(*who, *parent)?;
                rest = &rest[1..];
                continue;
            }
            let (some, others) = rest.split_at(batch_len(rest));
            for op in some {
                if let Op::Clone { by, who, .. } = op {
                    on_clone(*by, self.blank(*by)?, *who)?;
                }
            }
            self.run_batch(actor(first), some)?;
            rest = others;
        }
        Ok(())
    }

    fn run_batch(&mut self, by: Who, ops: &[Op]) -> Result<()> {
        let mut batch = Batch::new();
        let calls: Vec<Call> = ops.iter().map(|op| add(&mut batch, op)).collect();
        let actor = self.blank(by)?;
        let pid = actor.pid();
        let outcome = actor.run(batch).doing(|| format!("pid {pid}"))?;
        // Every process that was born is taken over before a failure is reported.
        let mut born = Vec::new();
        let mut failure = None;
        for call in calls {
            if let Err(error) = settle(actor, &outcome, call, &mut born) {
                failure = failure.or(Some(error.context(format!("pid {pid}"))));
            }
        }
        for (who, blank) in born {
            self.insert(who, blank);
        }
        if let Some(error) = failure {
            return Err(error);
        }
        self.replace_clashing_helper(by, ops)
    }

    /// Replaces a helper whose pid the kernel chose, if it is a number that the table needs.
    fn replace_clashing_helper(&mut self, by: Who, ops: &[Op]) -> Result<()> {
        let Some(Op::Clone { who: Who::Helper(id), pid: None, flags, .. }) = ops.last() else {
            return Ok(());
        };
        while self
            .helpers
            .get(id)
            .is_some_and(|blank| self.plan.numbers.contains(&blank.pid().number()))
        {
            let spec = CloneSpec { flags: *flags, ..CloneSpec::new(None) };
            let other = self.blank(by)?.clone_process(&spec)?;
            // It lived until its successor was born, so that the number was not given out again.
            let clashing = self.helpers.insert(*id, other);
            if let Some(clashing) = clashing {
                self.end(clashing, by)?;
            }
        }
        Ok(())
    }

    fn exit(&mut self, who: Who, parent: Who) -> Result<()> {
        let Who::Helper(id) = who else {
            return Err(Error::new(Kind::Internal, format!("the plan lets {who:?} exit")));
        };
        match self.helpers.remove(&id) {
            Some(helper) => self.end(helper, parent),
            None => Err(Error::new(Kind::Internal, format!("helper {id} does not exist"))),
        }
    }

    /// Ends a helper. Its tracer, the engine, has to wait for it first: until then the kernel hides the
    /// death from the parent.
    fn end(&mut self, helper: Blank, parent: Who) -> Result<()> {
        let pid = helper.pid();
        helper.into_zombie(0)?;
        self.blank(parent)?.reap_child(pid)
    }

    fn blank(&mut self, who: Who) -> Result<&mut Blank> {
        match who {
            Who::Task(pid) => self.tree.get_mut(HostPid::new(pid)),
            Who::Helper(id) => self
                .helpers
                .get_mut(&id)
                .ok_or_else(|| Error::new(Kind::Internal, format!("helper {id} does not exist"))),
        }
    }

    fn insert(&mut self, who: Who, blank: Blank) {
        match who {
            Who::Task(pid) => drop(self.tree.tasks.insert(HostPid::new(pid), blank)),
            Who::Helper(id) => drop(self.helpers.insert(id, blank)),
        }
    }
}

fn actor(op: &Op) -> Who {
    match op {
        Op::Clone { by, .. } => *by,
        Op::Setsid { who }
        | Op::SetGroup { who, .. }
        | Op::Subreaper { who, .. }
        | Op::Exit { who, .. } => *who,
    }
}

/// How many of the next steps can be one batch. All are taken by one process. The batch ends behind a
/// clone whose pid must be looked at, and where another step follows a clone: that clone may have to be
/// repeated, and must inherit the same then.
fn batch_len(ops: &[Op]) -> usize {
    /// Far below what the smallest helper area holds.
    const MAX: usize = 64;
    let by = actor(&ops[0]);
    let same = |op: &&Op| actor(op) == by && !matches!(op, Op::Exit { .. });
    let len = ops.iter().take(MAX).take_while(same).count();
    let is_clone = |op: &Op| matches!(op, Op::Clone { .. });
    let is_free = |op: &Op| matches!(op, Op::Clone { pid: None, .. });
    let ends = |pair: &[Op]| is_free(&pair[0]) || is_clone(&pair[0]) && !is_clone(&pair[1]);
    ops[..len].windows(2).position(ends).map_or(len, |at| at + 1)
}

fn add(batch: &mut Batch, op: &Op) -> Call {
    match *op {
        Op::Clone { who, pid, flags, .. } => {
            let sibling = flags & libc::CLONE_PARENT as u64 != 0;
            let exit_signal = if sibling { 0 } else { libc::SIGCHLD };
            let spec = CloneSpec { pid: pid.map(HostPid::new), flags, exit_signal };
            Call::Clone { who, call: Blank::add_clone(batch, &spec) }
        }
        Op::Setsid { .. } => {
            let call = batch.call(libc::SYS_setsid, args![]);
            Call::Plain { what: "found a session".to_owned(), call }
        }
        Op::SetGroup { group, .. } => {
            let call = batch.call(libc::SYS_setpgid, args![0, group]);
            Call::Plain { what: format!("enter process group {group}"), call }
        }
        Op::Subreaper { on, .. } => {
            let args = args![libc::PR_SET_CHILD_SUBREAPER, i32::from(on)];
            let call = batch.call(libc::SYS_prctl, args);
            Call::Plain { what: "set whether to take orphans".to_owned(), call }
        }
        Op::Exit { .. } => unreachable!("exits are not batched"),
    }
}

fn settle(
    actor: &mut Blank,
    outcome: &Outcome,
    call: Call,
    born: &mut Vec<(Who, Blank)>,
) -> Result<()> {
    match call {
        Call::Clone { who, call } => born.push((who, actor.adopt(outcome, call)?)),
        Call::Plain { what, call } => drop(outcome.ret(call).doing(|| what)?),
    }
    Ok(())
}
