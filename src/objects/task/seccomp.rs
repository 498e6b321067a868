//! Seccomp of a thread: strict mode, or filters.
//!
//! One table of filters serves all tasks. A thread names the filter that it installed first; each
//! filter names the one installed after it (the field is called `prev`, as CRIU's table goes from
//! the newest to the oldest). Threads with equal filters are taken to share them: only the leader
//! has them in the image, marked to be installed for all threads at once.
//!
//! Both modes are installed while the credentials for it are still there, and batches run under
//! them all the same: tracing suspends seccomp.

use super::attribute::{Attribute, Seen, Step};
use super::draft::{Draft, ThreadDraft};
use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::{SeccompEntry, SeccompFilter, SeccompMode, ThreadCoreEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::seccomp::{self, Filter, INSTRUCTION, INSTRUCTIONS_MAX};
use crate::objects::phases::{Phase, Turn};
use crate::tracee::batch::{Batch, CallId, Outcome};
use crate::tracee::dumpee::FrozenTask;

const MODE_STRICT: u32 = 1;
const MODE_FILTER: u32 = 2;
const SET_MODE_FILTER: i32 = 1;
/// Install for all threads of the process.
const TSYNC: u32 = 1 << 0;
/// TSYNC, LOG, SPEC_ALLOW and WAIT_KILLABLE_RECV; a listener would be a descriptor.
const FLAGS: u32 = TSYNC | 1 << 1 | 1 << 2 | 1 << 5;

pub struct Seccomp;

impl Attribute for Seccomp {
    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        _: &mut Refusals,
    ) -> Result<()> {
        let mode = match seen.status.seccomp {
            MODE_FILTER => Some(SeccompMode::Filter),
            MODE_STRICT => Some(SeccompMode::Strict),
            _ => None,
        };
        thread.entry.seccomp_mode = mode.map(i32::from);
        Ok(())
    }

    fn settle(&self, _: &FrozenTask, draft: &mut Draft, all: &mut Snapshot) -> Result<()> {
        capture(&mut draft.threads, all.seccomp.get_or_insert_default())
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        let empty = SeccompEntry::default();
        let table = task.all.seccomp.as_ref().unwrap_or(&empty);
        let mut threads = task.threads.iter();
        threads.try_for_each(|thread| validate(&thread.file(), thread.entry, table))
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Confinement, Step::Act(rebuild))]
    }
}

/// Reads the filters of the threads into the table.
fn capture(threads: &mut [ThreadDraft], table: &mut SeccompEntry) -> Result<()> {
    let mut chains = Vec::with_capacity(threads.len());
    for thread in threads.iter() {
        chains.push(if is_filtered(&thread.entry) { chain(thread.tid)? } else { Vec::new() });
    }
    let shared = is_filtered(&threads[0].entry) && chains.iter().all(|one| *one == chains[0]);
    for (index, thread) in threads.iter_mut().enumerate() {
        if !is_filtered(&thread.entry) {
            continue;
        }
        if shared && index != 0 {
            thread.entry.seccomp_mode = None;
        } else {
            thread.entry.seccomp_filter = Some(store(table, &chains[index], shared));
        }
    }
    Ok(())
}

/// The filters of a thread, oldest first.
fn chain(tid: HostPid) -> Result<Vec<Filter>> {
    let mut chain = Vec::new();
    while let Some(filter) = seccomp::filter(tid, chain.len())
        .doing(|| format!("read the seccomp filters of thread {tid}"))
        .map_err(|error| error.remedy("it needs CAP_SYS_ADMIN and no seccomp of our own"))?
    {
        chain.push(filter);
    }
    Ok(chain)
}

/// Appends a chain to the table, newest first; returns the place of the oldest.
fn store(table: &mut SeccompEntry, chain: &[Filter], shared: bool) -> u32 {
    for (index, filter) in chain.iter().rev().enumerate() {
        let place = table.seccomp_filters.len() as u32;
        table.seccomp_filters.push(SeccompFilter {
            filter: filter.program.clone(),
            prev: (index != 0).then(|| place - 1),
            flags: Some(filter.flags | if shared { TSYNC } else { 0 }),
        });
    }
    (table.seccomp_filters.len() as u32).saturating_sub(1)
}

/// The filters of a thread, oldest first, as the table has them; none if it is torn.
fn stored<'a>(table: &'a SeccompEntry, core: &ThreadCoreEntry) -> Option<Vec<&'a SeccompFilter>> {
    let mut chain = Vec::new();
    let mut next = Some(core.seccomp_filter?);
    while let Some(place) = next {
        let filter = table.seccomp_filters.get(place as usize)?;
        chain.push(filter);
        next = filter.prev;
        if next.is_some_and(|next| next >= place) {
            return None;
        }
    }
    Some(chain)
}

fn is_filtered(core: &ThreadCoreEntry) -> bool {
    core.seccomp_mode == Some(SeccompMode::Filter.into())
}

/// Checks that the filters of a thread are all there and well formed.
fn validate(file: &str, core: &ThreadCoreEntry, table: &SeccompEntry) -> Result<()> {
    if !is_filtered(core) {
        return Ok(());
    }
    let torn = || Error::image(file, "the chain of seccomp filters is torn");
    for filter in stored(table, core).ok_or_else(torn)? {
        let len = filter.filter.len();
        if len == 0 || !len.is_multiple_of(INSTRUCTION) || len / INSTRUCTION > INSTRUCTIONS_MAX {
            return Err(Error::image(file, format!("a seccomp filter has {len} bytes")));
        }
        if filter.flags() & !FLAGS != 0 {
            let flags = filter.flags();
            return Err(Error::image(file, format!("unknown seccomp filter flags {flags:#x}")));
        }
    }
    Ok(())
}

fn rebuild(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let threads = &process.task.threads;
    if threads.iter().all(|thread| thread.entry.seccomp_mode() == SeccompMode::Disabled) {
        return Ok(());
    }
    let (empty, blank) = (SeccompEntry::default(), turn.blank()?);
    if !blank.seccomp_suspended() {
        let cause = format!("pid {}: seccomp cannot be suspended while it is built", blank.pid());
        return Err(Error::new(Kind::Denied, cause)
            .remedy("restore with CAP_SYS_ADMIN and without seccomp"));
    }
    let table = process.task.all.seccomp.as_ref().unwrap_or(&empty);
    // One after the other: installing for all threads needs the others to stand still.
    for thread in threads {
        let mut batch = Batch::new();
        let installed = add(&mut batch, thread.entry, table);
        if !batch.is_empty() {
            let outcomes = blank.run_in_threads(vec![(thread.index, batch)])?;
            outcomes.iter().try_for_each(|outcome| installed.check(outcome))?;
        }
    }
    Ok(())
}

/// Calls whose results [`Installed::check`] looks at: a positive one is a thread that differs.
#[derive(Debug, Default)]
pub(super) struct Installed(Vec<CallId>);

/// Installs the filters of the thread that runs the batch, or its strict mode.
pub(super) fn add(batch: &mut Batch, core: &ThreadCoreEntry, table: &SeccompEntry) -> Installed {
    if core.seccomp_mode == Some(SeccompMode::Strict.into()) {
        let call = args![libc::PR_SET_SECCOMP, MODE_STRICT, 0, 0, 0];
        batch.must("enter strict seccomp", libc::SYS_prctl, call);
    }
    if !is_filtered(core) {
        return Installed::default();
    }
    let chain = stored(table, core).unwrap_or_default();
    Installed(chain.into_iter().map(|filter| install(batch, filter)).collect())
}

fn install(batch: &mut Batch, filter: &SeccompFilter) -> CallId {
    // struct sock_fprog: number of instructions, padding, pointer to them.
    const POINTER_AT: usize = 8;
    let mut program = [0u8; 16];
    let count = (filter.filter.len() / INSTRUCTION) as u16;
    program[..2].copy_from_slice(&count.to_le_bytes());
    let instructions = batch.bytes(&filter.filter);
    let program = batch.bytes(&program);
    batch.point(program.skip(POINTER_AT), instructions);
    let call = args![SET_MODE_FILTER, filter.flags(), program];
    batch.must("install a seccomp filter", libc::SYS_seccomp, call)
}

impl Installed {
    /// Checks that no thread was left out.
    fn check(&self, outcome: &Outcome) -> Result<()> {
        for call in &self.0 {
            if let Ok(thread @ 1..) = outcome.ret(*call) {
                let cause = format!("a seccomp filter could not be installed in thread {thread}");
                return Err(Error::new(Kind::System, cause));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(byte: u8) -> Filter {
        Filter { program: vec![byte; INSTRUCTION], flags: 2 }
    }

    fn filtered(place: u32) -> ThreadCoreEntry {
        ThreadCoreEntry {
            seccomp_mode: Some(SeccompMode::Filter.into()),
            seccomp_filter: Some(place),
            ..ThreadCoreEntry::default()
        }
    }

    #[test]
    fn chains_are_stored_newest_first_and_installed_oldest_first() {
        let mut table = SeccompEntry::default();
        store(&mut table, &[filter(9)], false);
        let place = store(&mut table, &[filter(1), filter(2), filter(3)], true);
        assert_eq!(place, 3);
        let prevs: Vec<_> = table.seccomp_filters.iter().map(|filter| filter.prev).collect();
        assert_eq!(prevs, [None, None, Some(1), Some(2)]);
        let core = filtered(place);
        validate("core-1.img", &core, &table).unwrap();
        let chain = stored(&table, &core).unwrap();
        let first_bytes: Vec<u8> = chain.iter().map(|filter| filter.filter[0]).collect();
        assert_eq!(first_bytes, [1, 2, 3]);
        assert!(chain.iter().all(|filter| filter.flags() == 2 | TSYNC));
    }

    #[test]
    fn torn_tables_are_refused() {
        let one = |filter: SeccompFilter| SeccompEntry { seccomp_filters: vec![filter] };
        let good = SeccompFilter { filter: vec![0; 8], prev: None, flags: None };
        let core = filtered(0);
        validate("core-1.img", &core, &one(good.clone())).unwrap();
        assert!(validate("core-1.img", &filtered(1), &one(good.clone())).is_err());
        for bad in [
            SeccompFilter { prev: Some(0), ..good.clone() },
            SeccompFilter { filter: vec![0; 9], ..good.clone() },
            SeccompFilter { filter: Vec::new(), ..good.clone() },
            SeccompFilter { flags: Some(8), ..good },
        ] {
            assert!(validate("core-1.img", &core, &one(bad)).is_err());
        }
    }
}
