//! Whether a process may be examined by its own user, and leaves a core file.
//!
//! The kernel resets it at every change of user or group, in any thread, so it comes after all
//! credentials. A process may choose between 0 and 1; 2 only comes from such a reset where the
//! administrator has set `fs.suid_dumpable` to it.

use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::tracee::batch::{Batch, CallId};

const NO: i32 = 0;
/// As every new program begins.
pub const YES: i32 = 1;
const BY_RESET: i32 = 2;

/// Checks the value, and that this machine can give it.
pub fn validate(file: &str, dumpable: Option<i32>) -> Result<()> {
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

/// Closes the memory of a process to all but root, and to us who have it open.
pub fn shield(batch: &mut Batch) {
    let call = args![libc::PR_SET_DUMPABLE, NO, 0, 0, 0];
    batch.must("keep others out of the memory", libc::SYS_prctl, call);
}

/// Before the credentials: makes the kernel reset the value, if it is to be one that only a reset
/// gives. Setting the file system user id there and back is the smallest change that does.
pub fn prepare(batch: &mut Batch, dumpable: Option<i32>) {
    if dumpable == Some(BY_RESET) {
        batch.call(libc::SYS_setfsuid, args![1]);
        batch.call(libc::SYS_setfsuid, args![0]);
    }
}

/// Last, in any case after the credentials of all threads: sets the value. The result of the call is the value that
/// stands, for [`check`].
pub fn rebuild(batch: &mut Batch, dumpable: Option<i32>) -> CallId {
    if let Some(dumpable @ (NO | YES)) = dumpable {
        let call = args![libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0];
        batch.must(format!("set dumpable {dumpable}"), libc::SYS_prctl, call);
    }
    batch.call(libc::SYS_prctl, args![libc::PR_GET_DUMPABLE, 0, 0, 0, 0])
}

/// Whether the value that stands is the one wanted.
pub fn check(dumpable: Option<i32>, stands: i64) -> Result<()> {
    match dumpable {
        Some(wanted) if i64::from(wanted) != stands => {
            Err(Error::new(Kind::System, format!("dumpable is {stands}, {wanted} was to be set")))
        }
        _ => Ok(()),
    }
}
