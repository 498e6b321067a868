//! Scheduling of a thread: policy, priority, nice value.
//!
//! The engine asks and sets them from outside, whatever the thread's credentials are. The
//! processors that a thread may run on are no part of an image: a restored one has its starter's.

use super::attribute::{Attribute, Seen, Step};
use super::draft::ThreadDraft;
use super::{Rebuild, RecordedThread};
use crate::error::{Context, Error, Refusals, Result};
use crate::images::proto::ThreadCoreEntry;
use crate::kernel::pid::HostPid;
use crate::kernel::sched::{self, Policy};
use crate::objects::phases::{Phase, Turn};

/// The flag of a policy that children do not get it.
const RESET_ON_FORK: u32 = 0x4000_0000;
const FIFO: u32 = libc::SCHED_FIFO as u32;
const RR: u32 = libc::SCHED_RR as u32;
const DEADLINE: u32 = libc::SCHED_DEADLINE as u32;
const PRIORITY_MAX: u32 = 99;

pub struct Scheduling;

impl Attribute for Scheduling {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        refusals: &mut Refusals,
    ) -> Result<()> {
        capture(seen.frozen.tid, &mut thread.entry, refusals)
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        validate(&thread.file(), thread.entry)
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Scheduling, Step::Act(rebuild))]
    }
}

/// Reads policy, priority and nice value into the entry of a thread.
fn capture(tid: HostPid, entry: &mut ThreadCoreEntry, refusals: &mut Refusals) -> Result<()> {
    let policy = sched::policy(tid).doing(|| format!("get the policy of thread {tid}"))?;
    if plain(policy.number) == DEADLINE {
        let reason = "runtime, deadline and period have no field in the image format";
        refusals.refuse(
            format!("thread {tid}"),
            "SCHED_DEADLINE",
            reason,
            "use another policy while it is dumped (chrt)",
        );
    }
    entry.sched_policy = Some(policy.number);
    entry.sched_prio = is_real_time(policy.number).then_some(policy.priority);
    let nice = sched::nice(tid).doing(|| format!("get the nice value of thread {tid}"))?;
    entry.sched_nice = Some(nice);
    Ok(())
}

fn plain(policy: u32) -> u32 {
    policy & !RESET_ON_FORK
}

fn is_real_time(policy: u32) -> bool {
    matches!(plain(policy), FIFO | RR)
}

/// Checks the ranges.
fn validate(file: &str, entry: &ThreadCoreEntry) -> Result<()> {
    let priority = entry.sched_prio();
    let wanted = if is_real_time(entry.sched_policy()) { 1..=PRIORITY_MAX } else { 0..=0 };
    if plain(entry.sched_policy()) == DEADLINE {
        return Err(Error::image(file, "SCHED_DEADLINE is not carried by the image format"));
    }
    if !wanted.contains(&priority) || !(-20..=19).contains(&entry.sched_nice()) {
        return Err(Error::image(file, "policy, priority and nice value do not go together"));
    }
    Ok(())
}

/// Late: the scheduler may prefer a thread to the engine from then on, or let it wait for everybody
/// else.
fn rebuild(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    turn.blank()?;
    process.task.threads.iter().try_for_each(|thread| set(thread.host_tid(), thread.entry))
}

/// Gives a thread its nice value and policy.
fn set(tid: HostPid, entry: &ThreadCoreEntry) -> Result<()> {
    if let Some(nice) = entry.sched_nice {
        sched::set_nice(tid, nice).doing(|| format!("set nice {nice} of thread {tid}"))?;
    }
    let Some(number) = entry.sched_policy else { return Ok(()) };
    let policy = Policy { number, priority: entry.sched_prio() };
    sched::set_policy(tid, policy).doing(|| format!("set policy {number} of thread {tid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sys::gettid;

    #[test]
    fn scheduling_of_a_thread_is_read_and_set() {
        let batch = ThreadCoreEntry {
            sched_policy: Some(libc::SCHED_BATCH as u32 | RESET_ON_FORK),
            sched_nice: Some(4),
            ..ThreadCoreEntry::default()
        };
        validate("core-1.img", &batch).unwrap();
        std::thread::spawn(move || {
            set(gettid(), &batch).unwrap();
            let mut seen = ThreadCoreEntry::default();
            let mut refusals = Refusals::default();
            capture(gettid(), &mut seen, &mut refusals).unwrap();
            refusals.check().unwrap();
            assert_eq!(seen, batch);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let fifo = ThreadCoreEntry { sched_policy: Some(FIFO), ..ThreadCoreEntry::default() };
        assert!(validate("core-1.img", &fifo).is_err());
        validate("core-1.img", &ThreadCoreEntry { sched_prio: Some(5), ..fifo }).unwrap();
    }
}
