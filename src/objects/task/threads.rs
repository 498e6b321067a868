//! The threads of a process: each with its id, born by a clone of the leader.

use super::Rebuild;
use super::attribute::{Attribute, Step};
use crate::error::Result;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::blank::ThreadSpec;

pub struct Threads;

impl Attribute for Threads {
    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Threads, Step::Act(clone_others))]
    }
}

fn clone_others(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let others = process.task.threads.iter().skip(1);
    let specs: Vec<ThreadSpec> = others
        .map(|thread| ThreadSpec {
            tid: thread.host_tid(),
            clear_tid_addr: thread.info.clear_tid_addr,
        })
        .collect();
    if specs.is_empty() { Ok(()) } else { turn.blank()?.clone_threads(&specs) }
}
