//! Resource limits of a process.
//!
//! Read from `/proc/PID/limits`, which needs no right over the process, and set by the process
//! itself: the engine may not touch the limits of another user's process without
//! CAP_SYS_RESOURCE, and everybody may lower their own. Nobody may raise a hard limit without it,
//! so the restoring program must have at least the dumped ones.

use super::attribute::{Attribute, Step};
use super::draft::Draft;
use super::{Reach, Rebuild, Recorded};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{RlimitEntry, TaskRlimitsEntry};
use crate::kernel::proc;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;
use crate::tracee::dumpee::FrozenTask;

/// The rows of `/proc/PID/limits` in the order of the resource numbers.
const ROWS: [&str; 16] = [
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
];
/// No limit, in the kernel and in an image.
const INFINITY: u64 = u64::MAX;

pub struct ResourceLimits;

impl Attribute for ResourceLimits {
    fn read(&self, task: &FrozenTask, draft: &mut Draft) -> Result<()> {
        let path = format!("/proc/{}/limits", task.pid);
        let text = proc::text(&path).doing(|| format!("read {path}"))?;
        draft.entry.rlimits = Some(parse(&text)?);
        Ok(())
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        let limits = task.entry.rlimits.as_ref();
        validate(&task.file(), limits.ok_or_else(|| task.missing("the list of limits"))?)
    }

    fn check_reach(&self, task: &Recorded<'_>, reach: &Reach) -> Result<()> {
        match (&task.entry.rlimits, reach.limits()) {
            (Some(limits), Some(ours)) => check_reach(&task.file(), limits, ours),
            _ => Ok(()),
        }
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Limits, Step::Leader(rebuild))]
    }
}

/// Reads the text of `/proc/PID/limits`.
pub fn parse(text: &str) -> Result<TaskRlimitsEntry> {
    let rlimits = ROWS.iter().map(|row| parse_row(text, row)).collect::<Result<_>>()?;
    Ok(TaskRlimitsEntry { rlimits })
}

fn parse_row(text: &str, row: &str) -> Result<RlimitEntry> {
    let values = text.lines().find_map(|line| line.strip_prefix(row));
    let mut values = values.unwrap_or("").split_whitespace().map(parse_value);
    match (values.next().flatten(), values.next().flatten()) {
        (Some(cur), Some(max)) => Ok(RlimitEntry { cur, max }),
        _ => Err(Error::new(Kind::System, format!("/proc/PID/limits has no \"{row}\""))),
    }
}

fn parse_value(text: &str) -> Option<u64> {
    match text {
        "unlimited" => Some(INFINITY),
        number => number.parse().ok(),
    }
}

/// Checks the number of limits and that each soft limit is within its hard one.
fn validate(file: &str, limits: &TaskRlimitsEntry) -> Result<()> {
    if limits.rlimits.len() > ROWS.len() {
        return Err(Error::image(file, format!("{} resource limits", limits.rlimits.len())));
    }
    match ROWS.iter().zip(&limits.rlimits).find(|(_, limit)| limit.cur > limit.max) {
        Some((row, _)) => {
            Err(Error::image(file, format!("{row}: the soft limit is above the hard")))
        }
        None => Ok(()),
    }
}

/// Checks that the restoring program, whose limits these are, can give every limit.
fn check_reach(file: &str, limits: &TaskRlimitsEntry, ours: &TaskRlimitsEntry) -> Result<()> {
    for ((row, wanted), ours) in ROWS.iter().zip(&limits.rlimits).zip(&ours.rlimits) {
        if wanted.max > ours.max {
            let (wanted, ours) = (show(wanted.max), show(ours.max));
            let cause = format!("{file}: {row}: the hard limit {wanted} is above ours, {ours}");
            return Err(Error::new(Kind::Denied, cause)
                .remedy("restore with that hard limit or with CAP_SYS_RESOURCE"));
        }
    }
    Ok(())
}

fn show(limit: u64) -> String {
    if limit == INFINITY { "unlimited".into() } else { limit.to_string() }
}

fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    if let Some(limits) = &process.task.entry.rlimits {
        set(batch, limits);
    }
}

/// Sets all limits.
fn set(batch: &mut Batch, limits: &TaskRlimitsEntry) {
    for (resource, (row, limit)) in ROWS.iter().zip(&limits.rlimits).enumerate() {
        let raw = [limit.cur.to_le_bytes(), limit.max.to_le_bytes()].concat();
        let place = batch.bytes(&raw);
        let what = format!("set the limit \"{row}\" to {}", show(limit.max));
        batch.must(what, libc::SYS_prlimit64, args![0, resource, place, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            1048576              unlimited            bytes     
Max core file size        0                    4096                 bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             96365                96365                processes 
Max open files            100                  200                  files     
Max locked memory         8388608              8388608              bytes     
Max address space         unlimited            unlimited            bytes     
Max file locks            unlimited            unlimited            locks     
Max pending signals       96365                96365                signals   
Max msgqueue size         819200               819200               bytes     
Max nice priority         0                    0                    
Max realtime priority     0                    0                    
Max realtime timeout      unlimited            unlimited            us        
";

    #[test]
    fn the_saved_table_is_read() {
        let limits = parse(SAVED).unwrap();
        assert_eq!(limits.rlimits.len(), 16);
        assert_eq!(limits.rlimits[3], RlimitEntry { cur: 1 << 20, max: INFINITY });
        assert_eq!(limits.rlimits[4], RlimitEntry { cur: 0, max: 4096 });
        assert_eq!(limits.rlimits[7], RlimitEntry { cur: 100, max: 200 });
        assert_eq!(limits.rlimits[15], RlimitEntry { cur: INFINITY, max: INFINITY });
        validate("core-1.img", &limits).unwrap();
        let mut batch = Batch::new();
        set(&mut batch, &limits);
        assert_eq!(batch.len(), 16);
    }

    #[test]
    fn a_table_without_a_row_is_an_error() {
        let text = parse("Max cpu time 1 2\n").unwrap_err().to_string();
        assert_eq!(text, "/proc/PID/limits has no \"Max file size\"");
    }

    #[test]
    fn limits_out_of_reach_are_refused_with_the_remedy() {
        let ours = parse(SAVED).unwrap();
        let mut wanted = ours.clone();
        wanted.rlimits[7].max = 201;
        check_reach("core-1.img", &ours, &ours).unwrap();
        let text = check_reach("core-1.img", &wanted, &ours).unwrap_err().to_string();
        assert!(text.contains("Max open files: the hard limit 201 is above ours, 200"), "{text}");
        wanted.rlimits[7].cur = 300;
        assert!(validate("core-1.img", &wanted).is_err());
    }
}
