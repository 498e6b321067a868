//! The image files of a checkpoint: one table, from which everything that knows them is made.
//!
//! A row says of one kind of file in which field of [`Snapshot`] its contents stand, in which
//! [form](super::forms), how it is named and what its second magic word is. The fields of
//! [`Snapshot`] and [`TaskImage`], the [names](Image::name), the reader, the writer, what `criu
//! show` lists and what the fuzzers make up follow from the rows: an image file more is a row more.
//!
//! Rows are read in the order of the table, so that a file whose name another one tells (a
//! namespace's, a ghost file's) stands behind it. CRIU's `magic.h` is where the numbers are from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;

use super::forms::*;
use super::pid::TreePid;
use super::proto::*;
use super::read::Load;
use super::snapshot::{GhostFile, Pagemap};
use super::write::Store;
use crate::error::Result;

/// Makes the fields of [`Snapshot`] and [`TaskImage`], and all that goes through them one by one.
///
/// A row is `field: Form = ("name", magic)`. Behind the magic word follow, where the form wants
/// them, `by` a function of an entry (its number, or the length of its payload) and `of` the
/// numbers in the names, as what was read before tells them.
macro_rules! sections {
    (
        first { $( $(#[$first_doc:meta])* $first:ident: $first_form:ty = $first_row:tt; )* }
        task { $core:ident = $core_row:tt; $( $(#[$own_doc:meta])* $own:ident: $own_form:ty = $own_row:tt; )* }
        then { $( $(#[$then_doc:meta])* $then:ident: $then_form:ty = $then_row:tt; )* }
    ) => {
        /// A whole checkpoint except the contents of pages.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Snapshot {
            $( $(#[$first_doc])* pub $first: <$first_form as Section>::Field, )*
            /// What is known of each process, by pid (zombies have only a core).
            pub tasks: BTreeMap<TreePid, TaskImage>,
            $( $(#[$then_doc])* pub $then: <$then_form as Section>::Field, )*
        }

        /// One process: its leader's core, its threads, its memory.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct TaskImage {
            /// core-PID.img
            pub $core: CoreEntry,
            /// core-TID.img of every thread but the leader, in the order of pstree.img.
            pub threads: Vec<(TreePid, CoreEntry)>,
            $( $(#[$own_doc])* pub $own: Option<<$own_form as TaskSection>::Value>, )*
        }

        /// The rows of the table, by the fields that they fill.
        #[derive(Debug)]
        pub struct Sections {
            $( pub $first: Row<<$first_form as Section>::Format, <$first_form as Section>::Ids>, )*
            pub $core: Row<One<CoreEntry>, ()>,
            $( pub $own: Row<<$own_form as TaskSection>::Format, ()>, )*
            $( pub $then: Row<<$then_form as Section>::Format, <$then_form as Section>::Ids>, )*
        }

        /// The table.
        pub static SECTIONS: Sections = Sections {
            $( $first: row!($first_row), )*
            $core: row!($core_row),
            $( $own: row!($own_row), )*
            $( $then: row!($then_row), )*
        };

        impl Sections {
            /// Every kind of image file, with the field of [`Snapshot`] or [`TaskImage`] it fills.
            pub fn all(&self) -> Vec<(&'static str, Image)> {
                vec![
                    $( (stringify!($first), self.$first.image), )*
                    (stringify!($core), self.$core.image),
                    $( (stringify!($own), self.$own.image), )*
                    $( (stringify!($then), self.$then.image), )*
                ]
            }
        }

        impl Sections {
            /// Whether the file of this name may be larger than memory.
            pub fn is_streamed(&self, name: &str) -> bool {
                $( self.$first.streams(name) || )*
                self.$core.streams(name)
                $( || self.$own.streams(name) )*
                $( || self.$then.streams(name) )*
            }
        }

        impl Snapshot {
            /// Reads what has to be known before the processes are read.
            pub(super) fn load_first(load: &Load<'_>) -> Result<Self> {
                let mut snapshot = Self::default();
                $( snapshot.$first = <$first_form as Section>::load(&SECTIONS.$first, load, &snapshot)?; )*
                Ok(snapshot)
            }

            /// Reads everything that stands behind the processes.
            pub(super) fn load_rest(&mut self, load: &Load<'_>) -> Result<()> {
                $( self.$then = <$then_form as Section>::load(&SECTIONS.$then, load, self)?; )*
                Ok(())
            }

            /// Writes everything that is no single process's; what is complete only when all memory
            /// is written, only if `late`.
            pub(super) fn store(&self, store: &Store, late: bool) -> Result<()> {
                $( if <$first_form as Section>::LATE == late {
                    <$first_form as Section>::store(&self.$first, &SECTIONS.$first, store)?;
                } )*
                $( if <$then_form as Section>::LATE == late {
                    <$then_form as Section>::store(&self.$then, &SECTIONS.$then, store)?;
                } )*
                Ok(())
            }

            /// The files that it is, or would be, stored in.
            pub fn files(&self) -> Vec<Listed> {
                let mut files = Vec::new();
                $( <$first_form as Section>::list(&self.$first, &SECTIONS.$first, &mut files); )*
                self.tasks.iter().for_each(|(pid, task)| task.list(*pid, &mut files));
                $( <$then_form as Section>::list(&self.$then, &SECTIONS.$then, &mut files); )*
                files
            }

            /// One with something in every section.
            #[cfg(test)]
            pub fn sample() -> Self {
                let mut sample = Self::default();
                $( sample.$first = <$first_form as Section>::sample(&SECTIONS.$first, &sample); )*
                sample.tasks = [(TreePid::new(super::forms::SAMPLE), TaskImage::sample())].into();
                $( sample.$then = <$then_form as Section>::sample(&SECTIONS.$then, &sample); )*
                sample
            }

            /// The sections that hold nothing.
            #[cfg(test)]
            fn vacant(&self) -> Vec<&'static str> {
                let empty = Self::default();
                let mut vacant = Vec::new();
                $( if self.$first == empty.$first { vacant.push(stringify!($first)); } )*
                if self.tasks.is_empty() { vacant.push("tasks"); }
                $( if self.$then == empty.$then { vacant.push(stringify!($then)); } )*
                vacant
            }
        }

        impl TaskImage {
            /// Reads what a process that lives has beside its cores.
            pub(super) fn load(load: &Load<'_>, pid: TreePid, core: CoreEntry) -> Result<Self> {
                $( let $own = Some(<$own_form as TaskSection>::load(&SECTIONS.$own, load, pid, &core)?); )*
                Ok(Self { $core: core, threads: Vec::new(), $( $own, )* })
            }

            /// Writes all that there is.
            pub(super) fn store(&self, store: &Store, pid: TreePid) -> Result<()> {
                $( if let Some(value) = &self.$own {
                    store.file(&SECTIONS.$own, SECTIONS.$own.of(pid), value)?;
                } )*
                Ok(())
            }

            fn list(&self, pid: TreePid, files: &mut Vec<Listed>) {
                let cores = self.$core.tc.iter().map(|_| pid);
                let cores = cores.chain(self.threads.iter().map(|(tid, _)| *tid));
                files.extend(cores.map(|tid| Listed { name: SECTIONS.$core.of(tid), entries: 1 }));
                $( if let Some(value) = &self.$own {
                    SECTIONS.$own.list(SECTIONS.$own.of(pid), value, files);
                } )*
            }

            #[cfg(test)]
            fn sample() -> Self {
                Self {
                    $core: super::forms::sample_core(),
                    threads: vec![(TreePid::new(super::forms::SAMPLE + 1), super::forms::sample_core())],
                    $( $own: Some(<$own_form as TaskSection>::sample(&SECTIONS.$own)), )*
                }
            }
        }
    };
}

macro_rules! row {
    (($pattern:literal, $magic:literal $(, by $how:expr)? $(, of $ids:expr)?)) => {
        Row {
            image: Image { pattern: $pattern, magic: $magic },
            how: row!(@or_unit $($how)?),
            ids: row!(@or_unit $($ids)?),
        }
    };
    (@or_unit) => { () };
    (@or_unit $value:expr) => { $value };
}

sections! {
    first {
        /// inventory.img
        inventory: Inventory = ("inventory.img", 0x5831_3116);
        /// pstree.img: parents stand before their children, the root first.
        tree: Tree = ("pstree.img", 0x5027_3030);
    }
    task {
        core = ("core-{}.img", 0x5505_3847);
        /// ids-PID.img; a zombie has none.
        ids: Ids = ("ids-{}.img", 0x5443_2030);
        /// mm-PID.img; a zombie has none.
        mm: Own<One<MmEntry>> = ("mm-{}.img", 0x5749_2820);
        /// fs-PID.img; a zombie has none.
        fs: Own<One<FsEntry>> = ("fs-{}.img", 0x5140_3912);
        /// pagemap-PID.img; a zombie has none.
        pagemap: Own<Pagemap> = ("pagemap-{}.img", 0x5608_4025);
    }
    then {
        /// fdinfo-ID.img, by the `files_id` of the tasks that share the table.
        descriptor_tables: ById<List<FdinfoEntry>> = ("fdinfo-{}.img", 0x5621_3732, of tables);
        /// files.img: open file descriptions by id.
        files: Indexed<FileEntry> = ("files.img", 0x5630_3138, by |file| file.id);
        /// pipes-data.img: contents of pipes.
        pipe_data: Payloads<PipeDataEntry> = ("pipes-data.img", 0x5645_3709, by |one| one.bytes);
        /// fifo-data.img: contents of named pipes.
        fifo_data: Payloads<PipeDataEntry> = ("fifo-data.img", 0x5933_3054, by |one| one.bytes);
        /// sk-queues.img: datagrams waiting in sockets.
        socket_queues: Payloads<SkPacketEntry> = ("sk-queues.img", 0x5626_4026, by |one| one.length);
        /// tty-info.img
        tty_info: List<TtyInfoEntry> = ("tty-info.img", 0x5945_3036);
        /// tty-data.img
        tty_data: List<TtyDataEntry> = ("tty-data.img", 0x5941_3026);
        /// remap-fpath.img: files whose name is gone.
        remaps: List<RemapFilePathEntry> = ("remap-fpath.img", 0x5913_3954);
        /// ghost-file-ID.img by id.
        ghosts: ById<GhostFile> = ("ghost-file-{:x}.img", 0x5258_3605, of ghosts);
        /// memfd.img
        memfd_inodes: List<MemfdInodeEntry> = ("memfd.img", 0x4845_3499);
        /// pagemap-shmem-ID.img by shmid: contents of shared memory and memfds.
        shared_memory: ById<Pagemap, u64> = ("pagemap-shmem-{}.img", 0x5608_4025, of shared_memory);
        /// filelocks.img
        file_locks: List<FileLockEntry> = ("filelocks.img", 0x5432_3616);
        /// cgroup.img
        cgroup: Optional<CgroupEntry> = ("cgroup.img", 0x5938_3330);
        /// seccomp.img
        seccomp: Optional<SeccompEntry> = ("seccomp.img", 0x6441_3049);
        /// timens-ID.img: clocks by time namespace; 0 stands for that of the dumping engine.
        timens: ById<One<TimensEntry>> = ("timens-{}.img", 0x4311_4433, of clocks);
        /// utsns-ID.img
        utsns: ById<One<UtsnsEntry>> = ("utsns-{}.img", 0x5447_3203, of |all| space(all, |ids| ids.uts_ns_id));
        /// ipcns-var-ID.img
        ipc_vars: ById<One<IpcVarEntry>> = ("ipcns-var-{}.img", 0x5311_5007, of |all| space(all, |ids| ids.ipc_ns_id));
        /// `task-extras`: what CRIU's format has no field for. Ours, so without the ending by which
        /// other tools look for images they know; the magic word spells "LCTX".
        extras: List<TaskExtrasEntry> = ("task-extras", 0x5854_434c);
        /// cpuinfo.img
        cpuinfo: Optional<CpuinfoEntry> = ("cpuinfo.img", 0x6140_4013);
    }
}

/// How one kind of image file is named and marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name, with `{}` (or `{:x}`) where a number stands.
    pub pattern: &'static str,
    /// Its second magic word; the only one of the inventory.
    pub magic: u32,
}

impl Image {
    /// The name of the only file of this kind.
    pub fn name(&self) -> &'static str {
        debug_assert!(!self.pattern.contains('{'), "{} has a number", self.pattern);
        self.pattern
    }

    /// The name of the file with this number.
    pub fn of(&self, number: impl Into<u64>) -> String {
        let number: u64 = number.into();
        match (self.pattern.split_once("{:x}"), self.pattern.split_once("{}")) {
            (Some((start, end)), _) => format!("{start}{number:x}{end}"),
            (_, Some((start, end))) => format!("{start}{number}{end}"),
            _ => self.pattern.to_owned(),
        }
    }

    /// Whether a file of this name is of this kind.
    pub fn is(&self, name: &str) -> bool {
        let Some((start, rest)) = self.pattern.split_once('{') else { return name == self.pattern };
        let (radix, end) = rest.strip_prefix(":x}").map_or((10, &rest[1..]), |end| (16, end));
        let number = name.strip_prefix(start).and_then(|name| name.strip_suffix(end));
        number.is_some_and(|number| u64::from_str_radix(number, radix).is_ok())
    }
}

/// A row of the table: a kind of file, and what its form has to know beyond that.
pub struct Row<F: Format, I> {
    image: Image,
    /// For the [`Format`] of the file.
    pub(super) how: F::How,
    /// For the numbers in the names.
    pub(super) ids: I,
}

impl<F: Format, I> Deref for Row<F, I> {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl<F: Format, I> fmt::Debug for Row<F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.image.fmt(f)
    }
}

impl<F: Format, I> Row<F, I> {
    fn streams(&self, name: &str) -> bool {
        F::STREAMED && self.is(name)
    }

    pub(super) fn list(&self, name: String, value: &F::Value, files: &mut Vec<Listed>) {
        files.push(Listed { name, entries: F::count(value) });
    }
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// How many messages it holds, those that only say how long the bytes behind them are left out.
    pub entries: usize,
}

/// The tables of descriptors that tasks have.
fn tables(all: &Snapshot) -> BTreeSet<u32> {
    all.tasks.values().filter_map(|task| task.ids.as_ref()).map(|ids| ids.files_id).collect()
}

/// The files that have no name any more, nor any other.
fn ghosts(all: &Snapshot) -> BTreeSet<u32> {
    let ghosts = all.remaps.iter().filter(|remap| remap.remap_type() == RemapType::Ghost);
    ghosts.map(|remap| remap.remap_id).collect()
}

/// The memory that mappings and memfds refer to.
fn shared_memory(all: &Snapshot) -> BTreeSet<u64> {
    let mms = all.tasks.values().filter_map(|task| task.mm.as_ref());
    let mapped = mms.flat_map(|mm| mm.vmas.iter().map(|vma| vma.shmid));
    let memfds = all.memfd_inodes.iter().map(|inode| u64::from(inode.shmid));
    mapped.chain(memfds).filter(|shmid| *shmid != 0).collect()
}

/// The namespace of one type that the root is in.
fn space(all: &Snapshot, of: fn(&TaskKobjIdsEntry) -> Option<u32>) -> BTreeSet<u32> {
    let root = all.tree.first().and_then(|root| all.tasks.get(&root.tree_pid())?.ids.as_ref());
    root.and_then(of).into_iter().collect()
}

fn clocks(all: &Snapshot) -> BTreeSet<u32> {
    let mut ids = space(all, |ids| ids.time_ns_id);
    ids.insert(0);
    ids
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::images::dir::ImageDir;
    use crate::images::read::read_unchecked;
    use crate::images::write;

    #[test]
    fn what_fills_every_row_is_written_listed_and_read_back() {
        let path = std::env::temp_dir().join(format!("criu-sections-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let dir = ImageDir::new(std::fs::File::open(&path).unwrap().into());
        let sample = Snapshot::sample();
        assert_eq!(sample.vacant(), [""; 0]);
        // Pages are written by who copies them.
        let creation = dir.begin().unwrap();
        creation.create("pages-27.img").unwrap();
        write::write(&sample, creation).unwrap();
        assert_eq!(read_unchecked(&dir).unwrap(), sample);
        let listed: HashSet<String> = sample.files().into_iter().map(|file| file.name).collect();
        let beside = ["manifest".to_owned(), "pages-27.img".to_owned()];
        let stored: HashSet<String> = dir.names().unwrap().into_iter().collect();
        std::fs::remove_dir_all(path).unwrap();
        assert_eq!(stored, listed.iter().cloned().chain(beside).collect());
        for (field, image) in SECTIONS.all() {
            assert!(listed.iter().any(|name| image.is(name)), "{field} is in no file");
        }
    }

    #[test]
    fn a_name_is_of_one_row() {
        let rows = SECTIONS.all();
        for (field, image) in &rows {
            let name = image.of(0xf5_u32);
            assert!(image.is(&name), "{field}: {name}");
            assert_eq!(rows.iter().filter(|(_, image)| image.is(&name)).count(), 1, "{name}");
        }
        assert_eq!(SECTIONS.ghosts.of(0xf5_u32), "ghost-file-f5.img");
        assert!(!SECTIONS.pagemap.is("pagemap-shmem-1.img"));
    }
}
