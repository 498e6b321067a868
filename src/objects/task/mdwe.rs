//! Memory-deny-write-execute: no memory that is or was writable becomes executable.
//!
//! It cannot be taken back, so it is the end of all work on a restored address space. The image
//! format has no field for it; the extras hold it.

use nix::errno::Errno;

use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Error, Result};
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

const PR_SET_MDWE: i32 = 65;
const PR_GET_MDWE: i32 = 66;
/// Refuse; and do not hand it down to children.
const FLAGS: u32 = 3;

pub struct Mdwe;

impl Attribute for Mdwe {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let call = batch.call(libc::SYS_prctl, args![PR_GET_MDWE, 0, 0, 0, 0]);
        Some(Box::new(move |outcome, draft, _| {
            draft.extras.mdwe = flags(outcome.ret(call))?;
            Ok(())
        }))
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        match task.extras.map_or(0, |extras| extras.mdwe()) & !FLAGS {
            0 => Ok(()),
            other => Err(Error::image(task.file(), format!("unknown MDWE flags {other:#x}"))),
        }
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Limits, Step::Leader(rebuild))]
    }
}

/// The flags for the extras: none is no field.
fn flags(answer: nix::Result<i64>) -> Result<Option<u32>> {
    match answer {
        Ok(flags) => Ok(Some(flags as u32).filter(|flags| *flags != 0)),
        // Linux before 6.3 does not have it.
        Err(Errno::EINVAL) => Ok(None),
        Err(errno) => Err(Error::sys("get the MDWE flags", errno)),
    }
}

fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    if let Some(flags) = process.task.extras.and_then(|extras| extras.mdwe) {
        let call = args![PR_SET_MDWE, flags, 0, 0, 0];
        batch.must(format!("set the MDWE flags {flags:#x}"), libc::SYS_prctl, call);
    }
}
