//! How general code reaches every kind of open file: one row of functions for each, and the state
//! of all of them on both sides of a dump and its restore. Both are made of the lines of
//! [`kinds!`].

use std::os::fd::OwnedFd;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::kind::{Blanks, Descriptor, DescriptorAttribute, FileId, FileKind, Step};
use super::opened::{Captured, Opened};
use super::{AllMade, AllMet, KINDS};
use crate::error::{Error, Refusals, Result};
use crate::images::proto::{FdTypes, FileEntry, FownEntry};
use crate::images::snapshot::Snapshot;
use crate::objects::phases::{Phase, Turn};

/// A kind as general code sees it; [`FileKind`] says what each function does.
pub(super) struct Kind {
    pub file_type: FdTypes,
    pub watched_from_within: bool,
    pub claim: fn(&Opened, &DumpCx<'_>) -> bool,
    pub capture: fn(&Opened, FileId, &mut AllMet, &mut DumpCx<'_>) -> Captured<()>,
    pub settle: fn(&mut AllMet, &mut DumpCx<'_>, &mut Refusals) -> Result<()>,
    pub touch: fn(&mut AllMet, &mut DumpCx<'_>) -> Result<()>,
    pub validate: fn(&FileEntry, &Snapshot) -> Result<()>,
    pub validate_all: fn(&Snapshot) -> Result<()>,
    pub open: fn(&FileEntry, &mut AllMade, &RestoreCx<'_>) -> Result<Option<OwnedFd>>,
    pub opened: fn(&mut AllMade),
    pub open_to_map: OpenToMap,
    pub step: TreeStep,
    pub step_in: ProcessStep,
    pub owner: for<'a> fn(&'a FileEntry, &'a Snapshot) -> Option<&'a FownEntry>,
    pub describe: fn(&FileEntry, &Snapshot) -> Description,
}

type OpenToMap = fn(&FileEntry, &AllMade, &RestoreCx<'_>, u32) -> Option<Result<OwnedFd>>;
type TreeStep = fn(Phase, &mut AllMade, &mut RestoreCx<'_>, &mut Blanks) -> Result<()>;
type ProcessStep = fn(Phase, &AllMade, &RestoreCx<'_>, &mut Turn<'_>) -> Result<()>;

/// Where the state of all kinds holds that of `K`.
pub(super) trait Slot<K, State> {
    fn of(&self) -> &State;
    fn of_mut(&mut self) -> &mut State;
}

impl Kind {
    /// The row of `K`.
    pub(super) const fn of<K: FileKind>() -> Self
    where
        AllMet: Slot<K, K::Met>,
        AllMade: Slot<K, K::Made>,
    {
        const { assert!(fit(K::STEPS), "a step is in a phase that others take") }
        Self {
            file_type: K::TYPE,
            watched_from_within: K::WATCHED_FROM_WITHIN,
            claim: K::claim,
            capture: |file, id, met, cx| {
                let mut entry = FileEntry { r#type: K::TYPE as i32, id, ..FileEntry::default() };
                *K::field_mut(&mut entry) = Some(K::capture(file, id, met.of_mut(), cx)?);
                cx.put(entry);
                Ok(())
            },
            settle: |met, cx, refusals| K::settle(met.of_mut(), cx, refusals),
            touch: |met, cx| K::touch(std::mem::take(met.of_mut()), cx),
            validate: |file, all| K::validate(entry_of::<K>(file)?, all),
            validate_all: K::validate_all,
            open: |file, made, cx| K::open(entry_of::<K>(file)?, made.of_mut(), cx),
            opened: |made| K::opened(made.of_mut()),
            open_to_map: |file, made, cx, flags| {
                K::open_to_map(K::field(file)?, made.of(), cx, flags)
            },
            step: |phase, made, cx, blanks| run(K::STEPS, phase, made.of_mut(), cx, blanks),
            step_in: |phase, made, cx, turn| run_in(K::STEPS, phase, made.of(), cx, turn),
            owner: |file, all| K::owner(K::field(file)?, all),
            describe: |file, all| {
                let described = K::field(file).map(|entry| K::describe(entry, all));
                Description {
                    kind: K::NAME,
                    is_socket: K::IS_SOCKET,
                    ..described.unwrap_or_default()
                }
            },
        }
    }
}

/// The kind that an entry of files.img says it is of, if that is carried.
pub(super) fn kind_of(file: &FileEntry) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.file_type as i32 == file.r#type)
}

fn entry_of<K: FileKind>(file: &FileEntry) -> Result<&K::Entry> {
    K::field(file).ok_or_else(|| {
        Error::image("files.img", format!("file {} has no contents of its kind", file.id))
    })
}

/// An attribute of descriptors as general code sees it.
pub(super) struct Attribute {
    pub capture: fn(&Descriptor<'_>, &mut AllMet, &mut DumpCx<'_>, &mut Refusals) -> Result<()>,
    pub validate: fn(&Snapshot) -> Result<()>,
    pub step: fn(Phase, &mut RestoreCx<'_>, &mut Blanks) -> Result<()>,
    pub step_in: fn(Phase, &RestoreCx<'_>, &mut Turn<'_>) -> Result<()>,
}

impl Attribute {
    /// The row of `A`.
    pub(super) const fn of<A: DescriptorAttribute>() -> Self
    where
        AllMet: Slot<A, A::Met>,
    {
        const { assert!(fit(A::STEPS), "a step is in a phase that others take") }
        Self {
            capture: |one, met, cx, refusals| A::capture(one, met.of_mut(), cx, refusals),
            validate: A::validate,
            step: |phase, cx, blanks| run(A::STEPS, phase, &mut (), cx, blanks),
            step_in: |phase, cx, turn| run_in(A::STEPS, phase, &(), cx, turn),
        }
    }
}

/// Whether steps for the tree are in phases that are taken once, and those for a process in others.
const fn fit<Made>(steps: &[(Phase, Step<Made>)]) -> bool {
    let mut rest = steps;
    while let [(phase, step), others @ ..] = rest {
        if phase.is_taken_once() != matches!(step, Step::Tree(_)) {
            return false;
        }
        rest = others;
    }
    true
}

/// Takes those steps for the whole tree that belong to a phase.
fn run<Made>(
    steps: &[(Phase, Step<Made>)],
    phase: Phase,
    made: &mut Made,
    cx: &mut RestoreCx<'_>,
    blanks: &mut Blanks,
) -> Result<()> {
    steps.iter().filter(|(at, _)| *at == phase).try_for_each(|(_, step)| match step {
        Step::Tree(step) => step(made, cx, blanks),
        Step::Process(_) => Ok(()),
    })
}

/// Takes those steps for one process that belong to a phase.
fn run_in<Made>(
    steps: &[(Phase, Step<Made>)],
    phase: Phase,
    made: &Made,
    cx: &RestoreCx<'_>,
    turn: &mut Turn<'_>,
) -> Result<()> {
    steps.iter().filter(|(at, _)| *at == phase).try_for_each(|(_, step)| match step {
        Step::Tree(_) => Ok(()),
        Step::Process(step) => step(made, cx, turn),
    })
}

/// The registry: a line `module: Type` for each kind and each attribute of descriptors.
///
/// It also declares the modules, so that a new kind is one file and one line. `cargo fmt` does not
/// see modules that a macro declares: `make lint` gives it their files by name.
macro_rules! kinds {
    (
        files { $($file:ident: $Kind:ident,)+ }
        descriptors { $($about:ident: $Attribute:ident,)+ }
    ) => {
        $(mod $file;)+
        $(mod $about;)+

        /// Every kind, in the order in which they are asked whether a file is theirs and in which
        /// their files are opened.
        const KINDS: &[Kind] = &[$(Kind::of::<$file::$Kind>(),)+];

        /// Every attribute of descriptors.
        const ATTRIBUTES: &[Attribute] = &[$(Attribute::of::<$about::$Attribute>(),)+];

        /// What each of them has gathered during a dump.
        #[derive(Debug, Default)]
        struct AllMet {
            $($file: <$file::$Kind as FileKind>::Met,)+
            $($about: <$about::$Attribute as DescriptorAttribute>::Met,)+
        }

        /// What each kind has made during a restore.
        #[derive(Debug, Default)]
        struct AllMade {
            $($file: <$file::$Kind as FileKind>::Made,)+
        }

        $(slot!(AllMet.$file holds $file::$Kind, <$file::$Kind as FileKind>::Met);)+
        $(slot!(AllMade.$file holds $file::$Kind, <$file::$Kind as FileKind>::Made);)+
        $(slot!(
            AllMet.$about holds $about::$Attribute,
            <$about::$Attribute as DescriptorAttribute>::Met
        );)+
    };
}
pub(super) use kinds;

/// Says which field of a collection of states is that of a kind.
macro_rules! slot {
    ($all:ident . $field:ident holds $Of:ty, $State:ty) => {
        impl registry::Slot<$Of, $State> for $all {
            fn of(&self) -> &$State {
                &self.$field
            }

            fn of_mut(&mut self) -> &mut $State {
                &mut self.$field
            }
        }
    };
}
pub(super) use slot;
