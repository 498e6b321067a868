//! The story of a dump.
//!
//! 1. Ask the caller (pre-dump), stop the whole tree.
//! 2. Capture everything; whatever cannot be carried is refused, all at once. In the dumpees
//!    nothing was changed but registers, which are put back. Pages are written meanwhile, unless
//!    the directory holds an older dump: that has to outlive a refusal.
//! 3. Write messages, the inventory last: the dump is whole.
//! 4. Ask the caller again (post-dump); a no takes the dump away.
//! 5. Let the tree run on, stop it, or end it.
//!
//! An error at any step drops [`Member`]s, which lets the tree run on as if nothing had happened.

mod freeze;
mod ids;
mod writer;

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use once_cell::unsync::OnceCell;

use self::freeze::{Member, State};
use self::ids::SharedIds;
use self::writer::{Feed, Pagemaps};
use super::hooks::{Hooks, Stage};
use super::stats::DumpStats;
use super::{Outcome, cpuinfo};
use crate::error::{Context, Refusals, Result};
use crate::helper::Helper;
use crate::images::checksum;
use crate::images::dir::{Creation, ImageDir};
use crate::images::proto::{InventoryEntry, PstreeEntry, SeccompEntry};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::images::write::Store;
use crate::log::Log;
use crate::objects::files::{Collected, Collector, CollectorOptions, Links};
use crate::objects::memory::{Early, Layout, MappedFiles, PrivatePages, SharedMemory};
use crate::objects::{memory, namespaces, task};
use crate::options::values::FileValidation;
use crate::options::{Options, Request, table};
use crate::tracee::dumpee::FrozenTask;

/// Image format 1.1.
const IMAGE_VERSION: u32 = 2;
/// The only set of control groups: they are not managed.
const ROOT_CGROUP_SET: u32 = 1;

/// Dumps the tree that the request names.
pub fn dump(request: &Request, hooks: &mut dyn Hooks, log: &Log) -> Result<Outcome> {
    let root = request.pid()?;
    let dir = ImageDir::copy_of(request.images()?)?;
    let cpuinfo = cpuinfo::wanted(request)?;
    hooks.notify(Stage::PreDump, Some(root))?;
    let mut stats = DumpStats::start();
    let (members, store) = (OnceCell::new(), OnceLock::new());
    let notes = std::thread::scope(|scope| {
        let helper = Helper::new(scope);
        // Found out while the tree is stopped.
        let ids = helper.give(SharedIds::new);
        let mapped = helper.give(MappedFiles::new);
        let first = Cell::new(None);
        let look = || first.set(Some(helper.give(move || memory::look(root))));
        let patience = Duration::from_secs(request.options.timeout().into());
        let members: &Vec<Member> =
            members.get_or_try_init(|| freeze::freeze(root, patience, look))?;
        stats.frozen();
        log.info(format!("{} tasks are stopped", members.len()));
        let prepared = helper.give(|| memory::prepare().map(|()| checksum::prepare()));
        let external = external(request, hooks)?;
        if !dir.has_dump() {
            begin(&dir, &store)?;
        }
        let (mut dump, pagemaps) = writer::write(&helper, members, first.take(), &store, |feed| {
            let known = (ids.get()?, mapped.get()?);
            let mut dump = capture(request, external, members, known, feed)?;
            prepared.get()?;
            dump.snapshot.cpuinfo = cpuinfo;
            log.info("captured all but memory");
            begin(&dir, &store)?.common(&dump.snapshot).map(|()| dump)
        })?;
        let store = store.get().expect("begun at the latest when all was captured");
        let pages_ids = dump.write_shared_memory(&pagemaps, store.creation(), &mut stats)?;
        let committed = store.finish(&dump.snapshot, pages_ids)?;
        log.info("the images are whole");
        if let Err(error) = hooks.notify(Stage::PostDump, Some(root)) {
            committed.revoke()?;
            return Err(error);
        }
        dump.links.keep();
        Ok(dump.notes)
    })?;
    for note in &notes {
        log.warn(note);
    }
    let tasks = finish(request, members.into_inner().expect("stopped"))?;
    // The dump is whole and the tree is gone: figures that cannot be stored do not undo that.
    if let Err(error) = stats.finish(request, log) {
        log.warn(error);
    }
    log.info(format!("{tasks} tasks are let go"));
    log.info("Dumping finished successfully");
    Ok(Outcome::Dumped)
}

/// Begins to write the dump, if that was not done yet.
///
/// It ends the life of an older dump in the directory, which a new one that is refused must not; so
/// where there is one, this has to wait until all is known to be carried.
fn begin<'a>(dir: &ImageDir, store: &'a OnceLock<Store>) -> Result<&'a Store> {
    match store.get() {
        Some(begun) => Ok(begun),
        None => {
            let begun = Store::new(dir.begin()?);
            Ok(store.get_or_init(|| begun))
        }
    }
}

/// What was captured.
struct Dump {
    snapshot: Snapshot,
    shared: SharedMemory,
    notes: Vec<String>,
    /// Dropped with a dump that fails, they are removed.
    links: Links,
}

/// What is said to belong to the outside, by the options and by the caller now.
fn external(request: &Request, hooks: &mut dyn Hooks) -> Result<Vec<String>> {
    let asked = Options { external: hooks.query_external()?, ..Options::default() };
    table::check(request.verb, &asked).doing(|| Stage::QueryExtFiles.name())?;
    Ok([request.options.external.clone(), asked.external].concat())
}

fn capture<'a>(
    request: &Request,
    external: Vec<String>,
    members: &'a [Member],
    (ids, mapped): (SharedIds, MappedFiles),
    feed: &Feed<'_, 'a>,
) -> Result<Dump> {
    let mut refusals = Refusals::default();
    freeze::check_zombies(members, &mut refusals);
    freeze::check_session(&members[0], request.options.shell_job(), &mut refusals);
    let mut capture = Capture {
        snapshot: Snapshot {
            tree: members.iter().map(pstree_entry).collect(),
            ..Snapshot::default()
        },
        ids,
        collector: Collector::new(collector_options(request, external)),
        mapped,
        filters: SeccompEntry::default(),
        feed,
    };
    for member in members {
        capture.member(member, &mut refusals).doing(|| format!("pid {}", member.pid))?;
    }
    capture.finish(refusals)
}

fn collector_options(request: &Request, external: Vec<String>) -> CollectorOptions {
    let options = &request.options;
    CollectorOptions {
        shell_job: options.shell_job(),
        file_locks: options.file_locks(),
        link_remap: options.link_remap(),
        ghost_limit: options.ghost_limit().into(),
        external,
        service_socket: request.service_socket,
        build_ids: options.file_validation() == FileValidation::Buildid,
    }
}

struct Capture<'a, 'f, 'w> {
    snapshot: Snapshot,
    ids: SharedIds,
    collector: Collector,
    mapped: MappedFiles,
    filters: SeccompEntry,
    feed: &'f Feed<'w, 'a>,
}

impl<'a> Capture<'a, '_, '_> {
    fn member(&mut self, member: &'a Member, refusals: &mut Refusals) -> Result<()> {
        let image = match &member.state {
            State::Zombie { exit_status } => TaskImage {
                core: task::zombie_core(&member.comm, *exit_status),
                ..TaskImage::default()
            },
            State::Alive(frozen) => self.task(frozen, refusals)?,
        };
        // What others have to know of a process; the rest goes to the files at once.
        let known = TaskImage { ids: image.ids, ..TaskImage::default() };
        self.snapshot.tasks.insert(member.pid.cast_unsigned(), known);
        self.feed.add_messages(member.pid, image);
        Ok(())
    }

    fn task(&mut self, frozen: &'a FrozenTask, refusals: &mut Refusals) -> Result<TaskImage> {
        // What can be seen from outside comes first, while the second thread looks at the memory.
        let ids = self.ids.identify(frozen, refusals)?;
        if !self.snapshot.descriptor_tables.contains_key(&ids.files_id) {
            let table = self.collector.add_table(frozen, &mut self.snapshot, refusals)?;
            self.snapshot.descriptor_tables.insert(ids.files_id, table);
        }
        let (shown, mut early) = self.feed.shown(frozen)?;
        let (mut layout, mut refused) = self.layout(frozen, &shown)?;
        let (captured, session) = task::capture_process(frozen, &mut self.filters, refusals)?;
        // The session leaves meanwhile.
        let fs = self.collector.add_fs(frozen, &mut self.snapshot, refusals)?;
        let cleared = session.has_cleared();
        session.finish()?;
        if cleared {
            // What was seen has things that an engine had left which was killed.
            early.iter_mut().for_each(Early::spoil);
            (layout, refused) = self.layout(frozen, &memory::look(frozen.pid)?)?;
        }
        refusals.append(refused);
        // Now, so that the pages are written while the rest is asked.
        let layout = Arc::new(layout);
        self.feed.add_pages(PrivatePages::new(frozen, Arc::clone(&layout), early));
        self.snapshot.extras.extend(captured.extras);
        Ok(TaskImage {
            core: captured.leader,
            threads: captured.threads,
            ids: Some(ids),
            mm: Some(layout.mm(frozen, captured.mm)?),
            fs: Some(fs),
            pagemap: None,
        })
    }

    /// The layout of the memory, and what of it cannot be carried.
    fn layout(&mut self, frozen: &FrozenTask, shown: &memory::Shown) -> Result<(Layout, Refusals)> {
        let mut refusals = Refusals::default();
        let (collector, out) = (&mut self.collector, &mut self.snapshot);
        let mut add_file = |fd, flags, place: &str, refusals: &mut Refusals| {
            collector.add_path(fd, flags, place, out, refusals)
        };
        let known = &mut self.mapped;
        let layout = memory::capture(frozen, shown, known, &mut add_file, &mut refusals)?;
        Ok((layout, refusals))
    }

    fn finish(mut self, mut refusals: Refusals) -> Result<Dump> {
        self.snapshot.inventory = inventory(&self.ids);
        self.snapshot.seccomp = Some(self.filters);
        namespaces::capture(&mut self.snapshot, &mut refusals)?;
        let Collected { shared: files, notes, links } =
            self.collector.finish(&mut self.snapshot, &mut refusals)?;
        refusals.check()?;
        let mut shared = SharedMemory::default();
        for file in files {
            shared.add(file.shmid, file.file, file.size);
        }
        Ok(Dump { snapshot: self.snapshot, shared, notes, links })
    }
}

impl Dump {
    /// Writes what the processes share, in files numbered after those that were written of each
    /// address space. The result is the numbers of all.
    fn write_shared_memory(
        &mut self,
        pagemaps: &Pagemaps,
        creation: &Creation,
        stats: &mut DumpStats,
    ) -> Result<Vec<u32>> {
        pagemaps.values().for_each(|pagemap| stats.add(pagemap));
        let last = u32::try_from(pagemaps.len()).expect("as many as pids at most");
        self.shared.write_pages(&mut self.snapshot, creation, last)?;
        let shared = self.snapshot.shared_memory.values();
        shared.clone().for_each(|pagemap| stats.add_shared(pagemap));
        stats.memory_written();
        Ok(pagemaps.values().chain(shared).map(|pagemap| pagemap.pages_id).collect())
    }
}

fn inventory(ids: &SharedIds) -> InventoryEntry {
    InventoryEntry {
        img_version: IMAGE_VERSION,
        fdinfo_per_id: Some(true),
        root_ids: Some(ids.root_ids()),
        ns_per_id: Some(true),
        root_cg_set: Some(ROOT_CGROUP_SET),
        lsmtype: Some(0),
        network_lock_method: Some(0),
        plugins_entry: Some(Default::default()),
        ..InventoryEntry::default()
    }
}

fn pstree_entry(member: &Member) -> PstreeEntry {
    let threads = match &member.state {
        State::Alive(task) => task.threads.iter().map(|t| t.tid.cast_unsigned()).collect(),
        // So CRIU writes the only thread of a zombie.
        State::Zombie { .. } => vec![0],
    };
    PstreeEntry {
        pid: member.pid.cast_unsigned(),
        ppid: member.ppid.cast_unsigned(),
        pgid: member.pgid.cast_unsigned(),
        sid: member.sid.cast_unsigned(),
        threads,
    }
}

/// Returns how many tasks there were. Children end before their parents, who might react. Whatever
/// happens to one, all others are treated alike.
fn finish(request: &Request, members: Vec<Member>) -> Result<usize> {
    let count = members.len();
    let mut result = Ok(());
    for member in members.into_iter().rev() {
        let State::Alive(frozen) = member.state else { continue };
        let done = if request.options.leave_stopped() {
            frozen.leave_stopped()
        } else if request.options.leave_running() {
            frozen.release()
        } else if request.ends_process {
            frozen.doom()
        } else {
            frozen.kill()
        };
        result = result.and(done);
    }
    result.map(|()| count)
}
