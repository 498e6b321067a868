//! A tree under construction, taken through the [phases](crate::objects::phases).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;

use super::asked;
use super::copier::Copier;
use super::spaces::AddressSpaces;
use super::task_logs::TaskLogs;
use crate::engine::tree::{self, Plan, Tree, Who};
use crate::error::{Context, Result};
use crate::helper::Later;
use crate::images::pages::PageFiles;
use crate::images::pid::TreePid;
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::pin::Pin;
use crate::objects::files::OpenFiles;
use crate::objects::memory::Filled;
use crate::objects::phases::{Circumstances, Phase, Turn, Walk, World};
use crate::objects::pids;
use crate::objects::task::{Reach, Rebuild};
use crate::objects::{memory, task};
use crate::options::Request;
use crate::tracee::blank::{Armed, Blank, SpawnSpec};

/// An address space with more pages than this is filled by several threads, which one processor
/// would slow down more than round trips between processors do.
const MAX_PINNED_PAGES: u64 = 4096;

/// A tree under construction: blanks for every process that is not there yet.
pub struct Building<'a, 'h, 'scope, 'env> {
    snapshot: &'a Snapshot,
    pages: &'a PageFiles,
    logs: TaskLogs<'a>,
    walk: Walk,
    /// How the tree comes to be: the first blank, its namespaces, the lives of all.
    spawn: SpawnSpec,
    namespaces: Option<Later<Vec<OwnedFd>>>,
    plan: Plan,
    /// Every process that is no zombie, parents first.
    tasks: Vec<Rebuild<'a>>,
    /// Pids and wait statuses.
    zombies: Vec<(HostPid, i32)>,
    /// Zombies whose core dump flag could not be had.
    coreless: Vec<HostPid>,
    tree: Tree,
    spaces: AddressSpaces<'a>,
    files: OpenFiles<'a>,
    copier: Copier<'h, 'scope, 'env>,
    pin: Option<Pin>,
}

impl<'a, 'h, 'scope, 'env> Building<'a, 'h, 'scope, 'env> {
    /// Nothing is there yet but what address spaces share.
    pub fn begin(
        request: &Request,
        (snapshot, pages): (&'a Snapshot, &'a PageFiles),
        logs: TaskLogs<'a>,
        reach: &'a Reach,
        namespaces: Later<Vec<OwnedFd>>,
        copier: Copier<'h, 'scope, 'env>,
    ) -> Result<Self> {
        let outer = if request.options.shell_job() { Some(asked::outer()?) } else { None };
        let alive = snapshot.tree.iter().filter(|entry| !is_zombie(snapshot, entry.tree_pid()));
        let tasks = alive.map(|entry| Rebuild::new(snapshot, entry.tree_pid(), reach));
        let mut building = Self {
            snapshot,
            pages,
            logs,
            walk: Walk::default(),
            spawn: asked::spawn_spec(request, snapshot)?,
            namespaces: Some(namespaces),
            plan: tree::plan(&tree::nodes(snapshot), outer)?,
            tasks: tasks.collect::<Result<_>>()?,
            zombies: zombies(snapshot),
            coreless: Vec::new(),
            tree: Tree::default(),
            spaces: AddressSpaces::new(snapshot, pages)?,
            files: OpenFiles::new(snapshot, asked::of_files(request)?)?,
            copier,
            pin: None,
        };
        building.walk = Walk::new(&Circumstances {
            zombies: !building.zombies.is_empty(),
            lent_rights: reach.is_lent(),
            shared_address_space: share_memory(snapshot),
        });
        Ok(building)
    }

    /// Goes on up to the end of a phase.
    pub fn through(&mut self, last: Phase) -> Result<()> {
        let mut walk = std::mem::take(&mut self.walk);
        let done = walk.through(last, self);
        self.walk = walk;
        done
    }

    /// The pid of the root of the tree.
    pub fn root(&self) -> HostPid {
        pids::host(self.snapshot.root().tree_pid())
    }

    /// Descriptors that are for the caller: masters of terminals whose other holders were outside of
    /// the tree.
    pub fn take_for_caller(&mut self) -> Vec<OwnedFd> {
        self.files.take_for_caller()
    }

    /// How many pages were put where.
    pub fn filled(&self) -> Filled {
        self.spaces.figures()
    }

    /// Zombies whose core dump flag could not be had.
    pub fn coreless(&self) -> &[HostPid] {
        &self.coreless
    }

    /// All pages are there when this is back.
    pub fn finish_copying(&mut self) -> Result<()> {
        self.copier.finish()
    }

    /// The blanks live until every process exists.
    fn make_processes(&mut self) -> Result<()> {
        if largest(self.snapshot) <= MAX_PINNED_PAGES {
            self.pin = Some(Pin::here()?);
        }
        let mut root = Blank::spawn(&self.spawn)?;
        if let Some(namespaces) = self.namespaces.take() {
            root.join(&namespaces.get()?)?;
        }
        let (spaces, files) = (&mut self.spaces, &self.files);
        let mut on_clone =
            |by: Who, blank: &mut Blank, child: Who| spaces.before_clone(files, by, blank, child);
        self.tree = Tree::build(root, &self.plan, &mut on_clone)?;
        for entry in &self.snapshot.tree {
            self.logs.done(entry.tree_pid(), "the process is there");
        }
        Ok(())
    }

    fn fill_shared_memory(&mut self) -> Result<()> {
        for shared in self.files.take_shared() {
            let file = File::from(shared.file);
            memory::fill_shared(&file, shared.shmid, shared.size, self.snapshot, self.pages)?;
        }
        Ok(())
    }

    /// Final registers everywhere; children come before their parents in the result.
    pub fn arm(self, leave_stopped: bool) -> Result<(Vec<Armed>, OpenFiles<'a>)> {
        let Self { logs, tasks, tree, files, pin, .. } = self;
        let tasks: BTreeMap<HostPid, &Rebuild<'_>> =
            tasks.iter().map(|process| (process.task.host_pid(), process)).collect();
        let arm = |blank: Blank| {
            let process = tasks[&blank.pid()];
            let asked = if leave_stopped { Some(libc::SIGSTOP) } else { None };
            let stop = asked.or_else(|| task::stop_signal(process.task.image));
            let armed = blank.arm(&process.final_states()?, stop)?;
            logs.done(process.task.pid, "registers; ready to go");
            Ok(armed)
        };
        let armed: Vec<Armed> = tree.into_blanks().into_iter().map(arm).collect::<Result<_>>()?;
        if let Some(pin) = &pin {
            // Released only now, as a thread that is not armed yet has to run once more, and would
            // do so on another processor.
            let mut threads = armed.iter().flat_map(Armed::thread_ids);
            threads.try_for_each(|tid| pin.release(tid))?;
        }
        Ok((armed, files))
    }
}

impl World for Building<'_, '_, '_, '_> {
    fn once(&mut self, phase: Phase) -> Result<()> {
        self.files.run(phase, self.tree.blanks())?;
        match phase {
            Phase::Processes => self.make_processes(),
            Phase::SharedMemory => self.fill_shared_memory(),
            Phase::Zombies => {
                self.coreless = self.tree.bury(&self.zombies)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn each(&mut self, phases: &[Phase]) -> Result<()> {
        let names: Vec<String> = phases.iter().map(Phase::to_string).collect();
        let names = names.join(", ");
        let Self { tree, logs, tasks, spaces, files, copier, .. } = self;
        let mut parts = Parts { spaces, files, copier };
        for process in &*tasks {
            let pid = process.task.pid;
            let blank = tree.get_mut(process.task.host_pid())?;
            Turn::take(blank, phases, |phase, turn| parts.take(phase, process, turn))
                .doing(|| format!("pid {pid}"))
                .inspect_err(|error| logs.failed(pid, error))?;
            logs.done(pid, &format!("set up: {names}"));
        }
        Ok(())
    }
}

/// What a process is made of.
struct Parts<'p, 'a, 'h, 'scope, 'env> {
    spaces: &'p mut AddressSpaces<'a>,
    files: &'p OpenFiles<'a>,
    copier: &'p mut Copier<'h, 'scope, 'env>,
}

impl Parts<'_, '_, '_, '_, '_> {
    fn take(&mut self, phase: Phase, process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
        if phase == Phase::Memory {
            let mut take = |copying| self.copier.take(copying);
            self.spaces.fill(self.files, turn.blank()?, &mut take)?;
        }
        let mut open = |id, flags| self.files.open_for_map(id, flags);
        memory::take(phase, process.task.image, &mut open, turn)?;
        self.files.take(phase, turn)?;
        process.take(phase, turn)
    }
}

/// Pages of the largest address space or shared object.
fn largest(snapshot: &Snapshot) -> u64 {
    let pagemaps = snapshot.tasks.values().filter_map(|task| task.pagemap.as_ref());
    let all = pagemaps.chain(snapshot.shared_memory.values());
    let pages = all.map(|pagemap| pagemap.entries.iter().map(|entry| entry.nr_pages()).sum());
    pages.max().unwrap_or(0)
}

/// Whether any two processes have the same memory, so that one could use the rights of the other.
fn share_memory(snapshot: &Snapshot) -> bool {
    let mut seen = BTreeSet::new();
    let mut ids = snapshot.tasks.values().filter_map(|task| task.ids);
    ids.any(|ids| !seen.insert(ids.vm_id))
}

fn is_zombie(snapshot: &Snapshot, pid: TreePid) -> bool {
    snapshot.tasks[&pid].core.is_zombie()
}

fn zombies(snapshot: &Snapshot) -> Vec<(HostPid, i32)> {
    let dead = snapshot.tree.iter().filter(|entry| is_zombie(snapshot, entry.tree_pid()));
    dead.map(|entry| {
        let core = &snapshot.tasks[&entry.tree_pid()].core;
        let status = core.tc.as_ref().map_or(0, |tc| tc.exit_code);
        (pids::host(entry.tree_pid()), status.cast_signed())
    })
    .collect()
}
