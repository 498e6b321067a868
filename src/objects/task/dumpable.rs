//! Whether a process may be examined by its own user, and leaves a core file.
//!
//! The kernel resets it at every change of user or group, in any thread, so it comes after all
//! credentials. A process may choose between 0 and 1; 2 only comes from such a reset where the
//! administrator has set `fs.suid_dumpable` to it.

use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::images::sections::SECTIONS;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::batch::Batch;

const NO: i32 = 0;
/// As every new program begins.
const YES: i32 = 1;
const BY_RESET: i32 = 2;

pub struct Dumpable;

impl Attribute for Dumpable {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let call = batch.call(libc::SYS_prctl, args![libc::PR_GET_DUMPABLE]);
        Some(Box::new(move |outcome, draft, _| {
            let stands = outcome.ret(call).doing(|| "ask for dumpable")?;
            draft.mm.dumpable = Some(i32::try_from(stands).unwrap_or(NO));
            Ok(())
        }))
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        validate(&SECTIONS.mm.of(task.pid), recorded(task))
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[
            (Phase::Reach, Step::Act(reach)),
            (Phase::Shield, Step::Leader(shield)),
            (Phase::Credentials, Step::Leader(prepare)),
            (Phase::Exposure, Step::Act(expose)),
        ]
    }
}

/// The value that the image has.
fn recorded(task: &Recorded<'_>) -> Option<i32> {
    task.image.mm.as_ref().and_then(|mm| mm.dumpable)
}

/// The value to be set: who was shielded gets one in any case.
fn wanted(process: &Rebuild<'_>) -> Option<i32> {
    let shielded = process.reach.is_lent().then_some(YES);
    recorded(&process.task).or(shielded)
}

/// Checks the value, and that this machine can give it.
fn validate(file: &str, dumpable: Option<i32>) -> Result<()> {
    match dumpable {
        None | Some(NO | YES) => Ok(()),
        Some(BY_RESET) => check_reset(file),
        Some(other) => Err(Error::image(file, format!("dumpable {other}"))),
    }
}

fn check_reset(file: &str) -> Result<()> {
    let path = "/proc/sys/fs/suid_dumpable";
    let text = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
    match text.trim() == BY_RESET.to_string() {
        true => Ok(()),
        false => Err(Error::new(Kind::Refused, format!("{file}: dumpable 2 cannot be set here"))
            .remedy("set sysctl fs.suid_dumpable to 2, as it was where the process was dumped")),
    }
}

/// Opens the memory of a process that will be shielded, by which it stays within reach.
fn reach(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    if process.reach.is_lent() { turn.stopped().memory().map(drop) } else { Ok(()) }
}

/// Keeps the user out of the memory of a process whose threads have lent capabilities, until its
/// [exposure](expose): as soon as the first thread has given them up, its memory would be the user's
/// to write, and the others still run code in it.
fn shield(process: &Rebuild<'_>, batch: &mut Batch) {
    if process.reach.is_lent() {
        let call = args![libc::PR_SET_DUMPABLE, NO, 0, 0, 0];
        batch.must("keep others out of the memory", libc::SYS_prctl, call);
    }
}

/// Makes the kernel reset the value, if it is to be one that only a reset gives. Setting the file
/// system user id there and back is the smallest change that does.
fn prepare(process: &Rebuild<'_>, batch: &mut Batch) {
    if wanted(process) == Some(BY_RESET) {
        batch.call(libc::SYS_setfsuid, args![1]);
        batch.call(libc::SYS_setfsuid, args![0]);
    }
}

/// Sets the value, and looks at what stands.
fn expose(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let (wanted, batch) = (wanted(process), turn.batch(0));
    if let Some(dumpable @ (NO | YES)) = wanted {
        let call = args![libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0];
        batch.must(format!("set dumpable {dumpable}"), libc::SYS_prctl, call);
    }
    let asked = batch.call(libc::SYS_prctl, args![libc::PR_GET_DUMPABLE, 0, 0, 0, 0]);
    turn.check(move |outcome| check(wanted, outcome.ret(asked).doing(|| "ask for dumpable")?));
    Ok(())
}

fn check(wanted: Option<i32>, stands: i64) -> Result<()> {
    match wanted {
        Some(wanted) if i64::from(wanted) != stands => {
            Err(Error::new(Kind::System, format!("dumpable is {stands}, {wanted} was to be set")))
        }
        _ => Ok(()),
    }
}
