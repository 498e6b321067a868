//! The story of a dump.
//!
//! 1. Ask the caller (pre-dump), stop the whole tree.
//! 2. Capture everything; whatever cannot be carried is refused, all at once. In the dumpees
//!    nothing was changed but registers, which are put back. Pages are written meanwhile, unless
//!    the directory holds an older dump: that has to outlive a refusal.
//! 3. Write what is left, then the inventory: the dump is whole.
//! 4. Ask the caller again (post-dump); a no takes the dump away.
//! 5. Let the tree run on, stop it, or end it.
//!
//! Each state of the dump is a type that is made of the one before: [`Frozen`], [`Captured`],
//! [`Written`], [`Whole`]. An error at any step drops the [`Member`]s, which lets the tree run on as if
//! nothing had happened.
//!
//! Two threads share the work. The helper looks at the memory of processes while the engine captures
//! their descriptors, and writes pages of some while others are still asked ([`writer`]).

mod capture;
mod freeze;
mod ids;
mod output;
mod verdict;
mod writer;

use std::ffi::OsString;
use std::time::Duration;

use self::capture::Capture;
use self::freeze::{Member, State};
use self::ids::SharedIds;
use self::output::Output;
use self::writer::{Private, Writer};
use super::hooks::{Hooks, Stage};
use super::stats::DumpStats;
use super::{Outcome, cpuinfo};
use crate::error::Result;
use crate::helper::{Helper, Later};
use crate::images::checksum;
use crate::images::dir::{Committed, ImageDir};
use crate::images::proto::CpuinfoEntry;
use crate::images::snapshot::Snapshot;
use crate::images::write::Store;
use crate::kernel::pid::HostPid;
use crate::log::Log;
use crate::objects::files::{Collected, DescriptorLimit, Links, SharedFile};
use crate::objects::memory::{self, MappedFiles, SharedMemory, Shown};
use crate::options::Request;

/// Dumps the tree that the request names.
pub fn dump(request: &Request, hooks: &mut dyn Hooks, log: &Log) -> Result<Outcome> {
    let root = request.pid()?;
    let dir = ImageDir::copy_of(request.images()?)?;
    let cpuinfo = cpuinfo::wanted(request)?;
    hooks.notify(Stage::PreDump, Some(root))?;
    let mut stats = DumpStats::start();
    // Both outlive the helper, which reads the memory of the members and writes to the store.
    let (mut members, mut store) = (Vec::new(), None);
    let notes = std::thread::scope(|scope| {
        let helper = Helper::new(scope);
        let frozen = Frozen::stop(request, root, &helper, &mut members)?;
        stats.frozen();
        log.info(format!("{} tasks are stopped", frozen.members.len()));
        let external = external(request, hooks)?;
        let output = Output::new(&dir, &mut store)?;
        let captured = frozen.capture(request, external, &helper, output.begun())?;
        log.info("captured all but memory");
        let written = captured.write(cpuinfo, output.begin()?, &helper, &mut stats)?;
        let whole = written.commit()?;
        log.info("the images are whole");
        whole.offer(hooks, root)
    })?;
    for note in &notes {
        log.warn(note);
    }
    let tasks = let_go(request, members)?;
    // The dump is whole and the tree is gone: figures that cannot be stored do not undo that.
    if let Err(error) = stats.finish(request, log) {
        log.warn(error);
    }
    log.info(format!("{tasks} tasks are let go"));
    log.info("Dumping finished successfully");
    Ok(Outcome::Dumped)
}

/// The tree is stopped. The helper finds out what is needed to capture it.
struct Frozen<'a> {
    members: &'a [Member],
    /// At the memory of the root.
    look: Later<Shown>,
    ids: Later<SharedIds>,
    mapped: Later<MappedFiles>,
    prepared: Later<()>,
}

impl<'a> Frozen<'a> {
    /// Stops the tree below `root`.
    fn stop(
        request: &Request,
        root: HostPid,
        helper: &Helper<'_, '_>,
        members: &'a mut Vec<Member>,
    ) -> Result<Self> {
        // What belongs to the engine itself is found out while the tree is stopped.
        let ids = helper.give(SharedIds::new);
        let mapped = helper.give(MappedFiles::new);
        let timeout = Duration::from_secs(request.options.timeout().into());
        let look_at_root = || helper.give(move || memory::look(root));
        let (stopped, look) = freeze::freeze(root, timeout, look_at_root)?;
        *members = stopped;
        let prepared = helper.give(|| memory::prepare().map(|()| checksum::prepare()));
        Ok(Self { members, look, ids, mapped, prepared })
    }

    /// Captures everything but the contents of memory. Pages and messages of processes are written
    /// meanwhile, if there is a store to write them to.
    fn capture<'scope>(
        self,
        request: &Request,
        external: Vec<OsString>,
        helper: &Helper<'scope, '_>,
        store: Option<&'a Store>,
    ) -> Result<Captured<'a>>
    where
        'a: 'scope,
    {
        let Self { members, look, ids, mapped, prepared } = self;
        let alive: Vec<HostPid> = members.iter().filter_map(|m| Some(m.frozen()?.pid)).collect();
        let writer = Writer::start(helper, &alive, look, store);
        let mut capture = Capture::new(request, external, members, &writer, (ids, mapped))?;
        members.iter().try_for_each(|member| capture.member(member))?;
        let (snapshot, files) = capture.finish()?;
        prepared.get()?;
        Ok(Captured { snapshot, files, writer })
    }
}

/// All is known that stands in messages, and nothing of it was refused.
struct Captured<'a> {
    snapshot: Snapshot,
    files: Collected,
    writer: Writer<'a>,
}

impl<'a> Captured<'a> {
    /// Writes what was not written meanwhile: what belongs to the whole tree, what is left of the
    /// processes, and the memory that they share.
    fn write(
        mut self,
        cpuinfo: Option<CpuinfoEntry>,
        store: &'a Store,
        helper: &Helper<'_, '_>,
        stats: &mut DumpStats,
    ) -> Result<Written<'a>> {
        self.snapshot.cpuinfo = cpuinfo;
        self.writer.set_store(store);
        store.common(&self.snapshot)?;
        let Self { mut snapshot, files, writer } = self;
        let Collected { shared, notes, links, limit } = files;
        let Private { pagemaps, last_id } = writer.finish(helper)?;
        pagemaps.values().for_each(|pagemap| stats.add(pagemap));
        shared_memory(shared).write_pages(&mut snapshot, store.creation(), last_id)?;
        snapshot.shared_memory.values().for_each(|pagemap| stats.add_shared(pagemap));
        stats.memory_written();
        let all = pagemaps.values().chain(snapshot.shared_memory.values());
        let pages_ids = all.map(|pagemap| pagemap.pages_id).collect();
        Ok(Written { store, snapshot, pages_ids, notes, links, limit })
    }
}

/// Everything is in its files, but without an inventory they are no dump.
struct Written<'a> {
    store: &'a Store,
    snapshot: Snapshot,
    /// Numbers of all pages files.
    pages_ids: Vec<u32>,
    notes: Vec<String>,
    links: Links,
    /// The snapshot may hold very many open files.
    limit: Option<DescriptorLimit>,
}

impl<'a> Written<'a> {
    /// Makes the dump whole.
    fn commit(self) -> Result<Whole<'a>> {
        let Self { store, snapshot, pages_ids, notes, links, limit } = self;
        let committed = store.finish(&snapshot, pages_ids)?;
        drop((snapshot, limit));
        Ok(Whole { committed, notes, links })
    }
}

/// The dump is whole, and may still be taken back.
struct Whole<'a> {
    committed: Committed<'a>,
    notes: Vec<String>,
    links: Links,
}

impl Whole<'_> {
    /// Asks the caller, whose no takes the dump away. Returns what the caller is to be told.
    fn offer(self, hooks: &mut dyn Hooks, root: HostPid) -> Result<Vec<String>> {
        if let Err(error) = hooks.notify(Stage::PostDump, Some(root)) {
            self.committed.revoke()?;
            return Err(error);
        }
        self.links.keep();
        Ok(self.notes)
    }
}

fn shared_memory(files: Vec<SharedFile>) -> SharedMemory {
    let mut memory = SharedMemory::default();
    for file in files {
        memory.add(file.shmid, file.file, file.size);
    }
    memory
}

/// What is said to belong to the outside, by the options and by the caller now.
fn external(request: &Request, hooks: &mut dyn Hooks) -> Result<Vec<OsString>> {
    let asked = hooks.query_external()?;
    Ok([request.options.external.clone(), asked].concat())
}

/// Returns how many tasks there were. Children end before their parents, who might react. Whatever
/// happens to one, all others are treated alike.
fn let_go(request: &Request, members: Vec<Member>) -> Result<usize> {
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
