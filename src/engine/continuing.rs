//! `continue`: sets a tree going that a dump or restore left stopped.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use crate::error::{Error, Result};
use crate::kernel::proc;
use crate::log::Log;
use crate::options::Request;

/// Sends SIGCONT to every process of the tree.
///
/// Children come first, so that a parent that is told about a child (SIGCHLD) finds it running.
pub fn run(request: &Request, log: &Log) -> Result<()> {
    let root = request.pid()?;
    proc::stat(root)?;
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next).copied() {
        tree.extend(proc::children(pid));
        next += 1;
    }
    for pid in tree.iter().rev() {
        match kill(pid.nix(), Signal::SIGCONT) {
            Ok(()) => {}
            Err(Errno::ESRCH) if *pid == root => return Err(proc::gone(root)),
            // It has ended meanwhile.
            Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::sys(format!("pid {pid}: SIGCONT"), errno)),
        }
    }
    log.info(format!("{} tasks go on", tree.len()));
    Ok(())
}
