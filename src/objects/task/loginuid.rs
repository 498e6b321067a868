//! As whom the audit system knows a process: the user who logged in.
//!
//! Only the process itself may write it, by a file of its own.

use crate::args;
use crate::error::{Context, Error, Result};
use crate::kernel::proc;
use crate::kernel::remote::RemoteFd;
use crate::tracee::batch::{Batch, Outcome};

/// Reads the login uid of a process; none on a kernel without audit.
pub fn capture(pid: i32) -> Result<Option<u32>> {
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

/// Makes the process write its login uid, unless it is already so. `run` runs one batch in it.
pub fn rebuild(pid: i32, uid: u32, mut run: impl FnMut(Batch) -> Result<Outcome>) -> Result<()> {
    if capture(pid)?.is_none_or(|current| current == uid) {
        return Ok(());
    }
    let mut open = Batch::new();
    let path = open.cstr("/proc/self/loginuid");
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let call = args![libc::AT_FDCWD, path, flags];
    let opened = open.must("open /proc/self/loginuid", libc::SYS_openat, call);
    let fd = run(open)?.ret(opened).doing(|| "open /proc/self/loginuid")?;
    let fd = RemoteFd(fd as i32);
    let mut write = Batch::new();
    let text = uid.to_string();
    let place = write.bytes(text.as_bytes());
    let what = format!("write {uid} to /proc/self/loginuid");
    write.must(what, libc::SYS_write, args![fd, place, text.len()]);
    write.must("close /proc/self/loginuid", libc::SYS_close, args![fd]);
    run(write).map(drop).map_err(|error| error.remedy("restore with CAP_AUDIT_CONTROL"))
}
