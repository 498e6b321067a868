//! The steps of a restore, each for all processes of the tree.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{getpgrp, getsid};

use crate::engine::tree::{self, Outer, Plan, Tree};
use crate::error::{Context, Result};
use crate::images::dir::ImageDir;
use crate::images::names;
use crate::images::proto::{SeccompEntry, TaskExtrasEntry};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::blank::{Armed, Blank, SpawnSpec};
use crate::objects::files::{OpenFiles, RestoreOptions};
use crate::objects::memory::{self, SharedObjects};
use crate::objects::task::Rebuild;
use crate::objects::task::credentials::Reach;
use crate::objects::{namespaces, task};
use crate::options::Request;

/// Length of the helper area in every process: room for the largest batch.
const HELPER_LEN: u64 = 1 << 20;

/// A tree under construction: blanks for every process that is not there yet.
pub struct Building<'a> {
    snapshot: &'a Snapshot,
    dir: &'a ImageDir,
    filters: SeccompEntry,
    reach: Reach,
    tree: Tree,
}

/// All processes with their parents, sessions and groups.
pub fn build_tree<'a>(
    request: &Request,
    snapshot: &'a Snapshot,
    dir: &'a ImageDir,
) -> Result<Building<'a>> {
    let outer = if request.options.shell_job() { Some(outer()?) } else { None };
    let plan: Plan = tree::plan(&tree::nodes(snapshot), outer)?;
    let root = Blank::spawn(&spawn_spec(request, snapshot)?)?;
    Ok(Building {
        snapshot,
        dir,
        filters: snapshot.seccomp.clone().unwrap_or_default(),
        reach: Reach::ours()?,
        tree: Tree::build(root, &plan)?,
    })
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
        namespaces: namespaces::rebuild(snapshot, &request.options.join_ns)?,
        ..SpawnSpec::new(pid, helper)
    })
}

impl<'a> Building<'a> {
    /// Runs `step` for every process that is no zombie, in the order of the image.
    fn each(
        &mut self,
        mut step: impl FnMut(&mut Blank, &'a TaskImage) -> Result<()>,
    ) -> Result<()> {
        for entry in &self.snapshot.tree {
            let image = &self.snapshot.tasks[&entry.pid];
            if image.mm.is_some() {
                let blank = self.tree.get_mut(entry.pid.cast_signed())?;
                step(blank, image).doing(|| format!("pid {}", entry.pid))?;
            }
        }
        Ok(())
    }

    fn each_task(
        &mut self,
        mut step: impl FnMut(&Rebuild<'_>, &mut Blank) -> Result<()>,
    ) -> Result<()> {
        let (filters, reach) = (self.filters.clone(), self.reach);
        let extras = &self.snapshot.extras;
        self.each(|blank, image| {
            let pid = blank.pid().cast_unsigned();
            step(&Rebuild::new(pid, image, extras_of(extras, pid), &filters, reach), blank)
        })
    }

    /// What the engine makes once for all holders: it needs the sessions, but no memory.
    pub fn open_files(&mut self, request: &Request) -> Result<OpenFiles<'a>> {
        let mut files = OpenFiles::open_all(self.snapshot, restore_options(request)?)?;
        files.attach_terminals(self.tree.blanks())?;
        files.watch()?;
        for shared in files.shared_files()? {
            let file = File::from(shared.file);
            memory::fill_shared(&file, shared.shmid, shared.size, self.snapshot, self.dir)?;
        }
        Ok(files)
    }

    /// Layout and contents of every address space. Descriptor tables are still empty, so mapped
    /// files can be handed over at any number.
    pub fn memory(&mut self, files: &OpenFiles<'_>) -> Result<()> {
        let (snapshot, dir) = (self.snapshot, self.dir);
        let shared = SharedObjects::create(snapshot, dir)?;
        self.each(|blank, image| {
            let (Some(mm), Some(pagemap)) = (&image.mm, &image.pagemap) else { return Ok(()) };
            let mut open = |id, flags| files.open_for_map(id, flags);
            memory::map(blank, mm, pagemap, &mut open, &shared)?;
            memory::fill(blank, mm, pagemap, &dir.open(&names::pages(pagemap.pages_id))?)?;
            let exe = files.open_for_map(mm.exe_file_id, libc::O_RDONLY.cast_unsigned())?;
            memory::set_mm(blank, mm, &exe)
        })
    }

    /// Directories, umask and descriptor tables; a shared table is filled by its first holder.
    pub fn descriptors(&mut self, files: &OpenFiles<'_>) -> Result<()> {
        let snapshot = self.snapshot;
        let mut filled = BTreeSet::new();
        self.each(|blank, image| {
            if let Some(fs) = &image.fs {
                files.install_fs(blank, fs)?;
            }
            let table = image.ids.filter(|ids| filled.insert(ids.files_id));
            match table.and_then(|ids| snapshot.descriptor_tables.get(&ids.files_id)) {
                Some(table) => files.install_table(blank, table),
                None => Ok(()),
            }
        })
    }

    /// Threads and what belongs to each; then what needs all threads, tables and pages in place.
    pub fn threads(&mut self, files: &OpenFiles<'_>) -> Result<()> {
        self.each_task(|task, blank| {
            blank.clone_threads(&task.thread_specs())?;
            task.threads(blank)
        })?;
        files.restore_owners()?;
        files.lock()?;
        files.seal()?;
        self.each(|blank, image| {
            files.lock_process(blank)?;
            match (&image.mm, &image.pagemap) {
                (Some(mm), Some(pagemap)) => memory::finish(blank, mm, pagemap),
                _ => Ok(()),
            }
        })
    }

    /// Credentials end what privileges are for. Zombies die while their parents still have the
    /// default action for SIGCHLD; limits come last, they would hinder the rest.
    ///
    /// Returns zombies whose core dump flag could not be had.
    pub fn attributes(&mut self) -> Result<Vec<i32>> {
        self.each_task(|task, blank| task.credentials(blank))?;
        self.each_task(|task, blank| task.after_credentials(blank))?;
        let zombies = zombies(self.snapshot);
        let different = self.tree.bury(&zombies)?;
        self.each_task(|task, blank| task.signals(blank))?;
        self.each_task(|task, blank| task.limits(blank))?;
        Ok(different)
    }

    /// Final registers everywhere; children come before their parents in the result.
    pub fn arm(self, leave_stopped: bool) -> Result<Vec<Armed>> {
        let Self { snapshot, filters, reach, tree, .. } = self;
        let arm = |blank: Blank| {
            let pid = blank.pid().cast_unsigned();
            let image = &snapshot.tasks[&pid];
            let extras = extras_of(&snapshot.extras, pid);
            let finals = Rebuild::new(pid, image, extras, &filters, reach).final_states()?;
            let stop = if leave_stopped { Some(libc::SIGSTOP) } else { task::stop_signal(image) };
            blank.arm(&finals, stop)
        };
        tree.into_blanks().into_iter().map(arm).collect()
    }
}

fn extras_of(extras: &[TaskExtrasEntry], pid: u32) -> Option<&TaskExtrasEntry> {
    extras.iter().find(|extras| extras.pid == pid)
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
        skip_mode_check: request.options.skip_file_rwx_check(),
        ..RestoreOptions::default()
    })
}

/// The terminal that stands in for the one of a dumped shell job: that of our own standard files.
fn own_terminal() -> Result<Option<OwnedFd>> {
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let terminal = standard.into_iter().find(|fd| nix::unistd::isatty(fd).unwrap_or(false));
    terminal.map(|fd| fd.try_clone_to_owned().doing(|| "dup of the terminal")).transpose()
}
