//! The namespaces that a restored tree begins in.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use super::{Recipe, Spaces, to_carry};
use crate::error::{Context, Result};
use crate::images::snapshot::Snapshot;
use crate::kernel::namespace;

/// A namespace that exists already and is to be entered.
#[derive(Clone, Debug)]
pub struct Join {
    /// The name of its kind.
    pub kind: String,
    /// A process that is in it, or a file that stands for it.
    pub file: OsString,
}

impl Join {
    fn open(&self) -> Result<OwnedFd> {
        let pid = self.file.to_str().and_then(|text| text.parse::<u32>().ok());
        let path = match pid {
            Some(pid) => format!("/proc/{pid}/ns/{}", self.kind).into(),
            None => self.file.clone(),
        };
        let opened = namespace::open(&path).doing(|| format!("join_ns {}", self.kind));
        opened.map_err(|error| error.remedy("give the path of a namespace file"))
    }
}

/// Who makes namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A process that ends when it has made one.
    Process,
    /// The calling thread, which has no children later: they would be in what it made.
    Thread,
}

/// The namespaces that the restored root enters: those that are joined, and new ones for those that
/// the tree had of its own.
#[derive(Debug)]
pub struct Entering {
    joined: Vec<Join>,
    made: Vec<Recipe>,
}

impl Entering {
    /// What the images say; they are [valid](super::validate).
    pub fn of(snapshot: &Snapshot, joined: &[Join]) -> Self {
        let spaces = Spaces::of(snapshot);
        let carried = to_carry(&spaces, snapshot, joined);
        let made = carried.filter_map(|(space, carried)| (carried.recipe)(space, snapshot));
        Self { made: made.collect(), joined: joined.to_vec() }
    }

    /// Whether some of them can only be made by a process, which might get a number of the tree's.
    pub fn needs_process(&self) -> bool {
        self.made.iter().any(|recipe| recipe.needs_process)
    }

    /// Opens or makes them.
    pub fn get(self, maker: Maker) -> Result<Vec<OwnedFd>> {
        let joined = self.joined.iter().map(Join::open);
        joined.chain(self.made.into_iter().map(|recipe| (recipe.make)(maker))).collect()
    }
}

/// Whether a namespace of the kind is to be entered that exists already.
pub(super) fn is_joined(joined: &[Join], kind: &str) -> bool {
    joined.iter().any(|join| join.kind == kind)
}
