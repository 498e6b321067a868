//! What only a process itself can tell: asked in one batch for the process, and one in each thread.

use super::attribute::{Reply, ThreadReply};
use super::draft::{Draft, ThreadDraft};
use super::{ATTRIBUTES, sigaction};
use crate::error::{Context, Refusals, Result};
use crate::tracee::batch::{Batch, Outcome};
use crate::tracee::dumpee::{FrozenTask, Injection, RunningBatch};

/// Larger batches need more room than a session has by itself.
const ORDINARY_BATCH: usize = 32 << 10;
/// Room for the calls of several threads at once.
const THREADS_ROOM: usize = 256 << 10;

/// A process that is about to be asked.
pub struct Asking<'a> {
    injection: Injection<'a>,
    batch: Batch,
    replies: Replies,
}

/// Who takes the answers of a process.
struct Replies {
    process: Vec<Reply>,
    /// Of the thread that runs the batch, whichever that will be: one round trip less.
    thread: Vec<ThreadReply>,
}

impl<'a> Asking<'a> {
    /// Begins, without waiting. Until the answers are there, ptrace requests to the threads of the
    /// process fail.
    pub fn begin(task: &'a FrozenTask, draft: &Draft) -> Result<Self> {
        let mut batch = Batch::new();
        let process =
            ATTRIBUTES.iter().filter_map(|attribute| attribute.ask(&mut batch, draft)).collect();
        let thread = ask_thread(&mut batch);
        let injection = task.begin_injection(match batch.encoded_len() {
            0..=ORDINARY_BATCH => task.ordinary_room(),
            len => len * 2 + THREADS_ROOM,
        })?;
        Ok(Self { injection, batch, replies: Replies { process, thread } })
    }

    /// Asks, without waiting for the answers.
    pub fn ask(self) -> Result<Asked<'a>> {
        let Self { mut injection, batch, replies } = self;
        let running = injection.begin_run(batch)?;
        Ok(Asked { injection, running, replies })
    }
}

/// A process that was asked.
pub struct Asked<'a> {
    injection: Injection<'a>,
    running: RunningBatch,
    replies: Replies,
}

impl<'a> Asked<'a> {
    /// Writes the answers into the draft. Returns the session in which they were given.
    pub fn answers(self, draft: &mut Draft, refusals: &mut Refusals) -> Result<Injection<'a>> {
        let Self { mut injection, running, replies } = self;
        let outcome = injection.end_run(running)?;
        for reply in replies.process {
            reply(&outcome, draft, refusals)?;
        }
        injection.set_restart_mask(sigaction::interrupting(&draft.entry.sigactions))?;
        let asked = injection.thread();
        answer_thread(replies.thread, &outcome, &mut draft.threads[asked])?;
        ask_others(&mut injection, &mut draft.threads)?;
        Ok(injection)
    }
}

/// Asks all threads but the one that has been asked with the process.
fn ask_others(injection: &mut Injection<'_>, threads: &mut [ThreadDraft]) -> Result<()> {
    let mut asked = Vec::new();
    let mut batches = Vec::new();
    for index in (0..threads.len()).filter(|index| *index != injection.thread()) {
        let mut batch = Batch::new();
        asked.push((index, ask_thread(&mut batch)));
        batches.push((index, batch));
    }
    let outcomes = injection.run_in_threads(batches)?;
    let mut answered = asked.into_iter().zip(&outcomes);
    answered.try_for_each(|((index, replies), outcome)| {
        answer_thread(replies, outcome, &mut threads[index])
    })
}

fn ask_thread(batch: &mut Batch) -> Vec<ThreadReply> {
    ATTRIBUTES.iter().filter_map(|attribute| attribute.ask_thread(batch)).collect()
}

fn answer_thread(
    replies: Vec<ThreadReply>,
    outcome: &Outcome,
    thread: &mut ThreadDraft,
) -> Result<()> {
    let mut replies = replies.into_iter();
    replies.try_for_each(|reply| reply(outcome, thread)).doing(|| format!("thread {}", thread.tid))
}
