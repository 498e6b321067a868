//! What only the process itself can tell: asked in one batch for the process and a few calls in
//! every thread.

use super::sigaction::{self, Effect};
use super::{altstack, clear_tid, credentials, itimers, mdwe, membarrier, pdeath_signal};
use super::{posix_timers, subreaper};
use crate::error::{Refusals, Result};
use crate::images::proto::{ItimerEntry, PosixTimerEntry, SaEntry, ThreadSasEntry};
use crate::kernel::membarrier::tells_registrations;
use crate::objects::memory as mm;
use crate::tracee::batch::{Batch, Outcome};
use crate::tracee::dumpee::{FrozenTask, Injection, RunningBatch};

/// Larger batches need more room than a session has by itself.
const ORDINARY_BATCH: usize = 32 << 10;
/// Room for the calls of several threads at once.
const THREADS_ROOM: usize = 256 << 10;

/// The answers of a process and its threads.
pub struct Inside {
    pub actions: Vec<SaEntry>,
    pub itimers: [ItimerEntry; 3],
    pub timers: Vec<PosixTimerEntry>,
    pub subreaper: bool,
    pub membarrier: Option<u32>,
    pub mdwe: Option<u32>,
    pub mm: mm::Facts,
    /// In the order of the frozen threads.
    pub threads: Vec<Thread>,
}

/// The answers of one thread.
pub struct Thread {
    pub altstack: ThreadSasEntry,
    pub clear_tid: u64,
    pub pdeath_signal: Option<u32>,
    /// Answered, to be put together with what is known from outside.
    pub credentials: credentials::Answer,
    pub outcome: Outcome,
}

/// A process that is being asked.
pub struct Asking<'a> {
    injection: Injection<'a>,
    batch: Batch,
    process: Questions,
    /// Of the thread that runs the batch, whichever that will be: one round trip less.
    thread: ThreadQuestions,
}

impl<'a> Asking<'a> {
    /// Begins, without waiting; `timers` are those known from outside. Until the answers are there,
    /// ptrace requests to the threads of the process fail.
    pub fn begin(task: &'a FrozenTask, timers: &[PosixTimerEntry]) -> Result<Self> {
        let mut batch = Batch::new();
        let process = Questions::ask(&mut batch, timers);
        let thread = ThreadQuestions::ask(&mut batch);
        let injection = task.begin_injection(match batch.encoded_len() {
            0..=ORDINARY_BATCH => task.ordinary_room(),
            len => len * 2 + THREADS_ROOM,
        })?;
        Ok(Self { injection, batch, process, thread })
    }

    /// Asks, without waiting for the answers.
    pub fn ask(self) -> Result<Asked<'a>> {
        let Self { mut injection, batch, process, thread } = self;
        let running = injection.begin_run(batch)?;
        Ok(Asked { injection, running, process, thread })
    }
}

/// A process that was asked.
pub struct Asked<'a> {
    injection: Injection<'a>,
    running: RunningBatch,
    process: Questions,
    thread: ThreadQuestions,
}

impl<'a> Asked<'a> {
    /// The answers, and the session in which they were given.
    pub fn answers(
        mut self,
        timers: &[PosixTimerEntry],
        refusals: &mut Refusals,
    ) -> Result<(Inside, Injection<'a>)> {
        let injection = &mut self.injection;
        let outcome = injection.end_run(self.running)?;
        let pid = injection.task().pid;
        let mut inside = self.process.answers(&outcome, pid, timers, refusals)?;
        injection.set_restart_mask(interrupting(&inside.actions))?;
        inside.threads = ask_others(injection)?;
        inside.threads.insert(injection.thread(), self.thread.answers(outcome));
        Ok((inside, self.injection))
    }
}

/// Signals whose handlers end an interrupted system call.
fn interrupting(actions: &[SaEntry]) -> u64 {
    sigaction::signals()
        .filter(|signal| {
            matches!(sigaction::effect(actions, *signal), Effect::Handled(handler) if !handler.restarts)
        })
        .fold(0, |set, signal| set | 1 << (signal - 1))
}

struct Questions {
    actions: sigaction::Answer,
    itimers: itimers::Answer,
    timers: posix_timers::Answer,
    subreaper: subreaper::Answer,
    membarrier: membarrier::Answer,
    mdwe: mdwe::Answer,
    mm: mm::Questions,
}

impl Questions {
    fn ask(batch: &mut Batch, timers: &[PosixTimerEntry]) -> Self {
        Self {
            actions: sigaction::ask(batch),
            itimers: itimers::ask(batch),
            timers: posix_timers::ask(batch, timers),
            subreaper: subreaper::ask(batch),
            membarrier: membarrier::ask(batch, tells_registrations()),
            mdwe: mdwe::ask(batch),
            mm: mm::ask(batch),
        }
    }

    fn answers(
        self,
        outcome: &Outcome,
        pid: i32,
        timers: &[PosixTimerEntry],
        refusals: &mut Refusals,
    ) -> Result<Inside> {
        let mut timers = timers.to_vec();
        self.timers.complete(outcome, &mut timers)?;
        Ok(Inside {
            actions: self.actions.to_image(outcome),
            itimers: self.itimers.to_image(outcome),
            timers,
            subreaper: self.subreaper.to_image(outcome),
            membarrier: self.membarrier.to_image(outcome),
            mdwe: self.mdwe.to_image(outcome)?,
            mm: self.mm.answers(outcome, pid, refusals)?,
            threads: Vec::new(),
        })
    }
}

struct ThreadQuestions {
    altstack: altstack::Answer,
    clear_tid: clear_tid::Answer,
    pdeath_signal: pdeath_signal::Answer,
    credentials: credentials::Answer,
}

/// Asks all threads but the one that has been asked with the process.
fn ask_others(injection: &mut Injection<'_>) -> Result<Vec<Thread>> {
    let mut asked = Vec::new();
    let mut batches = Vec::new();
    for index in (0..injection.task().threads.len()).filter(|index| *index != injection.thread()) {
        let mut batch = Batch::new();
        asked.push(ThreadQuestions::ask(&mut batch));
        batches.push((index, batch));
    }
    let outcomes = injection.run_in_threads(batches)?;
    Ok(asked.into_iter().zip(outcomes).map(|(asked, outcome)| asked.answers(outcome)).collect())
}

impl ThreadQuestions {
    fn ask(batch: &mut Batch) -> Self {
        Self {
            altstack: altstack::ask(batch),
            clear_tid: clear_tid::ask(batch),
            pdeath_signal: pdeath_signal::ask(batch),
            credentials: credentials::ask(batch),
        }
    }

    fn answers(self, outcome: Outcome) -> Thread {
        Thread {
            altstack: self.altstack.to_image(&outcome),
            clear_tid: self.clear_tid.to_image(&outcome),
            pdeath_signal: self.pdeath_signal.to_image(&outcome),
            credentials: self.credentials,
            outcome,
        }
    }
}
