//! From the stopped processes to a snapshot, one process after the other.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::freeze::{self, Member, State};
use super::ids::SharedIds;
use super::verdict::Verdict;
use super::writer::Writer;
use crate::error::{Context, Refusals, Result};
use crate::helper::Later;
use crate::images::dir::ImageDir;
use crate::images::payload::Spool;
use crate::images::proto::{InventoryEntry, PstreeEntry, TaskKobjIdsEntry};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::pid::HostPid;
use crate::objects::files::{Collected, Collector, CollectorOptions};
use crate::objects::memory::{Early, Layout, MappedFiles, PrivatePages, Shown};
use crate::objects::pids;
use crate::objects::{cgroup, memory, namespaces, task, validate};
use crate::options::Request;
use crate::options::values::FileValidation;
use crate::tracee::dumpee::{FrozenTask, Injection};

/// Image format 1.1.
const IMAGE_VERSION: u32 = 2;
/// The only set of control groups: they are not managed.
const ROOT_CGROUP_SET: u32 = 1;

/// What was captured so far, and what was refused.
pub struct Capture<'a, 'w> {
    snapshot: Snapshot,
    ids: SharedIds,
    collector: Collector,
    mapped: MappedFiles,
    verdict: Verdict,
    writer: &'w Writer<'a>,
}

impl<'a, 'w> Capture<'a, 'w> {
    /// Nothing is captured but the shape of the tree. The messages and pages of each process will be
    /// given to `writer`.
    pub fn new(
        request: &Request,
        external: Vec<OsString>,
        members: &[Member],
        writer: &'w Writer<'a>,
        (ids, mapped): (Later<SharedIds>, Later<MappedFiles>),
    ) -> Result<Self> {
        let mut verdict = Verdict::default();
        let refusals = &mut verdict.refused;
        freeze::check_zombies(members, refusals);
        freeze::check_session(&members[0], request.options.shell_job(), refusals);
        if request.options.wants_control_groups() {
            let frozen = members.iter().filter_map(Member::frozen);
            let threads = frozen.flat_map(|task| task.threads.iter().map(|t| (task.pid, t.tid)));
            cgroup::check(threads, refusals)?;
        }
        let tree = members.iter().map(pstree_entry).collect();
        let spool = Spool::new(ImageDir::copy_of(request.images()?)?);
        Ok(Self {
            snapshot: Snapshot { tree, ..Snapshot::default() },
            ids: ids.get()?,
            collector: Collector::new(collector_options(request, external), spool),
            mapped: mapped.get()?,
            verdict,
            writer,
        })
    }

    /// Captures one process; the order is that of the members.
    pub fn member(&mut self, member: &'a Member) -> Result<()> {
        let image = match &member.state {
            State::Zombie { exit_status } => TaskImage {
                core: task::zombie_core(&member.comm, *exit_status),
                ..TaskImage::default()
            },
            State::Alive(frozen) => self.task(frozen).doing(|| format!("pid {}", member.pid))?,
        };
        let pid = pids::tree(member.pid);
        self.snapshot.tasks.insert(pid, image);
        let place = format!("pid {pid}");
        self.verdict.judge(&place, |no| validate::process(&self.snapshot, pid, no));
        self.hand_over(member.pid);
        Ok(())
    }

    /// Gives the messages of a process to the writer. The snapshot keeps what others have to know.
    fn hand_over(&mut self, pid: HostPid) {
        if let Some(task) = self.snapshot.tasks.get_mut(&pids::tree(pid)) {
            let known = TaskImage { ids: task.ids, ..TaskImage::default() };
            self.writer.add_messages(pid, std::mem::replace(task, known));
        }
    }

    /// What can be seen from outside comes first, while the helper looks at the memory. The pages are
    /// given to the writer as soon as nothing more is asked of the process, before its messages are
    /// put together.
    fn task(&mut self, frozen: &'a FrozenTask) -> Result<TaskImage> {
        let ids = self.ids.identify(frozen, &mut self.verdict.refused)?;
        self.descriptor_table(frozen, &ids)?;
        let memory = self.memory(frozen)?;
        let (captured, session) =
            task::capture_process(frozen, &mut self.snapshot, &mut self.verdict.refused)?;
        // The session leaves the process meanwhile.
        let fs = self.collector.add_fs(frozen, &mut self.snapshot, &mut self.verdict.refused)?;
        let Memory { layout, early, refused } = self.leave(frozen, session, memory)?;
        self.verdict.refused.append(refused);
        let layout = Arc::new(layout);
        self.writer.add_pages(PrivatePages::new(frozen, Arc::clone(&layout), early));
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

    /// A table that several processes share is captured with the first of them.
    fn descriptor_table(&mut self, frozen: &FrozenTask, ids: &TaskKobjIdsEntry) -> Result<()> {
        if !self.snapshot.descriptor_tables.contains_key(&ids.files_id) {
            let table =
                self.collector.add_table(frozen, &mut self.snapshot, &mut self.verdict.refused)?;
            self.snapshot.descriptor_tables.insert(ids.files_id, table);
        }
        Ok(())
    }

    fn memory(&mut self, frozen: &'a FrozenTask) -> Result<Memory<'a>> {
        let (shown, early) = self.writer.shown(frozen)?;
        let (layout, refused) = self.layout(frozen, &shown)?;
        Ok(Memory { layout, early, refused })
    }

    /// Waits until the session has left the process.
    ///
    /// What an engine that was killed had left in the process is taken away by the session: then the
    /// layout that was seen before is not the one that will be restored.
    fn leave(
        &mut self,
        frozen: &'a FrozenTask,
        session: Injection<'a>,
        mut memory: Memory<'a>,
    ) -> Result<Memory<'a>> {
        let cleared = session.has_cleared();
        session.finish()?;
        if cleared {
            memory.early.iter_mut().for_each(Early::spoil);
            (memory.layout, memory.refused) = self.layout(frozen, &memory::look(frozen.pid)?)?;
        }
        Ok(memory)
    }

    /// The layout of the memory, and what of it cannot be carried.
    fn layout(&mut self, frozen: &FrozenTask, shown: &Shown) -> Result<(Layout, Refusals)> {
        let mut refused = Refusals::default();
        let (collector, out) = (&mut self.collector, &mut self.snapshot);
        let mut add_file = |fd, head, place: &str, refusals: &mut Refusals| {
            collector.add_path(fd, head, place, out, refusals)
        };
        let layout = memory::capture(frozen, shown, &mut self.mapped, &mut add_file, &mut refused)?;
        Ok((layout, refused))
    }

    /// Captures what needs all processes to be known. Whatever was refused is an error now.
    pub fn finish(mut self) -> Result<(Snapshot, Collected)> {
        self.snapshot.inventory = inventory(&self.ids);
        namespaces::capture(&mut self.snapshot, &mut self.verdict.refused)?;
        self.verdict.settle();
        let files = self.collector.finish(&mut self.snapshot, &mut self.verdict.refused)?;
        self.verdict.judge("the tree", |no| validate::tree(&self.snapshot, &[], no));
        self.verdict.check()?;
        Ok((self.snapshot, files))
    }
}

/// What was seen of a process's memory.
struct Memory<'a> {
    layout: Layout,
    early: Option<Early<'a>>,
    /// What of it cannot be carried.
    refused: Refusals,
}

fn collector_options(request: &Request, external: Vec<OsString>) -> CollectorOptions {
    let options = &request.options;
    CollectorOptions {
        shell_job: options.shell_job(),
        file_locks: options.file_locks(),
        link_remap: options.link_remap(),
        ghost_limit: options.ghost_limit(),
        external,
        service_socket: request.service_socket,
        build_ids: options.file_validation() == FileValidation::Buildid,
        patience: match options.timeout() {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds.into()),
        },
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
        State::Alive(task) => task.threads.iter().map(|t| pids::tree(t.tid).number()).collect(),
        // So CRIU writes the only thread of a zombie.
        State::Zombie { .. } => vec![0],
    };
    PstreeEntry {
        pid: pids::tree(member.pid).number(),
        ppid: pids::tree(member.ppid).number(),
        pgid: pids::tree(member.pgid).number(),
        sid: pids::tree(member.sid).number(),
        threads,
    }
}
