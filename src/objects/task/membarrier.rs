//! What kinds of memory barriers a process has registered for.
//!
//! Newer kernels tell. On older ones a barrier of each kind is tried: it is refused to those who
//! have not registered.

use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Error, Result};
use crate::kernel::membarrier::tells_registrations;
use crate::objects::phases::Phase;
use crate::tracee::batch::{Batch, CallId, Outcome};

const GET_REGISTRATIONS: u32 = 1 << 9;
/// Barriers that can be tried; the registration for each is the next bit.
const BARRIERS: [u32; 3] = [1 << 3, 1 << 5, 1 << 7];
/// All registrations that there are.
const REGISTRATIONS: u32 = 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8;

pub struct Membarrier;

impl Attribute for Membarrier {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let answer = ask(batch, tells_registrations());
        Some(Box::new(move |outcome, draft, _| {
            draft.entry.membarrier_registration_mask = answer.to_image(outcome);
            Ok(())
        }))
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        validate(&task.file(), task.entry.membarrier_registration_mask())
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Registrations, Step::Leader(rebuild))]
    }
}

/// The question to the process: its registrations.
enum Answer {
    /// The kernel tells.
    Told(CallId),
    /// Each barrier was tried.
    Tried([CallId; 3]),
}

/// Asks for the registrations; `told` is whether this kernel can tell them.
fn ask(batch: &mut Batch, told: bool) -> Answer {
    let mut call = |command: u32| batch.call(libc::SYS_membarrier, args![command, 0, 0]);
    match told {
        true => Answer::Told(call(GET_REGISTRATIONS)),
        false => Answer::Tried(BARRIERS.map(call)),
    }
}

impl Answer {
    /// The mask as an image holds it: none is no field.
    fn to_image(&self, outcome: &Outcome) -> Option<u32> {
        let mask = match self {
            Self::Told(call) => outcome.ret(*call).map_or(0, |mask| mask as u32),
            Self::Tried(calls) => BARRIERS
                .iter()
                .zip(calls)
                .filter(|(_, call)| outcome.ret(**call).is_ok())
                .fold(0, |mask, (barrier, _)| mask | barrier << 1),
        };
        Some(mask).filter(|mask| *mask != 0)
    }
}

/// Checks that the mask has registrations only.
fn validate(file: &str, mask: u32) -> Result<()> {
    match mask & !REGISTRATIONS {
        0 => Ok(()),
        other => Err(Error::image(file, format!("{other:#x} is no memory barrier registration"))),
    }
}

fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    let mask = process.task.entry.membarrier_registration_mask();
    for command in (0..32).map(|bit| 1u32 << bit).filter(|command| mask & command != 0) {
        let what = format!("register for memory barriers {command:#x}");
        batch.must(what, libc::SYS_membarrier, args![command, 0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::remote::RemoteAddr;
    use crate::tracee::batch::{ENTRY_RET, ENTRY_SIZE};

    #[test]
    fn a_mask_is_told_or_found_by_trial() {
        for (told, rets, want) in [
            (true, vec![0x10i64], Some(0x10)),
            (true, vec![0], None),
            (false, vec![-1, 0, -1], Some(0x40)),
        ] {
            let mut batch = Batch::new();
            let answer = ask(&mut batch, told);
            let mut image = batch.encode(RemoteAddr(0));
            for (call, ret) in rets.iter().enumerate() {
                let at = call * ENTRY_SIZE + ENTRY_RET;
                image[at..at + 8].copy_from_slice(&ret.to_le_bytes());
            }
            assert_eq!(answer.to_image(&batch.outcome(&image).unwrap()), want);
        }
    }

    #[test]
    fn a_barrier_is_no_registration() {
        validate("core-1.img", REGISTRATIONS).unwrap();
        assert!(validate("core-1.img", 1 << 3).is_err());
    }
}
