//! What a request asks of the tree that is to be made.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{getpgrp, getsid};

use crate::engine::tree::Outer;
use crate::error::{Context, Result, shown};
use crate::images::snapshot::Snapshot;
use crate::kernel::descriptor;
use crate::objects::files::RestoreOptions;
use crate::objects::memory;
use crate::objects::pids;
use crate::options::Request;
use crate::options::values::InheritFd;
use crate::tracee::blank::SpawnSpec;

/// Length of the helper area in every process: room for the largest batch.
const HELPER_LEN: u64 = 1 << 20;

/// The session and group that a shell job joins: ours.
pub fn outer() -> Result<Outer> {
    let sid = getsid(None).doing(|| "getsid")?;
    Ok(Outer { sid: sid.as_raw(), pgid: getpgrp().as_raw() })
}

/// The first process.
pub fn spawn_spec(request: &Request, snapshot: &Snapshot) -> Result<SpawnSpec> {
    let all = snapshot.tasks.values().filter_map(|task| task.mm.as_ref());
    let helper = memory::find_helper_hole(all, HELPER_LEN)?;
    let pid = pids::host(snapshot.root().tree_pid());
    Ok(SpawnSpec {
        helper_len: HELPER_LEN as usize,
        sibling: request.options.rst_sibling(),
        ..SpawnSpec::new(pid, helper)
    })
}

/// What the request says about files.
pub fn of_files(request: &Request) -> Result<RestoreOptions> {
    let terminal = if request.options.shell_job() { own_terminal()? } else { None };
    Ok(RestoreOptions {
        terminal,
        inherit: inherited(request)?,
        // Without a notify script that could receive the master, our own terminal takes its place.
        orphan_masters: request.options.orphan_pts_master() && request.options.notify_scripts(),
        skip_mode_check: request.options.skip_file_rwx_check(),
        ..RestoreOptions::default()
    })
}

/// Copies of the descriptors that stand for objects of the image.
fn inherited(request: &Request) -> Result<Vec<(OsString, OwnedFd)>> {
    let copy = |item: &InheritFd| {
        let copied = descriptor::duplicate_above(item.fd, 0).doing(|| {
            let key = shown(&item.key);
            format!("--inherit-fd {key}: descriptor {} of the restorer", item.fd)
        })?;
        Ok((item.key.clone(), copied))
    };
    request.options.inherit_fd.iter().map(copy).collect()
}

/// The terminal that stands in for the one of a dumped shell job: that of our own standard files.
fn own_terminal() -> Result<Option<OwnedFd>> {
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let terminal = standard.into_iter().find(|fd| nix::unistd::isatty(fd).unwrap_or(false));
    terminal.map(|fd| fd.try_clone_to_owned().doing(|| "dup of the terminal")).transpose()
}
