//! The steps of a restore, each for all processes of the tree.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{getpgrp, getsid};

use super::copier::Copier;
use super::spaces::AddressSpaces;
use super::task_logs::TaskLogs;
use crate::engine::tree::{self, Outer, Plan, Tree, Who};
use crate::error::{Context, Result};
use crate::helper::Later;
use crate::images::pages::PageFiles;
use crate::images::proto::{SeccompEntry, TaskExtrasEntry};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::descriptor;
use crate::kernel::pin::Pin;
use crate::objects::files::{OpenFiles, RestoreOptions};
use crate::objects::memory::Filled;
use crate::objects::phases::Phase;
use crate::objects::task::Rebuild;
use crate::objects::task::credentials::Reach;
use crate::objects::{memory, task};
use crate::options::Request;
use crate::options::values::InheritFd;
use crate::tracee::blank::{Armed, Blank, Delivery, SpawnSpec};

/// Length of the helper area in every process: room for the largest batch.
const HELPER_LEN: u64 = 1 << 20;

/// An address space with more pages than this is filled by several threads, which one processor
/// would slow down more than round trips between processors do.
const MAX_PINNED_PAGES: u64 = 4096;

/// A tree under construction: blanks for every process that is not there yet.
pub struct Building<'a> {
    snapshot: &'a Snapshot,
    pages: &'a PageFiles,
    logs: TaskLogs<'a>,
    filters: SeccompEntry,
    reach: Reach,
    tree: Tree,
    spaces: AddressSpaces<'a>,
    files: OpenFiles<'a>,
    pin: Option<Pin>,
}

/// All processes with their parents, sessions and groups.
pub fn build_tree<'a>(
    request: &Request,
    snapshot: &'a Snapshot,
    pages: &'a PageFiles,
    logs: TaskLogs<'a>,
    reach: Reach,
    namespaces: Later<Vec<OwnedFd>>,
) -> Result<Building<'a>> {
    let outer = if request.options.shell_job() { Some(outer()?) } else { None };
    let plan: Plan = tree::plan(&tree::nodes(snapshot), outer)?;
    let files = OpenFiles::prepare(snapshot, restore_options(request)?)?;
    let mut spaces = AddressSpaces::new(snapshot, pages)?;
    let spec = spawn_spec(request, snapshot)?;
    let pin = if largest(snapshot) <= MAX_PINNED_PAGES { Some(Pin::here()?) } else { None };
    let mut root = Blank::spawn(&spec)?;
    root.join(&namespaces.get()?)?;
    let mut on_clone =
        |by: Who, blank: &mut Blank, child: Who| spaces.before_clone(&files, by, blank, child);
    let tree = Tree::build(root, &plan, &mut on_clone)?;
    snapshot.tree.iter().for_each(|entry| logs.done(entry.pid, "the process is there"));
    let filters = snapshot.seccomp.clone().unwrap_or_default();
    Ok(Building { snapshot, pages, logs, filters, reach, tree, spaces, files, pin })
}

/// Pages of the largest address space or shared object.
fn largest(snapshot: &Snapshot) -> u64 {
    let pagemaps = snapshot.tasks.values().filter_map(|task| task.pagemap.as_ref());
    let all = pagemaps.chain(snapshot.shared_memory.values());
    let pages = all.map(|pagemap| pagemap.entries.iter().map(|entry| entry.nr_pages()).sum());
    pages.max().unwrap_or(0)
}

/// The session and group that a shell job joins: ours.
fn outer() -> Result<Outer> {
    let sid = getsid(None).doing(|| "getsid")?;
    Ok(Outer { sid: sid.as_raw(), pgid: getpgrp().as_raw() })
}

fn spawn_spec(request: &Request, snapshot: &Snapshot) -> Result<SpawnSpec> {
    let all = snapshot.tasks.values().filter_map(|task| task.mm.as_ref());
    let helper = memory::find_helper_hole(all, HELPER_LEN)?;
    let pid = snapshot.root().pid.cast_signed();
    Ok(SpawnSpec {
        helper_len: HELPER_LEN as usize,
        sibling: request.options.rst_sibling(),
        ..SpawnSpec::new(pid, helper)
    })
}

impl<'a> Building<'a> {
    /// The pid of the root of the tree.
    pub fn root(&self) -> i32 {
        self.snapshot.root().pid.cast_signed()
    }

    /// What the engine makes once for all holders: it needs the sessions, but no memory.
    pub fn open_files(&mut self) -> Result<()> {
        for phase in [Phase::Open, Phase::Terminals, Phase::Watch, Phase::SharedMemory] {
            self.files.run(phase, self.tree.blanks())?;
        }
        for shared in self.files.take_shared() {
            let file = File::from(shared.file);
            memory::fill_shared(&file, shared.shmid, shared.size, self.snapshot, self.pages)?;
        }
        Ok(())
    }

    /// Masters of terminals whose other holders were outside of the tree: they go to the caller.
    pub fn orphaned_masters(&mut self) -> Vec<OwnedFd> {
        self.files.take_for_caller()
    }

    /// Layout and contents of every address space; what `copier` takes is there when that has
    /// finished.
    pub fn memory(&mut self, copier: &mut Copier<'_, '_, '_>) -> Result<()> {
        let (spaces, files) = (&mut self.spaces, &self.files);
        let mut all = Tasks { snapshot: self.snapshot, tree: &mut self.tree, logs: &self.logs };
        let mut take = |copying| copier.take(copying);
        all.each("memory", |blank, _| spaces.fill(files, blank, &mut take))
    }

    /// How many pages that took.
    pub fn filled(&self) -> Filled {
        self.spaces.figures()
    }

    /// Recorded places of the memory, directories, umask and descriptor tables; a shared table is
    /// filled by its first holder.
    pub fn descriptors(&mut self) -> Result<()> {
        let (snapshot, files) = (self.snapshot, &self.files);
        let mut filled = BTreeSet::new();
        let mut all = Tasks { snapshot, tree: &mut self.tree, logs: &self.logs };
        all.each("descriptors", |blank, image| {
            let ids = image.ids.filter(|ids| filled.insert(ids.files_id));
            let table = ids.and_then(|ids| snapshot.descriptor_tables.get(&ids.files_id));
            if let Some(table) = table {
                files.prepare_table(blank, table)?;
            }
            let mut delivery = Delivery::to(blank);
            if let Some(mm) = &image.mm {
                let exe = files.open_for_map(mm.exe_file_id, libc::O_RDONLY.cast_unsigned())?;
                memory::set_mm(&mut delivery, mm, &exe)?;
            }
            if let Some(fs) = &image.fs {
                files.install_fs(&mut delivery, fs)?;
            }
            if let Some(table) = table {
                files.install_table(&mut delivery, table)?;
            }
            delivery.flush()
        })
    }

    /// Threads and what belongs to each; then what needs all threads, tables and pages in place.
    pub fn threads(&mut self) -> Result<()> {
        self.each_task("threads", |task, blank| {
            blank.clone_threads(&task.thread_specs())?;
            task.threads(blank)
        })?;
        for phase in [Phase::Owners, Phase::FileLocks, Phase::Seals] {
            self.files.run(phase, self.tree.blanks())?;
        }
        let files = &self.files;
        let mut all = Tasks { snapshot: self.snapshot, tree: &mut self.tree, logs: &self.logs };
        all.each("file locks, protection of memory", |blank, image| {
            files.run_in(Phase::ProcessLocks, blank)?;
            match (&image.mm, &image.pagemap) {
                (Some(mm), Some(pagemap)) => memory::finish(blank, mm, pagemap),
                _ => Ok(()),
            }
        })
    }

    /// Credentials end what privileges are for. Zombies die while their parents still have the
    /// default action for SIGCHLD. Limits would hinder the rest; last comes what lets the outside
    /// interfere. Where no other process could be in the way, one process gets all at once.
    ///
    /// Returns zombies whose core dump flag could not be had.
    pub fn attributes(&mut self) -> Result<Vec<i32>> {
        let zombies = zombies(self.snapshot);
        if zombies.is_empty() && !self.reach.is_lent() && !share_memory(self.snapshot) {
            let what = "credentials, signals, timers, limits, personality, dumpable, rseq";
            self.each_task(what, |task, blank| task.credentials_to_exposure(blank))?;
            return Ok(Vec::new());
        }
        if self.reach.is_lent() {
            // All of them first, as several may share one memory.
            self.each_task("memory opened", |_, blank| blank.memory().map(drop))?;
            self.each_task("memory closed to others", |task, blank| task.shield(blank))?;
        }
        self.each_task("credentials", |task, blank| task.credentials(blank))?;
        let different = self.tree.bury(&zombies)?;
        self.each_task("signals, timers", |task, blank| task.signals(blank))?;
        self.each_task("limits", |task, blank| task.limits(blank))?;
        self.each_task("personality, dumpable, rseq", |task, blank| task.exposure(blank))?;
        Ok(different)
    }

    fn each_task(
        &mut self,
        what: &str,
        mut step: impl FnMut(&Rebuild<'_>, &mut Blank) -> Result<()>,
    ) -> Result<()> {
        let (filters, reach, extras) = (&self.filters, &self.reach, &self.snapshot.extras);
        let mut all = Tasks { snapshot: self.snapshot, tree: &mut self.tree, logs: &self.logs };
        all.each(what, |blank, image| {
            let pid = blank.pid().cast_unsigned();
            step(&Rebuild::new(pid, image, extras_of(extras, pid), filters, reach), blank)
        })
    }

    /// Final registers everywhere; children come before their parents in the result.
    pub fn arm(self, leave_stopped: bool) -> Result<(Vec<Armed>, OpenFiles<'a>)> {
        let Self { snapshot, logs, filters, reach, tree, files, pin, .. } = self;
        let arm = |blank: Blank| {
            let pid = blank.pid().cast_unsigned();
            let image = &snapshot.tasks[&pid];
            let extras = extras_of(&snapshot.extras, pid);
            let finals = Rebuild::new(pid, image, extras, &filters, &reach).final_states()?;
            let stop = if leave_stopped { Some(libc::SIGSTOP) } else { task::stop_signal(image) };
            let armed = blank.arm(&finals, stop)?;
            logs.done(pid, "registers; ready to go");
            Ok(armed)
        };
        let armed: Vec<Armed> = tree.into_blanks().into_iter().map(arm).collect::<Result<_>>()?;
        if let Some(pin) = &pin {
            // Not before they have run for the last time: it would be on another processor.
            let mut threads = armed.iter().flat_map(Armed::thread_ids);
            threads.try_for_each(|tid| pin.release(tid))?;
        }
        Ok((armed, files))
    }
}

/// Every process that is no zombie.
struct Tasks<'s, 't, 'l> {
    snapshot: &'s Snapshot,
    tree: &'t mut Tree,
    logs: &'l TaskLogs<'l>,
}

impl<'s> Tasks<'s, '_, '_> {
    /// Runs `step`, which sets up `what`, for each in the order of the image.
    fn each(
        &mut self,
        what: &str,
        mut step: impl FnMut(&mut Blank, &'s TaskImage) -> Result<()>,
    ) -> Result<()> {
        for entry in &self.snapshot.tree {
            let image = &self.snapshot.tasks[&entry.pid];
            if image.mm.is_none() {
                continue;
            }
            let blank = self.tree.get_mut(entry.pid.cast_signed())?;
            let done = step(blank, image).doing(|| format!("pid {}", entry.pid));
            done.inspect_err(|error| self.logs.failed(entry.pid, error))?;
            self.logs.done(entry.pid, &format!("set up: {what}"));
        }
        Ok(())
    }
}

fn extras_of(extras: &[TaskExtrasEntry], pid: u32) -> Option<&TaskExtrasEntry> {
    extras.iter().find(|extras| extras.pid == pid)
}

/// Whether any two processes have the same memory, so that one could use the rights of the other.
fn share_memory(snapshot: &Snapshot) -> bool {
    let mut seen = BTreeSet::new();
    let mut ids = snapshot.tasks.values().filter_map(|task| task.ids);
    ids.any(|ids| !seen.insert(ids.vm_id))
}

/// Pids and wait statuses.
fn zombies(snapshot: &Snapshot) -> Vec<(i32, i32)> {
    let dead = snapshot.tree.iter().filter(|entry| snapshot.tasks[&entry.pid].mm.is_none());
    dead.map(|entry| {
        let core = &snapshot.tasks[&entry.pid].core;
        let status = core.tc.as_ref().map_or(0, |tc| tc.exit_code);
        (entry.pid.cast_signed(), status.cast_signed())
    })
    .collect()
}

fn restore_options(request: &Request) -> Result<RestoreOptions> {
    let terminal = if request.options.shell_job() { own_terminal()? } else { None };
    Ok(RestoreOptions {
        terminal,
        inherit: inherited(request)?,
        // Without somebody to send it to, our own terminal takes the place as ever.
        orphan_masters: request.options.orphan_pts_master() && request.options.notify_scripts(),
        skip_mode_check: request.options.skip_file_rwx_check(),
        ..RestoreOptions::default()
    })
}

/// Copies of the descriptors that stand for objects of the image.
fn inherited(request: &Request) -> Result<Vec<(String, OwnedFd)>> {
    let copy = |item: &InheritFd| {
        let copied = descriptor::duplicate_above(item.fd, 0).doing(|| {
            format!("--inherit-fd {}: descriptor {} of the restorer", item.key, item.fd)
        })?;
        Ok((item.key.clone(), copied))
    };
    request.options.inherit_fd.iter().map(copy).collect()
}

/// The terminal that stands in for the one of a dumped shell job: that of our own standard files.
fn own_terminal() -> Result<Option<OwnedFd>> {
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let terminal = standard.into_iter().find(|fd| nix::unistd::isatty(fd).unwrap_or(false));
    terminal.map(|fd| fd.try_clone_to_owned().doing(|| "dup of the terminal")).transpose()
}
