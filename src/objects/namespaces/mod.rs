//! Namespaces of the tasks.
//!
//! A kind that is carried is one file, in which stands what such a namespace holds, capture, validate
//! and rebuild, and one line in the registry below. Of the others, a task has to be in the engine's.
//!
//! A tree may have one namespace of its own of each carried kind, that of its root. [`Space`]s are
//! what any tree may have.

mod entering;
mod identity;
mod space;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;

use crate::error::{Error, Refusals, Result, shown};
use crate::images::proto::TaskKobjIdsEntry;
use crate::images::snapshot::Snapshot;

pub use self::entering::{Entering, Join, Maker};
pub use self::identity::Ids;
pub use self::space::{Space, Spaces};

/// The registry: a line for each kind, which names its file or says what little is known of it.
///
/// It also declares the modules, so that a new kind is one file and one line. `cargo fmt` does not
/// see modules that a macro declares: `make lint` gives it their files by name.
macro_rules! kinds {
    ($($(file $file:ident)? $(kind $kind:expr)?,)+) => {
        $($(mod $file;)?)+

        /// All kinds.
        const KINDS: &[&NamespaceKind] = &[$($(&$file::KIND)? $(&$kind)?,)+];
    };
}

// The order is that in which CRIU numbers the engine's own namespaces.
kinds! {
    kind NamespaceKind {
        has_for_children: true,
        nests: true,
        ..NamespaceKind::refused("pid", CloneFlags::CLONE_NEWPID, |ids| &mut ids.pid_ns_id)
    },
    kind NamespaceKind::refused("net", CloneFlags::CLONE_NEWNET, |ids| &mut ids.net_ns_id),
    file ipc,
    file uts,
    file time,
    kind NamespaceKind::refused("mnt", CloneFlags::CLONE_NEWNS, |ids| &mut ids.mnt_ns_id),
    kind NamespaceKind {
        nests: true,
        ..NamespaceKind::refused("user", CloneFlags::CLONE_NEWUSER, |ids| &mut ids.user_ns_id)
    },
    kind NamespaceKind::refused("cgroup", CloneFlags::CLONE_NEWCGROUP, |ids| &mut ids.cgroup_ns_id),
}

/// A kind of namespace.
#[derive(Debug)]
pub struct NamespaceKind {
    /// The name under /proc/PID/ns.
    pub name: &'static str,
    /// The flag of clone, unshare and setns.
    pub flag: CloneFlags,
    /// Whether a task may have another one for its children: /proc/PID/ns/NAME_for_children.
    pub has_for_children: bool,
    /// Whether namespaces of the kind stand in one another.
    pub nests: bool,
    /// Where a task's ids hold the number of its namespace.
    pub id: fn(&mut TaskKobjIdsEntry) -> &mut Option<u32>,
    /// Whether a restored tree can be put into one that exists.
    pub can_be_joined: bool,
    /// How one goes to an image and comes back; none if a tree may not have one of its own.
    pub carried: Option<Carried>,
}

/// What is done for a kind of namespace that is carried.
#[derive(Debug)]
pub struct Carried {
    /// Whether it is done for the engine's own, too: for what goes on in it.
    pub engines_too: bool,
    /// Puts what the namespace holds into the snapshot.
    pub capture: fn(&Space, &mut Snapshot, &mut Refusals) -> Result<()>,
    /// Checks what an image says of it.
    pub validate: fn(&Space, &Snapshot) -> Result<()>,
    /// How to make it from its image; none if it need not be made, or cannot be with our rights.
    pub recipe: fn(&Space, &Snapshot) -> Option<Recipe>,
    /// What the tree will notice if it is not made. It may be an error.
    pub missing: fn(&Space, &Snapshot) -> Result<Option<String>>,
}

/// How to make a namespace.
pub struct Recipe {
    /// Whether only a [process](Maker::Process) can.
    pub needs_process: bool,
    /// Makes it.
    pub make: Box<dyn FnOnce(Maker) -> Result<OwnedFd> + Send>,
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe").field("needs_process", &self.needs_process).finish()
    }
}

impl NamespaceKind {
    /// A kind of which every task has to be in the engine's.
    const fn refused(
        name: &'static str,
        flag: CloneFlags,
        id: fn(&mut TaskKobjIdsEntry) -> &mut Option<u32>,
    ) -> Self {
        Self {
            name,
            flag,
            has_for_children: false,
            nests: false,
            id,
            can_be_joined: false,
            carried: None,
        }
    }

    /// The number of the namespace of this kind among these ids.
    fn id_in(&self, mut ids: TaskKobjIdsEntry) -> Option<u32> {
        *(self.id)(&mut ids)
    }
}

impl PartialEq for NamespaceKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Whether there are namespaces of a kind with this name.
pub fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name)
}

/// Whether a restored tree can be put into a namespace of this kind that exists.
pub fn can_be_joined(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name && kind.can_be_joined)
}

/// Captures the namespaces of the tree's root that are not the engine's; every other task has to be
/// in the same ones.
pub fn capture(snapshot: &mut Snapshot, refusals: &mut Refusals) -> Result<()> {
    let spaces = Spaces::of(snapshot);
    for (space, carried) in to_carry(&spaces, snapshot, &[]) {
        (carried.capture)(space, snapshot, refusals)?;
    }
    refuse_nested(&spaces, snapshot, refusals);
    Ok(())
}

/// Checks the namespaces of an image, of which those that are `joined` need not be made.
pub fn validate(snapshot: &Snapshot, joined: &[Join], refusals: &mut Refusals) -> Result<()> {
    let spaces = Spaces::of(snapshot);
    for space in spaces.all().filter(|space| space.kind.carried.is_none() && !space.is_engines) {
        let reason = "a namespace of the tree's own of this kind is not restored";
        refuse_members(space, reason, refusals);
    }
    refuse_nested(&spaces, snapshot, refusals);
    refuse_joins(joined, refusals);
    let mut carried = to_carry(&spaces, snapshot, joined);
    carried.try_for_each(|(space, carried)| (carried.validate)(space, snapshot))
}

/// What the tree will notice of namespaces that cannot be made with our rights. That it would break
/// the tree is an error.
pub fn missing(snapshot: &Snapshot, joined: &[Join]) -> Result<Vec<String>> {
    let spaces = Spaces::of(snapshot);
    let carried = to_carry(&spaces, snapshot, joined);
    let notes = carried.map(|(space, carried)| (carried.missing)(space, snapshot));
    notes.filter_map(Result::transpose).collect()
}

/// The namespaces of the root of a tree that have something to be carried, if it does not join others.
fn to_carry<'s>(
    spaces: &'s Spaces,
    snapshot: &Snapshot,
    joined: &'s [Join],
) -> impl Iterator<Item = (&'s Space, &'static Carried)> + use<'s> {
    spaces.of_task(snapshot.root().tree_pid()).filter_map(|space| {
        let carried = space.kind.carried.as_ref()?;
        let stays = space.is_engines && !carried.engines_too;
        (!stays && !entering::is_joined(joined, space.kind.name)).then_some((space, carried))
    })
}

/// Refuses tasks in another namespace than the root, of a kind that the root may have its own of.
fn refuse_nested(spaces: &Spaces, snapshot: &Snapshot, refusals: &mut Refusals) {
    let root = snapshot.root().tree_pid();
    let carried = spaces.all().filter(|space| space.kind.carried.is_some());
    for space in carried.filter(|space| !space.members.contains(&root)) {
        refuse_members(space, "differs from that of the root of the tree", refusals);
    }
}

fn refuse_members(space: &Space, reason: &str, refusals: &mut Refusals) {
    for pid in &space.members {
        let object = format!("{} namespace", space.kind.name);
        refusals.refuse(format!("pid {pid}"), object, reason, "");
    }
}

fn refuse_joins(joined: &[Join], refusals: &mut Refusals) {
    let known = KINDS.iter().filter(|kind| kind.can_be_joined).map(|kind| kind.name);
    let known: Vec<&str> = known.collect();
    for join in joined.iter().filter(|join| !can_be_joined(&join.kind)) {
        refusals.refuse(
            "option --join-ns",
            format!("{}:{}", join.kind, shown(&join.file)),
            format!("only namespaces of these kinds can be joined: {}", known.join(", ")),
            "",
        );
    }
}

/// Checks that an image has what a namespace holds, in the file `NAME-ID.img`.
fn stored<T>(all: &BTreeMap<u32, T>, space: &Space, name: &str) -> Result<()> {
    match all.contains_key(&space.id) {
        true => Ok(()),
        false => {
            let file = format!("{name}-{}.img", space.id);
            Err(Error::image(file, "is missing: the dump is not whole"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_name_flag_and_field() {
        let mut ids = TaskKobjIdsEntry::default();
        let mut flags = CloneFlags::empty();
        for (id, kind) in (1..).zip(KINDS) {
            assert!(!flags.intersects(kind.flag), "{}", kind.name);
            flags |= kind.flag;
            *(kind.id)(&mut ids) = Some(id);
            assert!(
                std::path::Path::new("/proc/self/ns").join(kind.name).exists(),
                "{}",
                kind.name
            );
        }
        let own = (1..).zip(KINDS).map(|(id, kind)| kind.id_in(ids) == Some(id));
        assert!(own.into_iter().all(|own| own));
    }

    #[test]
    fn only_some_kinds_can_be_joined() {
        let join = |kind: &str| Join { kind: kind.into(), file: "1".into() };
        let mut refusals = Refusals::default();
        refuse_joins(&[join("uts"), join("net")], &mut refusals);
        let text = refusals.check().unwrap_err().to_string();
        assert_eq!(
            text,
            "option --join-ns: net:1: only namespaces of these kinds can be joined: ipc, uts, time"
        );
    }
}
