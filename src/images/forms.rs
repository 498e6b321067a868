//! The forms that image files have: how their contents stand in memory.
//!
//! A [`Format`] says what is in one file, a [`Section`] of which files a field of
//! [`Snapshot`] is made. A row of the [table](super::sections) names a section; formats
//! compose with [`ById`] (a file for each of some numbers) and [`Own`] (a file for each process).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::marker::PhantomData;

use prost::Message;

use super::codec::{Decoder, Encoder};
use super::payload::Payload;
use super::pid::TreePid;
use super::proto::*;
use super::read::{Load, check_tree};
use super::sections::{Listed, Row, Snapshot};
use super::snapshot::{GhostFile, Pagemap};
use super::write::Store;
use crate::error::{Error, Result};

/// Bytes that the entries of one file may take in memory.
const MAX_DECODED: usize = 1 << 30;

/// A message.
pub trait Entry: Message + Default + Clone + PartialEq + Debug {}

impl<M: Message + Default + Clone + PartialEq + Debug> Entry for M {}

/// What one file holds.
pub trait Format {
    /// The same in memory.
    type Value: Clone + Debug + PartialEq;
    /// What the table has to say about the messages.
    type How: Copy;
    /// It is complete only when all memory is written.
    const LATE: bool = false;
    /// It may be larger than memory: nothing but its messages is brought there.
    const STREAMED: bool = false;

    /// Appends everything to a file.
    fn encode(value: &Self::Value, file: &mut Encoder<'_>) -> Result<()>;

    /// Reads the whole file `name`; none if nothing is in it, where something should be.
    fn decode(how: Self::How, name: &str, file: Decoder<'_>) -> Result<Option<Self::Value>>;

    /// What a file that is not there stands for, where another one says that it should be.
    fn missing(_name: &str) -> Result<Option<Self::Value>> {
        Ok(None)
    }

    /// How many messages there are.
    fn count(value: &Self::Value) -> usize;

    /// A value for tests.
    #[cfg(test)]
    fn sample(how: Self::How) -> Self::Value;
}

/// A field of [`Snapshot`], and the files that it is made of.
pub trait Section {
    /// The field's type.
    type Field: Field;
    /// What is in each of the files.
    type Format: Format;
    /// What the table has to say about the numbers in their names.
    type Ids;
    /// They are complete only when all memory is written.
    const LATE: bool = <Self::Format as Format>::LATE;

    /// Writes the files.
    fn store(field: &Self::Field, row: &SectionRow<Self>, store: &Store) -> Result<()>;

    /// Reads the files; `known` holds what stands before them in the table.
    fn load(row: &SectionRow<Self>, load: &Load<'_>, known: &Snapshot) -> Result<Self::Field>;

    /// Adds the files to a list.
    fn list(field: &Self::Field, row: &SectionRow<Self>, files: &mut Vec<Listed>);

    /// Something that the files can hold, if everything before them is a sample.
    #[cfg(test)]
    fn sample(row: &SectionRow<Self>, known: &Snapshot) -> Self::Field;
}

type SectionRow<S> = Row<<S as Section>::Format, <S as Section>::Ids>;

/// A field of [`TaskImage`](super::snapshot::TaskImage) with a file for each process that lives.
pub trait TaskSection {
    /// What is in it.
    type Format: Format<Value = Self::Value>;
    /// The field's type.
    type Value: Clone + Debug + PartialEq;

    /// Reads the file of the process with this pid and core.
    fn load(
        row: &Row<Self::Format, ()>,
        load: &Load<'_>,
        pid: TreePid,
        core: &CoreEntry,
    ) -> Result<Self::Value>;

    /// Something that the file can hold.
    #[cfg(test)]
    fn sample(row: &Row<Self::Format, ()>) -> Self::Value {
        Self::Format::sample(row.how)
    }
}

/// What a field of [`Snapshot`] must be able to do.
pub trait Field: Clone + Debug + Default + PartialEq {}

impl<T: Clone + Debug + Default + PartialEq> Field for T {}

/// A file with one message.
#[derive(Debug)]
pub struct One<M>(PhantomData<M>);

impl<M: Entry> Format for One<M> {
    type Value = M;
    type How = ();

    fn encode(value: &M, file: &mut Encoder<'_>) -> Result<()> {
        file.entry(value);
        Ok(())
    }

    fn decode((): (), name: &str, file: Decoder<'_>) -> Result<Option<M>> {
        Ok(collect(name, file)?.into_iter().next())
    }

    fn count(_: &M) -> usize {
        1
    }

    #[cfg(test)]
    fn sample((): ()) -> M {
        sample_message(1)
    }
}

/// A file with any number of messages.
#[derive(Debug)]
pub struct List<M>(PhantomData<M>);

impl<M: Entry> Format for List<M> {
    type Value = Vec<M>;
    type How = ();

    fn encode(value: &Vec<M>, file: &mut Encoder<'_>) -> Result<()> {
        file.entries(value);
        Ok(())
    }

    fn decode((): (), name: &str, file: Decoder<'_>) -> Result<Option<Vec<M>>> {
        collect(name, file).map(Some)
    }

    fn missing(_name: &str) -> Result<Option<Vec<M>>> {
        Ok(Some(Vec::new()))
    }

    fn count(value: &Vec<M>) -> usize {
        value.len()
    }

    #[cfg(test)]
    fn sample((): ()) -> Vec<M> {
        vec![sample_message(1), sample_message(2)]
    }
}

/// A file with any number of messages, each of which has a number of its own: `by` tells it.
#[derive(Debug)]
pub struct Indexed<M>(PhantomData<M>);

impl<M: Entry> Format for Indexed<M> {
    type Value = BTreeMap<u32, M>;
    type How = fn(&M) -> u32;

    fn encode(value: &BTreeMap<u32, M>, file: &mut Encoder<'_>) -> Result<()> {
        file.entries(value.values());
        Ok(())
    }

    fn decode(number: Self::How, name: &str, file: Decoder<'_>) -> Result<Option<Self::Value>> {
        let mut entries = BTreeMap::new();
        for entry in collect(name, file)? {
            let id = number(&entry);
            if entries.insert(id, entry).is_some() {
                return Err(Error::image(name, format!("two entries have the id {id}")));
            }
        }
        Ok(Some(entries))
    }

    fn count(value: &BTreeMap<u32, M>) -> usize {
        value.len()
    }

    #[cfg(test)]
    fn sample(number: Self::How) -> BTreeMap<u32, M> {
        let entry = sample_message(1);
        [(number(&entry), entry)].into()
    }
}

/// A file with any number of messages, each of which has bytes behind it: `by` tells how many.
#[derive(Debug)]
pub struct Payloads<M>(PhantomData<M>);

impl<M: Entry> Format for Payloads<M> {
    type Value = Vec<(M, Payload)>;
    type How = fn(&M) -> u32;
    const STREAMED: bool = true;

    fn encode(value: &Self::Value, file: &mut Encoder<'_>) -> Result<()> {
        for (entry, payload) in value {
            file.entry(entry).payload(payload)?;
        }
        Ok(())
    }

    fn decode(len: Self::How, name: &str, mut file: Decoder<'_>) -> Result<Option<Self::Value>> {
        let next = || {
            let Some(entry) = file.entry::<M>()? else { return Ok(None) };
            let payload = file.payload(len(&entry).into())?;
            Ok(Some((entry, payload)))
        };
        bounded(name, next).map(Some)
    }

    fn count(value: &Self::Value) -> usize {
        value.len()
    }

    #[cfg(test)]
    fn sample(len: Self::How) -> Self::Value {
        let entry: M = sample_message(3);
        assert_eq!(len(&entry), 3);
        vec![(entry.clone(), b"one".to_vec().into()), (entry, b"two".to_vec().into())]
    }
}

impl Format for Pagemap {
    type Value = Self;
    type How = ();
    const LATE: bool = true;

    fn encode(value: &Self, file: &mut Encoder<'_>) -> Result<()> {
        file.entry(&PagemapHead { pages_id: value.pages_id });
        file.entries(&value.entries);
        Ok(())
    }

    fn decode((): (), name: &str, mut file: Decoder<'_>) -> Result<Option<Self>> {
        let head: PagemapHead = file.entry()?.ok_or_else(|| Error::image(name, "has no head"))?;
        Ok(Some(Self { pages_id: head.pages_id, entries: collect(name, file)? }))
    }

    fn count(value: &Self) -> usize {
        value.entries.len()
    }

    #[cfg(test)]
    fn sample((): ()) -> Self {
        Self { pages_id: SAMPLE, entries: vec![PagemapEntry::default()] }
    }
}

/// Contents follow the header in chunks, each behind an entry of its own.
impl Format for GhostFile {
    type Value = Self;
    type How = ();
    const STREAMED: bool = true;

    fn encode(value: &Self, file: &mut Encoder<'_>) -> Result<()> {
        file.entry(&value.entry);
        for (off, payload) in &value.chunks {
            if value.entry.chunks == Some(true) {
                file.entry(&GhostChunkEntry { len: payload.len(), off: *off });
            }
            file.payload(payload)?;
        }
        Ok(())
    }

    fn decode((): (), name: &str, mut file: Decoder<'_>) -> Result<Option<Self>> {
        let entry: GhostFileEntry =
            file.entry()?.ok_or_else(|| Error::image(name, "has no entry"))?;
        if entry.chunks == Some(true) {
            let next = || {
                let Some(chunk) = file.entry::<GhostChunkEntry>()? else { return Ok(None) };
                Ok(Some((chunk.off, file.payload(chunk.len)?)))
            };
            return Ok(Some(Self { entry, chunks: bounded(name, next)? }));
        }
        let whole = file.payload(file.left())?;
        let chunks = if whole.is_empty() { Vec::new() } else { vec![(0, whole)] };
        Ok(Some(Self { entry, chunks }))
    }

    fn missing(name: &str) -> Result<Option<Self>> {
        Err(Error::image(name, "is missing"))
    }

    fn count(_: &Self) -> usize {
        1
    }

    #[cfg(test)]
    fn sample((): ()) -> Self {
        let entry = GhostFileEntry { chunks: Some(true), size: Some(9), ..Default::default() };
        Self { entry, chunks: vec![(0, b"one".to_vec().into()), (6, b"two".to_vec().into())] }
    }
}

/// A file that is left out when it would be empty.
pub trait Vacant: Format<Value: Field> {}

impl<M: Entry> Vacant for List<M> {}
impl<M: Entry> Vacant for Payloads<M> {}

impl<F: Vacant> Section for F {
    type Field = F::Value;
    type Format = F;
    type Ids = ();

    fn store(field: &F::Value, row: &Row<F, ()>, store: &Store) -> Result<()> {
        if F::count(field) == 0 { Ok(()) } else { store.file(row, row.name().into(), field) }
    }

    fn load(row: &Row<F, ()>, load: &Load<'_>, _: &Snapshot) -> Result<F::Value> {
        Ok(load.file(row, row.name())?.flatten().unwrap_or_default())
    }

    fn list(field: &F::Value, row: &Row<F, ()>, files: &mut Vec<Listed>) {
        if F::count(field) > 0 {
            row.list(row.name().into(), field, files);
        }
    }

    #[cfg(test)]
    fn sample(row: &Row<F, ()>, _: &Snapshot) -> F::Value {
        <F as Format>::sample(row.how)
    }
}

/// CRIU leaves it out never.
impl<M: Entry> Section for Indexed<M> {
    type Field = BTreeMap<u32, M>;
    type Format = Self;
    type Ids = ();

    fn store(field: &Self::Field, row: &Row<Self, ()>, store: &Store) -> Result<()> {
        store.file(row, row.name().into(), field)
    }

    fn load(row: &Row<Self, ()>, load: &Load<'_>, _: &Snapshot) -> Result<Self::Field> {
        Ok(load.file(row, row.name())?.flatten().unwrap_or_default())
    }

    fn list(field: &Self::Field, row: &Row<Self, ()>, files: &mut Vec<Listed>) {
        row.list(row.name().into(), field, files);
    }

    #[cfg(test)]
    fn sample(row: &Row<Self, ()>, _: &Snapshot) -> Self::Field {
        <Self as Format>::sample(row.how)
    }
}

/// A file with one message, or none.
#[derive(Debug)]
pub struct Optional<M>(PhantomData<M>);

impl<M: Entry> Section for Optional<M> {
    type Field = Option<M>;
    type Format = One<M>;
    type Ids = ();

    fn store(field: &Option<M>, row: &Row<One<M>, ()>, store: &Store) -> Result<()> {
        field.iter().try_for_each(|value| store.file(row, row.name().into(), value))
    }

    fn load(row: &Row<One<M>, ()>, load: &Load<'_>, _: &Snapshot) -> Result<Option<M>> {
        Ok(load.file(row, row.name())?.flatten())
    }

    fn list(field: &Option<M>, row: &Row<One<M>, ()>, files: &mut Vec<Listed>) {
        field.iter().for_each(|value| row.list(row.name().into(), value, files));
    }

    #[cfg(test)]
    fn sample(_: &Row<One<M>, ()>, _: &Snapshot) -> Option<M> {
        Some(sample_message(1))
    }
}

/// A file for each of the numbers that `of` tells.
#[derive(Debug)]
pub struct ById<F, K = u32>(PhantomData<(F, K)>);

impl<F, K> Section for ById<F, K>
where
    F: Format,
    K: Copy + Debug + Ord + Into<u64>,
{
    type Field = BTreeMap<K, F::Value>;
    type Format = F;
    type Ids = fn(&Snapshot) -> BTreeSet<K>;

    fn store(field: &Self::Field, row: &SectionRow<Self>, store: &Store) -> Result<()> {
        field.iter().try_for_each(|(&id, value)| store.file(row, row.of(id), value))
    }

    fn load(row: &SectionRow<Self>, load: &Load<'_>, known: &Snapshot) -> Result<Self::Field> {
        let mut values = BTreeMap::new();
        for id in (row.ids)(known) {
            let name = row.of(id);
            let value = load.file(row, &name)?.map_or_else(|| F::missing(&name), Ok)?;
            values.extend(value.map(|value| (id, value)));
        }
        Ok(values)
    }

    fn list(field: &Self::Field, row: &SectionRow<Self>, files: &mut Vec<Listed>) {
        field.iter().for_each(|(&id, value)| row.list(row.of(id), value, files));
    }

    #[cfg(test)]
    fn sample(row: &SectionRow<Self>, known: &Snapshot) -> Self::Field {
        (row.ids)(known).into_iter().map(|id| (id, F::sample(row.how))).collect()
    }
}

/// A file for each process that lives.
#[derive(Debug)]
pub struct Own<F>(PhantomData<F>);

impl<F: Format> TaskSection for Own<F> {
    type Format = F;
    type Value = F::Value;

    fn load(row: &Row<F, ()>, load: &Load<'_>, pid: TreePid, _: &CoreEntry) -> Result<F::Value> {
        load.required(row, &row.of(pid))
    }
}

/// The ids of what a process shares with others, which older images have in the core.
#[derive(Debug)]
pub struct Ids;

impl TaskSection for Ids {
    type Format = One<TaskKobjIdsEntry>;
    type Value = TaskKobjIdsEntry;

    fn load(
        row: &Row<Self::Format, ()>,
        load: &Load<'_>,
        pid: TreePid,
        core: &CoreEntry,
    ) -> Result<TaskKobjIdsEntry> {
        core.ids.map_or_else(|| load.required(row, &row.of(pid)), Ok)
    }

    #[cfg(test)]
    fn sample(_: &Row<Self::Format, ()>) -> TaskKobjIdsEntry {
        TaskKobjIdsEntry {
            files_id: SAMPLE,
            time_ns_id: Some(SAMPLE),
            uts_ns_id: Some(SAMPLE),
            ipc_ns_id: Some(SAMPLE),
            ..Default::default()
        }
    }
}

/// What tells the format of all other files: it appears last, by which the dump is whole.
#[derive(Debug)]
pub struct Inventory;

impl Section for Inventory {
    type Field = InventoryEntry;
    type Format = One<InventoryEntry>;
    type Ids = ();
    const LATE: bool = true;

    /// [`Store::finish`] commits it.
    fn store(_: &InventoryEntry, _: &SectionRow<Self>, _: &Store) -> Result<()> {
        Ok(())
    }

    fn load(_: &SectionRow<Self>, load: &Load<'_>, _: &Snapshot) -> Result<InventoryEntry> {
        load.inventory()
    }

    fn list(field: &InventoryEntry, row: &SectionRow<Self>, files: &mut Vec<Listed>) {
        row.list(row.name().into(), field, files);
    }

    #[cfg(test)]
    fn sample(_: &SectionRow<Self>, _: &Snapshot) -> InventoryEntry {
        InventoryEntry { img_version: 2, fdinfo_per_id: Some(true), ..Default::default() }
    }
}

/// The processes, without which there is no dump.
#[derive(Debug)]
pub struct Tree;

impl Section for Tree {
    type Field = Vec<PstreeEntry>;
    type Format = List<PstreeEntry>;
    type Ids = ();

    fn store(field: &Self::Field, row: &SectionRow<Self>, store: &Store) -> Result<()> {
        store.file(row, row.name().into(), field)
    }

    fn load(row: &SectionRow<Self>, load: &Load<'_>, _: &Snapshot) -> Result<Self::Field> {
        let tree = load.required(row, row.name())?;
        check_tree(&tree).map(|()| tree)
    }

    fn list(field: &Self::Field, row: &SectionRow<Self>, files: &mut Vec<Listed>) {
        row.list(row.name().into(), field, files);
    }

    #[cfg(test)]
    fn sample(_: &SectionRow<Self>, _: &Snapshot) -> Self::Field {
        let threads = vec![SAMPLE, SAMPLE + 1];
        vec![PstreeEntry { pid: SAMPLE, pgid: SAMPLE, sid: SAMPLE, threads, ..Default::default() }]
    }
}

/// The entries left.
fn collect<M: Entry>(name: &str, mut file: Decoder<'_>) -> Result<Vec<M>> {
    bounded(name, || file.entry())
}

/// All that `next` gives. An empty entry takes four bytes of its file, and many times that in
/// memory: files of nothing else, which may be sparse, are stopped.
fn bounded<T>(name: &str, mut next: impl FnMut() -> Result<Option<T>>) -> Result<Vec<T>> {
    let most = MAX_DECODED / size_of::<T>();
    let mut all = Vec::new();
    while let Some(one) = next()? {
        if all.len() == most {
            return Err(Error::image(name, format!("has more than {most} entries")));
        }
        all.push(one);
    }
    Ok(all)
}

/// The number of everything that has one in a sample.
#[cfg(test)]
pub(super) const SAMPLE: u32 = 0x1b;

#[cfg(test)]
pub(super) fn sample_core() -> CoreEntry {
    CoreEntry { mtype: 1, tc: Some(TaskCoreEntry::default()), ..Default::default() }
}

/// A message with this number in each field that takes one.
#[cfg(test)]
fn sample_message<M: Entry>(number: u8) -> M {
    let mut message = M::default();
    for tag in 1..16 {
        let mut more = message.clone();
        if more.merge(&[tag << 3, number][..]).is_ok() {
            message = more;
        }
    }
    message
}
