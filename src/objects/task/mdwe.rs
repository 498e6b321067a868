//! Memory-deny-write-execute: no memory that is or was writable becomes executable.
//!
//! It cannot be taken back, so it is the end of all work on a restored address space. The image
//! format has no field for it; the extras hold it.

use nix::errno::Errno;

use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Error, Result};
use crate::tracee::batch::{Batch, CallId, Outcome};

const PR_SET_MDWE: i32 = 65;
const PR_GET_MDWE: i32 = 66;
/// Refuse; and do not hand it down to children.
const FLAGS: u32 = 3;

/// The question to the process: its flags.
pub struct Answer(CallId);

/// Asks for the flags.
pub fn ask(batch: &mut Batch) -> Answer {
    Answer(batch.call(libc::SYS_prctl, args![PR_GET_MDWE, 0, 0, 0, 0]))
}

impl Answer {
    /// The flags for the extras: none is no field.
    pub fn to_image(&self, outcome: &Outcome) -> Result<Option<u32>> {
        match outcome.ret(self.0) {
            Ok(flags) => Ok(Some(flags as u32).filter(|flags| *flags != 0)),
            // Linux before 6.3 does not have it.
            Err(Errno::EINVAL) => Ok(None),
            Err(errno) => Err(Error::sys("get the MDWE flags", errno)),
        }
    }
}

/// Checks that the flags are known.
pub fn validate(task: &Recorded<'_>) -> Result<()> {
    match task.extras.map_or(0, |extras| extras.mdwe()) & !FLAGS {
        0 => Ok(()),
        other => Err(Error::image(task.file(), format!("unknown MDWE flags {other:#x}"))),
    }
}

/// Sets the flags.
pub fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    if let Some(flags) = process.task.extras.and_then(|extras| extras.mdwe) {
        let call = args![PR_SET_MDWE, flags, 0, 0, 0];
        batch.must(format!("set the MDWE flags {flags:#x}"), libc::SYS_prctl, call);
    }
}
