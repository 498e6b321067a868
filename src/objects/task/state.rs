//! Whether a process runs, is stopped, or is dead and waits for its parent.

use libc::{SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};

use super::attribute::Attribute;
use super::draft::Draft;
use super::{comm, pending};
use crate::error::{Error, Result};
use crate::images::proto::{CoreEntry, TaskCoreEntry, core_entry};
use crate::images::snapshot::task_state::{ALIVE, DEAD, STOPPED};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::tracee::dumpee::FrozenTask;

pub struct State;

impl Attribute for State {
    /// A process that has a stop pending is as good as stopped. All queues are searched, whatever was
    /// found before: each is emptied of stops.
    fn settle(&self, task: &FrozenTask, draft: &mut Draft, _: &mut Snapshot) -> Result<()> {
        let private = draft.threads.iter_mut().filter_map(|thread| thread.entry.signals_p.as_mut());
        let queues = private.chain(&mut draft.entry.signals_s);
        let pending = queues.map(pending::take_stop).fold(false, std::ops::BitOr::bitor);
        to_image(&mut draft.entry, task.group_stop.or(pending.then_some(SIGSTOP)));
        Ok(())
    }
}

/// The core of a zombie: nothing but its name and what its parent will be told.
pub fn zombie_core(name: &str, exit_status: i32) -> CoreEntry {
    let (comm, _) = comm::to_image(name.as_bytes());
    CoreEntry {
        mtype: core_entry::March::X8664.into(),
        tc: Some(TaskCoreEntry {
            task_state: DEAD,
            exit_code: exit_status.cast_unsigned(),
            comm,
            ..TaskCoreEntry::default()
        }),
        ..CoreEntry::default()
    }
}

/// Writes down that a process is stopped by this signal, or runs.
fn to_image(entry: &mut TaskCoreEntry, group_stop: Option<i32>) {
    entry.task_state = if group_stop.is_some() { STOPPED } else { ALIVE };
    entry.stop_signo = group_stop.map(i32::cast_unsigned);
}

/// Checks that the state is known.
pub fn validate(file: &str, entry: &TaskCoreEntry) -> Result<()> {
    match entry.task_state {
        ALIVE | DEAD | STOPPED => Ok(()),
        other => Err(Error::image(file, format!("{other} is no state of a task"))),
    }
}

/// The signal that the restored process is to be stopped by, if it is to be.
///
/// An image of CRIU may name another signal than a stopping one; CRIU sends SIGSTOP then.
pub fn stop_signal(task: &TaskImage) -> Option<i32> {
    let entry = task.core.tc.as_ref()?;
    if entry.task_state == STOPPED {
        let signal = entry.stop_signo().cast_signed();
        let stops = matches!(signal, SIGTSTP | SIGTTIN | SIGTTOU);
        return Some(if stops { signal } else { SIGSTOP });
    }
    let cores = std::iter::once(&task.core).chain(task.threads.iter().map(|(_, core)| core));
    let private = cores.filter_map(|core| core.thread_core.as_ref()?.signals_p.as_ref());
    let waits = entry.signals_s.iter().chain(private).any(pending::holds_stop);
    waits.then_some(SIGSTOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_its_name_and_status() {
        let core = zombie_core("gone", 0x8b);
        let entry = core.tc.as_ref().unwrap();
        assert_eq!((entry.task_state, entry.exit_code, entry.comm.as_str()), (DEAD, 0x8b, "gone"));
        assert!(core.thread_core.is_none() && core.thread_info.is_none());
    }

    #[test]
    fn stops_come_back_by_their_own_signal() {
        let mut task = TaskImage::default();
        let mut entry = TaskCoreEntry::default();
        for (stop, want) in [
            (None, None),
            (Some(SIGSTOP), Some(SIGSTOP)),
            (Some(SIGTSTP), Some(SIGTSTP)),
            (Some(libc::SIGTRAP), Some(SIGSTOP)),
        ] {
            to_image(&mut entry, stop);
            validate("core-1.img", &entry).unwrap();
            task.core.tc = Some(entry.clone());
            assert_eq!(stop_signal(&task), want);
        }
    }
}
