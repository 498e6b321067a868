//! The namespaces of a tree as values.

use super::{KINDS, NamespaceKind};
use crate::images::pid::TreePid;
use crate::images::proto::PstreeEntry;
use crate::images::proto::TaskKobjIdsEntry;
use crate::images::snapshot::Snapshot;

/// A namespace that tasks of a tree are in.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// What it is a namespace of.
    pub kind: &'static NamespaceKind,
    /// Its number in the images.
    pub id: u32,
    /// Whether the engine that dumped the tree was in it, too.
    pub is_engines: bool,
    /// The number of the user namespace that has power over it. Images do not say which that is: it
    /// is taken to be the one of the first member.
    pub owner: u32,
    /// The number of the namespace in which it was made, where namespaces of the kind stand in one
    /// another. None for the engine's: what is around that cannot be seen.
    pub parent: Option<u32>,
    /// The tasks in it, parents first.
    pub members: Vec<TreePid>,
}

/// All namespaces of a tree.
#[derive(Debug, Default)]
pub struct Spaces(Vec<Space>);

impl Spaces {
    /// Those of a tree whose tasks and whose engine have their ids.
    pub fn of(snapshot: &Snapshot) -> Self {
        let engine = snapshot.inventory.root_ids.unwrap_or_default();
        let mut spaces = Self::default();
        for kind in KINDS {
            for pid in snapshot.tree.iter().map(PstreeEntry::tree_pid) {
                if let Some(ids) = snapshot.tasks.get(&pid).and_then(|task| task.ids) {
                    spaces.add(kind, pid, ids, engine);
                }
            }
        }
        spaces
    }

    fn add(
        &mut self,
        kind: &'static NamespaceKind,
        pid: TreePid,
        ids: TaskKobjIdsEntry,
        engine: TaskKobjIdsEntry,
    ) {
        // An image without the field is older than the kind: there was only the engine's.
        let engines_id = kind.id_in(engine).unwrap_or(0);
        let id = kind.id_in(ids).unwrap_or(engines_id);
        let known = self.0.iter_mut().find(|space| space.kind == kind && space.id == id);
        if let Some(space) = known {
            return space.members.push(pid);
        }
        let is_engines = id == engines_id;
        self.0.push(Space {
            kind,
            id,
            is_engines,
            owner: ids.user_ns_id(),
            parent: (kind.nests && !is_engines).then_some(engines_id),
            members: vec![pid],
        });
    }

    /// All of them, sorted by kind.
    pub fn all(&self) -> impl Iterator<Item = &Space> {
        self.0.iter()
    }

    /// Those that a task is in, one of each kind.
    pub fn of_task(&self, pid: TreePid) -> impl Iterator<Item = &Space> {
        self.all().filter(move |space| space.members.contains(&pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::proto::{InventoryEntry, PstreeEntry};
    use crate::images::snapshot::TaskImage;

    fn ids(uts: u32, pid_space: u32) -> TaskKobjIdsEntry {
        let mut ids = TaskKobjIdsEntry::default();
        for (id, kind) in (1..).zip(KINDS) {
            *(kind.id)(&mut ids) = Some(id);
        }
        (ids.uts_ns_id, ids.pid_ns_id) = (Some(uts), Some(pid_space));
        ids
    }

    /// Three tasks; the second is in a uts and a pid namespace of its own.
    fn tree() -> Snapshot {
        let engine = ids(4, 1);
        let tasks = [(70, engine), (71, ids(9, 10)), (72, engine)];
        Snapshot {
            inventory: InventoryEntry { root_ids: Some(engine), ..InventoryEntry::default() },
            tree: tasks.map(|(pid, _)| PstreeEntry { pid, ..PstreeEntry::default() }).into(),
            tasks: tasks
                .map(|(pid, ids)| {
                    (TreePid::new(pid), TaskImage { ids: Some(ids), ..TaskImage::default() })
                })
                .into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn every_task_is_in_one_namespace_of_each_kind() {
        let spaces = Spaces::of(&tree());
        for pid in [70, 71, 72].map(TreePid::new) {
            let kinds: Vec<&str> = spaces.of_task(pid).map(|space| space.kind.name).collect();
            assert_eq!(kinds, KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>());
        }
        assert_eq!(spaces.all().count(), KINDS.len() + 2);
    }

    #[test]
    fn a_namespace_knows_its_members_owner_and_parent() {
        let spaces = Spaces::of(&tree());
        let find = |id| spaces.all().find(|space| space.id == id).unwrap();
        let members = |id| find(id).members.iter().map(|pid| pid.number()).collect::<Vec<_>>();
        assert_eq!((members(4), find(4).is_engines), (vec![70, 72], true));
        let own = find(9);
        assert_eq!((own.kind.name, members(9), own.is_engines), ("uts", vec![71], false));
        assert_eq!(
            (own.owner, own.parent),
            (7, None),
            "uts namespaces do not stand in one another"
        );
        assert_eq!((find(10).parent, find(1).parent), (Some(1), None));
    }
}
