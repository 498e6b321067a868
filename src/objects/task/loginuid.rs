//! As whom the audit system knows a process: the user who logged in.
//!
//! Only the process itself may write it, by a file of its own.

use super::Rebuild;
use super::attribute::{Attribute, Step};
use super::draft::Draft;
use crate::args;
use crate::error::{Context, Error, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::proc;
use crate::kernel::remote::RemoteFd;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::batch::Batch;
use crate::tracee::dumpee::FrozenTask;

pub struct LoginUid;

impl Attribute for LoginUid {
    fn read(&self, task: &FrozenTask, draft: &mut Draft) -> Result<()> {
        draft.entry.loginuid = of(task.pid)?;
        Ok(())
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Confinement, Step::Act(rebuild))]
    }
}

/// The login uid of a process; none on a kernel without audit.
fn of(pid: HostPid) -> Result<Option<u32>> {
    let path = format!("/proc/{pid}/loginuid");
    match proc::text(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(uid) => Ok(Some(uid)),
            Err(_) => Err(Error::image(&path, format!("{text:?} is no number"))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {path}"), &error)),
    }
}

/// Makes the process write its login uid, unless it is already so.
fn rebuild(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let Some(uid) = process.task.entry.loginuid else { return Ok(()) };
    if of(process.task.host_pid())?.is_none_or(|current| current == uid) {
        return Ok(());
    }
    let blank = turn.blank()?;
    let mut open = Batch::new();
    let path = open.cstr("/proc/self/loginuid");
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let call = args![libc::AT_FDCWD, path, flags];
    let opened = open.must("open /proc/self/loginuid", libc::SYS_openat, call);
    let fd = blank.run(open)?.ret(opened).doing(|| "open /proc/self/loginuid")?;
    let fd = RemoteFd(fd as i32);
    let mut write = Batch::new();
    let text = uid.to_string();
    let place = write.bytes(text.as_bytes());
    let what = format!("write {uid} to /proc/self/loginuid");
    write.must(what, libc::SYS_write, args![fd, place, text.len()]);
    write.must("close /proc/self/loginuid", libc::SYS_close, args![fd]);
    blank.run(write).map(drop).map_err(|error| error.remedy("restore with CAP_AUDIT_CONTROL"))
}
