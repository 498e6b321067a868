//! Checks of the cores of a process, before anything of it is built.

use super::{
    credentials, dumpable, fpu, itimers, mdwe, membarrier, oom_score, pdeath_signal, pending,
    personality, posix_timers, registers, rlimits, robust_list, rseq, scheduling, seccomp,
    sigaction, state,
};
use crate::error::{Error, Result};
use crate::images::proto::{
    CoreEntry, SeccompEntry, TaskCoreEntry, TaskExtrasEntry, ThreadCoreEntry, ThreadExtrasEntry,
    core_entry,
};
use crate::images::sections::SECTIONS;
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::xsave::Layout;

/// Checks a process by itself.
pub fn validate(snapshot: &Snapshot, pid: u32) -> Result<()> {
    let task = &snapshot.tasks[&pid];
    let extras = snapshot.extras.iter().find(|extras| extras.pid == pid);
    let none = SeccompEntry::default();
    let filters = snapshot.seccomp.as_ref().unwrap_or(&none);
    validate_image(pid, task, extras, filters)
}

/// The same; `extras` are those of the process, `filters` those of the tree.
pub(super) fn validate_image(
    pid: u32,
    task: &TaskImage,
    extras: Option<&TaskExtrasEntry>,
    filters: &SeccompEntry,
) -> Result<()> {
    let file = SECTIONS.core.of(pid);
    let entry = task.core.tc.as_ref().ok_or_else(|| missing(&file, "the task"))?;
    state::validate(&file, entry)?;
    if task.core.is_zombie() {
        return Ok(());
    }
    let tids: Vec<u32> = std::iter::once(pid).chain(task.threads.iter().map(|t| t.0)).collect();
    validate_process(&file, entry, &tids)?;
    if let Some(extras) = extras {
        mdwe::validate(&file, extras)?;
    }
    dumpable::validate(&SECTIONS.mm.of(pid), task.mm.as_ref().and_then(|mm| mm.dumpable))?;
    validate_thread(&file, &task.core, thread_extras(extras, pid), filters)?;
    task.threads.iter().try_for_each(|(tid, core)| {
        validate_thread(&SECTIONS.core.of(*tid), core, thread_extras(extras, *tid), filters)
    })
}

/// The extras of a thread, if it has any.
pub fn thread_extras(extras: Option<&TaskExtrasEntry>, tid: u32) -> Option<&ThreadExtrasEntry> {
    extras?.threads.iter().find(|thread| thread.tid == tid)
}

fn missing(file: &str, what: &str) -> Error {
    Error::image(file, format!("{what} is missing"))
        .remedy("images of CRIU before 4.0 are not read; dump again")
}

fn validate_process(file: &str, entry: &TaskCoreEntry, tids: &[u32]) -> Result<()> {
    let timers = entry.timers.as_ref().ok_or_else(|| missing(file, "the list of timers"))?;
    itimers::validate(file, &[&timers.real, &timers.virt, &timers.prof])?;
    posix_timers::validate(file, &timers.posix, tids)?;
    let limits = entry.rlimits.as_ref().ok_or_else(|| missing(file, "the list of limits"))?;
    rlimits::validate(file, limits)?;
    let shared = entry.signals_s.as_ref().ok_or_else(|| missing(file, "the pending signals"))?;
    pending::validate(file, shared)?;
    sigaction::validate(file, &entry.sigactions)?;
    personality::validate(file, entry.personality)?;
    oom_score::validate(file, entry.oom_score_adj())?;
    membarrier::validate(file, entry.membarrier_registration_mask())
}

fn validate_thread(
    file: &str,
    core: &CoreEntry,
    extras: Option<&ThreadExtrasEntry>,
    filters: &SeccompEntry,
) -> Result<()> {
    if core.mtype() != core_entry::March::X8664 {
        return Err(Error::image(file, "the task ran on another kind of processor"));
    }
    let info = core.thread_info.as_ref().ok_or_else(|| missing(file, "the processor state"))?;
    registers::validate(file, &info.gpregs)?;
    registers::validate_tls(file, &info.tls)?;
    let extra_state = extras.map_or(&[][..], |extras| &extras.xstate);
    fpu::validate(file, &info.fpregs, extra_state, Layout::host())?;
    let entry = core.thread_core.as_ref().ok_or_else(|| missing(file, "the thread"))?;
    validate_thread_core(file, entry)?;
    seccomp::validate(file, entry, filters)
}

fn validate_thread_core(file: &str, entry: &ThreadCoreEntry) -> Result<()> {
    let creds = entry.creds.as_ref().ok_or_else(|| missing(file, "the credentials"))?;
    credentials::validate(file, creds)?;
    let private = entry.signals_p.as_ref().ok_or_else(|| missing(file, "the pending signals"))?;
    pending::validate(file, private)?;
    robust_list::validate(file, entry.futex_rla_len)?;
    scheduling::validate(file, entry)?;
    pdeath_signal::validate(file, entry.pdeath_sig)?;
    entry.rseq_entry.iter().try_for_each(|registered| rseq::validate(file, registered))
}

/// Checks that the engine has the capabilities and limits that the process is to have.
pub fn check_reach(pid: u32, task: &TaskImage, reach: &credentials::Reach) -> Result<()> {
    let tids = std::iter::once(pid).chain(task.threads.iter().map(|thread| thread.0));
    let cores = std::iter::once(&task.core).chain(task.threads.iter().map(|thread| &thread.1));
    for (tid, core) in tids.zip(cores) {
        if let Some(creds) = core.thread_core.as_ref().and_then(|entry| entry.creds.as_ref()) {
            credentials::check_reach(&SECTIONS.core.of(tid), creds, reach)?;
        }
    }
    let wanted = task.core.tc.as_ref().and_then(|entry| entry.rlimits.as_ref());
    match (wanted, reach.limits()) {
        (Some(limits), Some(ours)) => rlimits::check_reach(&SECTIONS.core.of(pid), limits, ours),
        _ => Ok(()),
    }
}
