//! How likely the kernel is to pick a process when memory runs out.

use std::fs;

use super::attribute::{Attribute, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded};
use crate::error::{Context, Error, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::proc;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::dumpee::FrozenTask;

pub struct OomScore;

impl Attribute for OomScore {
    fn read(&self, task: &FrozenTask, draft: &mut Draft) -> Result<()> {
        draft.entry.oom_score_adj = Some(of(task.pid)?);
        Ok(())
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        match task.entry.oom_score_adj() {
            -1000..=1000 => Ok(()),
            adjustment => Err(Error::image(task.file(), format!("oom_score_adj {adjustment}"))),
        }
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Confinement, Step::Act(rebuild))]
    }
}

/// The adjustment of a process.
fn of(pid: HostPid) -> Result<i32> {
    let path = path(pid);
    let text = proc::text(&path).doing(|| format!("read {path}"))?;
    text.trim().parse().map_err(|_| Error::image(&path, format!("{text:?} is no number")))
}

/// Sets the adjustment, unless it is already so.
fn rebuild(process: &Rebuild<'_>, _: &mut Turn<'_>) -> Result<()> {
    let pid = process.task.host_pid();
    let Some(adjustment) = process.task.entry.oom_score_adj else { return Ok(()) };
    if of(pid)? == adjustment {
        return Ok(());
    }
    let path = path(pid);
    fs::write(&path, adjustment.to_string())
        .doing(|| format!("write {adjustment} to {path}"))
        .map_err(|error| {
            error.remedy("restore with CAP_SYS_RESOURCE or with an oom_score_adj as low")
        })
}

fn path(pid: HostPid) -> String {
    format!("/proc/{pid}/oom_score_adj")
}
