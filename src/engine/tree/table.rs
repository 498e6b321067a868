//! The table of processes that is to be rebuilt.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::{Error, Kind, Result};
use crate::images::pid::TreePid;
use crate::images::proto::PstreeEntry;
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::objects::pids;

/// One process of the table.
///
/// The numbers are those that the processes get in the engine's pid namespace. They are bare, since
/// planning is arithmetic: helpers get numbers that the table leaves free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its pid.
    pub pid: i32,
    /// Its parent; the root's is outside the table.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// Set if it is dead and not waited for.
    pub zombie: bool,
    /// What it may share with others; a zombie has nothing left to share.
    pub objects: Option<Objects>,
}

/// Ids of what processes can share: equal ids mean the same object. An object with id 0 is not shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objects {
    /// The address space.
    pub vm: u32,
    /// The table of descriptors.
    pub files: u32,
    /// Root, working directory and umask.
    pub fs: u32,
    /// The table of signal actions.
    pub sighand: u32,
}

impl Objects {
    /// Every kind of object with the clone flag that shares it.
    pub fn by_flag(self) -> [(i32, u32, &'static str); 4] {
        [
            (libc::CLONE_VM, self.vm, "address space"),
            (libc::CLONE_FILES, self.files, "table of descriptors"),
            (libc::CLONE_FS, self.fs, "working directory"),
            (libc::CLONE_SIGHAND, self.sighand, "table of signal actions"),
        ]
    }

    /// The clone flags for what two processes share.
    pub fn common(self, other: Self) -> u64 {
        let pairs = self.by_flag().into_iter().zip(other.by_flag());
        pairs.filter(|(a, b)| a.1 == b.1 && a.1 != 0).fold(0, |flags, (a, _)| flags | a.0 as u64)
    }
}

/// The session and process group of the engine, which a shell job joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The engine's session.
    pub sid: i32,
    /// The engine's process group.
    pub pgid: i32,
}

/// The table of the images, in their order.
pub fn nodes(snapshot: &Snapshot) -> Vec<Node> {
    snapshot.tree.iter().map(|entry| node(entry, snapshot.tasks.get(&entry.tree_pid()))).collect()
}

fn node(entry: &PstreeEntry, task: Option<&TaskImage>) -> Node {
    let host = |number| pids::host(TreePid::new(number)).number();
    let ids = task.and_then(|task| task.ids.as_ref().or(task.core.ids.as_ref()));
    Node {
        pid: host(entry.pid),
        ppid: host(entry.ppid),
        pgid: host(entry.pgid),
        sid: host(entry.sid),
        zombie: task.is_some_and(|task| task.core.is_zombie()),
        objects: ids.map(|ids| Objects {
            vm: ids.vm_id,
            files: ids.files_id,
            fs: ids.fs_id,
            sighand: ids.sighand_id,
        }),
    }
}

/// A table that was checked, and in which the outer session is that of the engine.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Parents before children.
    pub order: Vec<i32>,
    pub outer: Outer,
    nodes: HashMap<i32, Node>,
    children: HashMap<i32, Vec<i32>>,
    depth: HashMap<i32, usize>,
}

impl Table {
    pub fn new(nodes: &[Node], outer: Option<Outer>) -> Result<Self> {
        let root = nodes.first().ok_or_else(|| bad("there is no process in it"))?;
        let founded = nodes.iter().any(|node| node.pid == root.pgid);
        let mapped = nodes.iter().map(|node| map_outer(node, root, founded, outer));
        let mut table = Self {
            order: Vec::new(),
            outer: outer.unwrap_or(Outer { sid: 0, pgid: 0 }),
            nodes: HashMap::new(),
            children: HashMap::new(),
            depth: HashMap::new(),
        };
        for node in mapped.collect::<Result<Vec<_>>>()? {
            check_numbers(&node, outer)?;
            table.add(node)?;
        }
        table.check_memberships()?;
        Ok(table)
    }

    fn add(&mut self, node: Node) -> Result<()> {
        if self.nodes.contains_key(&node.pid) {
            return Err(bad(format!("pid {} stands there twice", node.pid)));
        }
        let depth = match self.nodes.get(&node.ppid) {
            None if self.order.is_empty() => 0,
            None => return Err(bad(format!("pid {} has no parent in it", node.pid))),
            Some(parent) if parent.zombie => {
                return Err(bad(format!("pid {} has the dead parent {}", node.pid, node.ppid)));
            }
            Some(_) => self.depth[&node.ppid] + 1,
        };
        self.depth.insert(node.pid, depth);
        if depth > 0 {
            self.children.entry(node.ppid).or_default().push(node.pid);
        }
        self.order.push(node.pid);
        self.nodes.insert(node.pid, node);
        Ok(())
    }

    /// Checks that founders are in their sessions, and that no group is spread over sessions.
    fn check_memberships(&self) -> Result<()> {
        let mut session_of: BTreeMap<i32, i32> = BTreeMap::new();
        for node in self.nodes() {
            let (pid, sid, pgid) = (node.pid, node.sid, node.pgid);
            if node.sid == pid && pgid != pid {
                return Err(bad(format!("session leader {pid} is in process group {pgid}")));
            }
            if self.get(sid).is_some_and(|leader| leader.sid != sid) {
                return Err(bad(format!("pid {pid} is in session {sid}, its founder is not")));
            }
            if self.get(pgid).is_some_and(|leader| leader.sid != sid) {
                return Err(bad(format!("process group {pgid} is spread over sessions")));
            }
            if *session_of.entry(pgid).or_insert(sid) != sid {
                return Err(bad(format!("process group {pgid} is spread over sessions")));
            }
        }
        Ok(())
    }

    pub fn get(&self, pid: i32) -> Option<&Node> {
        self.nodes.get(&pid)
    }

    /// A process that is known to be in the table.
    pub fn node(&self, pid: i32) -> &Node {
        &self.nodes[&pid]
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.order.iter().map(|pid| &self.nodes[pid])
    }

    pub fn root(&self) -> i32 {
        self.order[0]
    }

    pub fn children(&self, pid: i32) -> &[i32] {
        self.children.get(&pid).map_or(&[], Vec::as_slice)
    }

    pub fn depth(&self, pid: i32) -> usize {
        self.depth[&pid]
    }

    pub fn is_session_leader(&self, pid: i32) -> bool {
        self.get(pid).is_some_and(|node| node.sid == pid)
    }

    /// Whether `pid` is `above` or one of its descendants.
    pub fn is_within(&self, mut pid: i32, above: i32) -> bool {
        while pid != above {
            match self.get(pid) {
                Some(node) if pid != self.root() => pid = node.ppid,
                _ => return false,
            }
        }
        true
    }

    /// Every number that the tree occupies while it is built.
    pub fn numbers(&self) -> BTreeSet<i32> {
        self.nodes().flat_map(|node| [node.pid, node.pgid, node.sid]).filter(|id| *id > 0).collect()
    }
}

/// Replaces the session of the root, and its group, by the engine's where the tree did not found them.
fn map_outer(node: &Node, root: &Node, founded: bool, outer: Option<Outer>) -> Result<Node> {
    let mut node = node.clone();
    if root.sid == root.pid || node.sid != root.sid {
        return Ok(node);
    }
    let Some(outer) = outer else {
        let text = format!("pid {}: its session {} lies outside the tree", root.pid, root.sid);
        return Err(Error::new(Kind::Refused, text)
            .remedy("use --shell-job to restore it into the session of the restorer"));
    };
    node.sid = outer.sid;
    if !founded && node.pgid == root.pgid {
        node.pgid = outer.pgid;
    }
    Ok(node)
}

/// The outer session and group are 0 where they lie outside the engine's pid namespace
/// (pid_namespaces(7)).
fn check_numbers(node: &Node, outer: Option<Outer>) -> Result<()> {
    let (sid, pgid) = outer.map_or((None, None), |outer| (Some(outer.sid), Some(outer.pgid)));
    let legal = |number: i32, outer: Option<i32>| number > 0 || outer == Some(number);
    if node.pid > 0 && legal(node.sid, sid) && legal(node.pgid, pgid) {
        return Ok(());
    }
    let Node { pid, pgid, sid, .. } = node;
    Err(bad(format!("pid {pid}, process group {pgid} or session {sid} is no number of a process")))
}

pub(super) fn bad(cause: impl std::fmt::Display) -> Error {
    Error::image("pstree.img", cause)
}
