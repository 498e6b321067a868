//! The story of a restore.
//!
//! 1. Read and validate everything, but for the contents of very many pages, which are compared while
//!    they are copied; refusals are reported together, nothing is started.
//! 2. Take a tree of blanks through the [phases](crate::objects::phases) that make each of them what
//!    its image says: first what processes share, then the processes, then what is in each of them.
//! 3. Ask the caller (post-restore, pre-resume), then let go.
//!
//! Until step 3 every process is a blank, which dies with its value: a failed restore leaves no
//! trace.

mod asked;
mod building;
mod copier;
mod numbers;
mod spaces;
mod task_logs;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use crate::error::{Refusals, Result, shown};
use crate::helper::{Helper, Later};
use crate::images::dir::ImageDir;
use crate::images::pages::PageFiles;
use crate::images::read::{Dump, read};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::log::Log;
use crate::objects::namespaces::{Entering, Join, Maker};
use crate::objects::phases::Phase;
use crate::objects::task::Reach;
use crate::objects::validate::validate;
use crate::objects::{cgroup, memory, namespaces, task};
use crate::options::Request;
use crate::options::values::JoinNs;
use crate::tracee::blank::Armed;

use self::building::Building;
use self::copier::Copier;
use self::task_logs::TaskLogs;
use super::hooks::{Hooks, Stage};
use super::stats::RestoreStats;
use super::{Outcome, cpuinfo};

/// Restores the tree of the request's images.
pub fn restore(request: &Request, hooks: &mut dyn Hooks, log: &Log) -> Result<Outcome> {
    let mut stats = RestoreStats::start();
    let dir = ImageDir::copy_of(request.images()?)?;
    let root = std::thread::scope(|scope| {
        let helper = Helper::new(scope);
        // What we may do is found out while images are read.
        let reach = helper.give(Reach::ours);
        let prepared = helper.give(memory::prepare);
        let Dump { snapshot, pages, checked } = read(&dir, &helper)?;
        let reach = reach.get()?;
        prepared.get()?;
        let valid = check(&snapshot, &dir, request, &reach);
        // Damaged pages may be why the snapshot is not valid, so they are reported first.
        checked.get().and(valid)?;
        log.info(format!("{} tasks to restore", snapshot.tree.len()));
        let joined = joined(request);
        namespaces::missing(&snapshot, &joined)?.iter().for_each(|note| log.info(note));
        hooks.notify(Stage::PreRestore, None)?;
        if helper.tid().is_some_and(|tid| numbers::of(&snapshot).any(|number| number == tid)) {
            helper.end();
        }
        numbers::wait_until_free(&snapshot)?;
        let logs = TaskLogs::new(request, &snapshot, log)?;
        let namespaces = begin_namespaces(Entering::of(&snapshot, &joined), &helper);
        let forking = Instant::now();
        let (images, copier) = ((&snapshot, &pages), Copier::new(&helper));
        let mut building = Building::begin(request, images, logs, &reach, namespaces, copier)?;
        building.through(Phase::Processes)?;
        stats.forked(forking);
        log.info("the tree is there");
        rebuild(request, building, &pages, &helper, &mut stats, hooks, log)
    })?;
    if let Err(error) = stats.finish(request, log) {
        log.warn(error);
    }
    log.info("Restore finished successfully. Tasks resumed.");
    // The tree runs: a no comes too late to be a failure of the restore.
    if let Err(error) = hooks.notify(Stage::PostResume, Some(root)) {
        log.warn(error);
    }
    Ok(Outcome::Restored { pid: root })
}

/// Makes a tree of blanks what the image says, and lets go. Returns the root's pid.
fn rebuild(
    request: &Request,
    mut building: Building<'_, '_, '_, '_>,
    pages: &PageFiles,
    helper: &Helper<'_, '_>,
    stats: &mut RestoreStats,
    hooks: &mut dyn Hooks,
    log: &Log,
) -> Result<HostPid> {
    let pid = building.root();
    let root = Some(pid);
    hooks.notify(Stage::SetupNamespaces, root)?;
    hooks.notify(Stage::PostSetupNamespaces, root)?;
    building.through(Phase::SharedMemory)?;
    for master in building.take_for_caller() {
        hooks.notify_with_fd(Stage::OrphanPtsMaster, root, master.as_fd())?;
    }
    building.through(Phase::Memory)?;
    stats.filled(building.filled());
    building.through(Phase::LAST)?;
    for zombie in building.coreless() {
        log.warn(format!(
            "pid {zombie}: its zombie has no core dump flag: no core file is written here"
        ));
    }
    building.finish_copying()?;
    helper.dismiss();
    // Nothing of the images has run yet.
    pages.finish()?;
    log.info("memory is filled, all attributes are set");
    hooks.notify(Stage::PostRestore, root)?;
    let (armed, files) = building.arm(request.options.leave_stopped())?;
    hooks.notify(Stage::PreResume, root)?;
    for key in files.unasked() {
        let key = shown(key);
        log.warn(format!("--inherit-fd {key}: nothing in the images is {key}"));
    }
    files.finish()?;
    armed.into_iter().try_for_each(Armed::launch)?;
    Ok(pid)
}

/// Namespaces that the restored root is put into.
fn joined(request: &Request) -> Vec<Join> {
    let join = |join: &JoinNs| Join { kind: join.kind.clone(), file: join.file.clone() };
    request.options.join_ns.iter().map(join).collect()
}

/// Opens or makes the namespaces of the tree, as soon as `helper` gets to it if no process is needed
/// for it: that might have a number of the tree's.
fn begin_namespaces(entering: Entering, helper: &Helper<'_, '_>) -> Later<Vec<OwnedFd>> {
    if entering.needs_process() || !helper.has_thread() {
        return Later::Now(entering.get(Maker::Process));
    }
    helper.give(|| entering.get(Maker::Thread))
}

/// Checks everything before anything is made.
fn check(snapshot: &Snapshot, dir: &ImageDir, request: &Request, reach: &Reach) -> Result<()> {
    cpuinfo::check_at_restore(request, snapshot)?;
    let mut refusals = Refusals::default();
    if request.options.wants_control_groups() {
        cgroup::validate(snapshot, &mut refusals);
    }
    let valid = validate(snapshot, &joined(request), &mut refusals);
    refusals.check().and(valid)?;
    memory::check_stored(snapshot, dir)?;
    snapshot.tasks.keys().try_for_each(|pid| task::check_reach(snapshot, *pid, reach))
}
