//! The story of a dump.
//!
//! 1. Ask the caller (pre-dump), stop the whole tree.
//! 2. Capture everything but page contents; whatever cannot be carried is refused, all at once.
//!    Up to here nothing was changed but registers, which are put back.
//! 3. Write pages, then messages, the inventory last: the dump is whole.
//! 4. Ask the caller again (post-dump); a no takes the dump away.
//! 5. Let the tree run on, stop it, or end it.
//!
//! An error at any step drops [`Member`]s, which lets the tree run on as if nothing had happened.

mod freeze;
mod ids;
mod stats;

use std::collections::BTreeSet;
use std::time::Duration;

use self::freeze::{Member, State};
use self::ids::SharedIds;
use self::stats::Stats;
use super::Outcome;
use super::hooks::{Hooks, Stage};
use crate::error::{Context, Refusals, Result};
use crate::images::dir::{Creation, ImageDir};
use crate::images::proto::{InventoryEntry, PstreeEntry, SeccompEntry};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::images::write::write;
use crate::kernel::dumpee::FrozenTask;
use crate::log::Log;
use crate::objects::files::{Collector, CollectorOptions};
use crate::objects::{memory, namespaces, task};
use crate::options::Request;

/// Image format 1.1.
const IMAGE_VERSION: u32 = 2;
/// The only set of control groups: they are not managed.
const ROOT_CGROUP_SET: u32 = 1;

/// Dumps the tree that the request names.
pub fn dump(request: &Request, hooks: &mut dyn Hooks, log: &Log) -> Result<Outcome> {
    let root = request.pid()?;
    let images = request.images()?.try_clone_to_owned().doing(|| "dup of the image directory")?;
    let dir = ImageDir::new(images);
    hooks.notify(Stage::PreDump, Some(root))?;
    let mut stats = Stats::start();
    let mut members = freeze::freeze(root, Duration::from_secs(request.options.timeout().into()))?;
    stats.frozen();
    log.info(format!("{} tasks are stopped", members.len()));
    let mut dump = capture(request, &mut members)?;
    log.info("captured all but memory");
    let creation = dir.begin()?;
    dump.write_memory(&members, &creation, &mut stats)?;
    let committed = write(&dump.snapshot, creation)?;
    log.info("the images are whole");
    if let Err(error) = hooks.notify(Stage::PostDump, Some(root)) {
        committed.revoke()?;
        return Err(error);
    }
    let tasks = finish(request, members)?;
    stats.finish(request.work()?)?;
    log.info(format!("{tasks} tasks are let go"));
    Ok(Outcome::Dumped)
}

/// What was captured, and what writing the memory needs.
struct Dump {
    snapshot: Snapshot,
    layouts: Vec<(u32, memory::Layout)>,
    shared: memory::SharedMemory,
}

fn capture(request: &Request, members: &mut [Member]) -> Result<Dump> {
    let mut refusals = Refusals::default();
    freeze::check_session(&members[0], request.options.shell_job(), &mut refusals);
    let mut ids = SharedIds::new()?;
    let mut dump = Dump {
        snapshot: Snapshot {
            inventory: inventory(&ids),
            tree: members.iter().map(pstree_entry).collect(),
            seccomp: Some(SeccompEntry::default()),
            ..Snapshot::default()
        },
        layouts: Vec::new(),
        shared: memory::SharedMemory::default(),
    };
    let mut collector = Collector::new(collector_options(request, members))?;
    for member in members.iter_mut() {
        let pid = member.pid.cast_unsigned();
        let image = match &mut member.state {
            State::Zombie { exit_status } => TaskImage {
                core: task::zombie_core(&member.comm, *exit_status),
                ..TaskImage::default()
            },
            State::Alive(frozen) => {
                let mut one = Capture { dump: &mut dump, ids: &mut ids, collector: &mut collector };
                one.task(frozen, &mut refusals).doing(|| format!("pid {pid}"))?
            }
        };
        dump.snapshot.tasks.insert(pid, image);
    }
    collector.finish(&mut dump.snapshot, &mut refusals)?;
    namespaces::capture(&mut dump.snapshot, &mut refusals)?;
    refusals.check()?;
    Ok(dump)
}

fn collector_options(request: &Request, members: &[Member]) -> CollectorOptions {
    CollectorOptions {
        service_socket: request.service_socket,
        ghost_limit: request.options.ghost_limit().into(),
        file_locks: request.options.file_locks(),
        shell_job: request.options.shell_job(),
        pids: members.iter().map(|member| member.pid).collect::<BTreeSet<i32>>(),
    }
}

struct Capture<'a> {
    dump: &'a mut Dump,
    ids: &'a mut SharedIds,
    collector: &'a mut Collector,
}

impl Capture<'_> {
    fn task(&mut self, frozen: &mut FrozenTask, refusals: &mut Refusals) -> Result<TaskImage> {
        let ids = self.ids.identify(frozen, refusals)?;
        if !self.dump.snapshot.descriptor_tables.contains_key(&ids.files_id) {
            let table = self.collector.add_table(frozen, refusals)?;
            self.dump.snapshot.descriptor_tables.insert(ids.files_id, table);
        }
        let fs = self.collector.add_fs(frozen, refusals)?;
        let layout =
            memory::capture(frozen, self.collector, &mut self.dump.shared, refusals)?;
        let captured = task::capture_process(frozen, refusals)?;
        let mm = layout.mm(frozen.pid, captured.mm)?;
        self.dump.layouts.push((frozen.pid.cast_unsigned(), layout));
        Ok(TaskImage {
            core: captured.leader,
            threads: captured.threads,
            ids: Some(ids),
            mm: Some(mm),
            fs: Some(fs),
            pagemap: None,
        })
    }
}

impl Dump {
    /// Pages of every address space, then of what they share; one pages file each.
    fn write_memory(
        &mut self,
        members: &[Member],
        creation: &Creation,
        stats: &mut Stats,
    ) -> Result<()> {
        let mut pages_id = 0;
        for (pid, layout) in &self.layouts {
            let frozen = members.iter().find(|member| member.pid.cast_unsigned() == *pid);
            let Some(frozen) = frozen.and_then(Member::frozen) else { continue };
            pages_id += 1;
            let pagemap = memory::write_pages(frozen, layout, creation, pages_id)
                .doing(|| format!("pid {pid}: memory"))?;
            stats.add(&pagemap);
            self.snapshot.tasks.entry(*pid).or_default().pagemap = Some(pagemap);
        }
        self.shared.write_pages(&mut self.snapshot, creation, pages_id)?;
        stats.memory_written();
        Ok(())
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

/// Returns how many tasks there were. Children end before their parents, who might react.
fn finish(request: &Request, members: Vec<Member>) -> Result<usize> {
    let count = members.len();
    for member in members.into_iter().rev() {
        let State::Alive(frozen) = member.state else { continue };
        if request.options.leave_stopped() {
            frozen.leave_stopped()?;
        } else if request.options.leave_running() {
            frozen.release()?;
        } else {
            frozen.kill()?;
        }
    }
    Ok(count)
}
