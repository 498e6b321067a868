//! What a kind of open file is to the rest of the tree.
//!
//! A kind is one file with an implementation of [`FileKind`] and one line in the registry of the
//! [module](super); [`registry`](super::registry) makes of that line what general code needs. A
//! [`DescriptorAttribute`] is to descriptors what a kind is to open files, and is registered in the
//! same way.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::fd::OwnedFd;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::fdinfo::Fdinfo;
use super::opened::{Captured, Opened};
use crate::error::{Refusals, Result};
use crate::images::proto::{FdTypes, FileEntry, FownEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::blank::Blank;

/// The number of an open file description in the images.
pub type FileId = u32;

/// The processes of a tree that is being restored, by pid.
pub type Blanks = BTreeMap<HostPid, Blank>;

/// A kind of open file.
pub(super) trait FileKind: 'static {
    /// What the image calls it.
    const TYPE: FdTypes;
    /// What people call it, in a word.
    const NAME: &'static str;
    /// Whether it is listed among the sockets.
    const IS_SOCKET: bool = false;
    /// Whether it matters which process adds such a file to an epoll file, so that the engine
    /// cannot do that for it.
    const WATCHED_FROM_WITHIN: bool = false;

    /// The image's message of one open file.
    type Entry: 'static;
    /// What the kind gathers during a dump.
    type Met: Debug + Default;
    /// What the kind makes during a restore.
    type Made: Debug + Default;

    /// Where an entry of files.img has the message. [`held_as!`] writes this function and the next.
    fn field(file: &FileEntry) -> Option<&Self::Entry>;
    fn field_mut(file: &mut FileEntry) -> &mut Option<Self::Entry>;

    /// Whether `file` is of this kind. It is of no kind that stands before this one in the
    /// registry.
    fn claim(file: &Opened, cx: &DumpCx<'_>) -> bool;

    /// The message of an open file that is met for the first time.
    fn capture(
        file: &Opened,
        id: FileId,
        met: &mut Self::Met,
        cx: &mut DumpCx<'_>,
    ) -> Captured<Self::Entry>;

    /// Does what can only be done when all descriptor tables are known.
    fn settle(_met: &mut Self::Met, _cx: &mut DumpCx<'_>, _refusals: &mut Refusals) -> Result<()> {
        Ok(())
    }

    /// Does what touches something that the dumpee can see, and puts that back. It comes last, and
    /// only if nothing is refused.
    fn touch(_met: Self::Met, _cx: &mut DumpCx<'_>) -> Result<()> {
        Ok(())
    }

    /// Checks an entry before anything is restored.
    fn validate(entry: &Self::Entry, all: &Snapshot) -> Result<()>;

    /// Checks the images of the kind as a whole before anything is restored.
    fn validate_all(_all: &Snapshot) -> Result<()> {
        Ok(())
    }

    /// Makes one open file in [`Phase::Open`], in the engine. None if one of the
    /// [steps](Self::STEPS) makes it.
    fn open(
        entry: &Self::Entry,
        made: &mut Self::Made,
        cx: &RestoreCx<'_>,
    ) -> Result<Option<OwnedFd>>;

    /// Lets go of what was only needed to open files of the kind, when all are open: if a spare end
    /// of a pipe were closed later, a process could be told by a signal.
    fn opened(_made: &mut Self::Made) {}

    /// Opens a file that is mapped, executed, or somebody's directory, with these flags. None if
    /// files of the kind cannot be used so.
    fn open_to_map(
        _entry: &Self::Entry,
        _made: &Self::Made,
        _cx: &RestoreCx<'_>,
        _flags: u32,
    ) -> Option<Result<OwnedFd>> {
        None
    }

    /// What else the kind does during a restore. Steps in [`Phase::Open`] come before the files of
    /// the kind are opened.
    const STEPS: &'static [(Phase, Step<Self::Made>)] = &[];

    /// Who gets the signals of an open file.
    fn owner<'a>(entry: &'a Self::Entry, all: &'a Snapshot) -> Option<&'a FownEntry>;

    /// Says what an open file is, for people. The images may come from other writers, or be wrong.
    fn describe(entry: &Self::Entry, all: &Snapshot) -> Description;
}

/// What is done in a phase of the restore.
pub(super) enum Step<Made> {
    /// Once, for the whole tree.
    Tree(fn(&mut Made, &mut RestoreCx<'_>, &mut Blanks) -> Result<()>),
    /// For one process.
    Process(fn(&Made, &RestoreCx<'_>, &mut Turn<'_>) -> Result<()>),
}

/// Something that descriptors have and that the images hold apart from the open files, as locks.
pub(super) trait DescriptorAttribute: 'static {
    /// What is gathered during a dump.
    type Met: Debug + Default;

    /// Captures what a descriptor shows.
    fn capture(
        descriptor: &Descriptor<'_>,
        met: &mut Self::Met,
        cx: &mut DumpCx<'_>,
        refusals: &mut Refusals,
    ) -> Result<()>;

    /// Checks the images before anything is restored.
    fn validate(all: &Snapshot) -> Result<()>;

    /// What is done during a restore.
    const STEPS: &'static [(Phase, Step<()>)];
}

/// One descriptor of one process.
pub(super) struct Descriptor<'a> {
    pub pid: HostPid,
    pub number: i32,
    /// A number for the open file that it leads to: the same for all descriptors that lead there.
    pub file: usize,
    pub info: &'a Fdinfo,
}

/// Says in which field of an entry of files.img the message of a kind stands.
macro_rules! held_as {
    ($field:ident) => {
        fn field(file: &$crate::images::proto::FileEntry) -> Option<&Self::Entry> {
            file.$field.as_ref()
        }

        fn field_mut(file: &mut $crate::images::proto::FileEntry) -> &mut Option<Self::Entry> {
            &mut file.$field
        }
    };
}
pub(super) use held_as;
