//! A worker without a program: a process of its own in the memory of the caller.
//!
//! The start of a program (exec, the faults of its pages, the C library's start) takes a third of
//! the time of a small restore. For what is done soon, the engine works in a child that executes
//! nothing. It is a process, so that what it traces and what its children do is none of the host's
//! business, with signal handlers, descriptors and a working directory of its own. Its code is
//! there already, as its memory is the host's.
//!
//! * It has no exit signal and is never executed: no SIGCHLD handler and no `waitpid(-1)` sees it.
//! * The calling thread sleeps as in vfork(2), since the child uses its thread-local storage. What
//!   signals that thread handles waits as long, hence [`SOON`]; and its callbacks could not be
//!   called.
//! * All signals stay blocked in it. A signal to the host's process group must not end it while it
//!   holds a lock of the allocator, which is the host's as well.
//! * Who is dumped must not have the same memory: the caller itself, or a vfork child of its.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::client::Failure;
use super::host::{errno, may_share_memory, set_errno};
use super::inprocess;
use super::settings::{Notify, Service, Settings};
use super::spawn::{default_signals, open_missing_stdio};
use crate::images::proto::{CriuOpts, CriuReq, CriuReqType, CriuResp};
use crate::kernel::PAGE_SIZE;
use crate::kernel::beside::{self, Tables};
use crate::rpc::setup::Client;

/// Bytes of memory that are dumped or restored in some tens of milliseconds. With more, the start
/// of a program is not what a call waits for.
const SOON: u64 = 64 << 20;

/// Whether a guest may carry out a request that does not concern the caller's own process.
pub fn may_do(settings: &Settings, request: &CriuReq) -> bool {
    let Some(options) = &request.opts else { return false };
    let undisturbed = settings.service == Service::Own
        && matches!(settings.notify, Notify::None)
        && options.exec_cmd.is_empty();
    undisturbed && is_done_soon(request.r#type(), options)
}

fn is_done_soon(kind: CriuReqType, options: &CriuOpts) -> bool {
    match (kind, options.pid) {
        (CriuReqType::Restore, _) => memory_in_images(options) <= SOON,
        (CriuReqType::Dump, Some(pid)) => {
            !may_share_memory(pid) && resident(pid).is_some_and(|bytes| bytes <= SOON)
        }
        _ => false,
    }
}

/// What the processes of a dump had in memory of their own.
fn memory_in_images(options: &CriuOpts) -> u64 {
    let dir = match &options.images_dir {
        _ if options.images_dir_fd >= 0 => {
            PathBuf::from(format!("/proc/self/fd/{}", options.images_dir_fd))
        }
        Some(path) => PathBuf::from(OsStr::from_bytes(path)),
        None => return 0,
    };
    let size = |number| fs::metadata(dir.join(format!("pages-{number}.img"))).ok();
    (1..).map_while(size).map(|file| file.len()).sum()
}

/// What the root of a tree has in memory now.
fn resident(pid: i32) -> Option<u64> {
    let sizes = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_SIZE)
}

/// Has a guest carry the request out; None if it cannot be made.
pub fn answer(settings: &Settings, request: &CriuReq) -> Option<Result<CriuResp, Failure>> {
    let saved = errno();
    let answered = beside::run(Tables::Own, || {
        // SAFETY: descriptors and handlers are this process's own, and nobody else in it uses them.
        unsafe {
            default_signals();
            open_missing_stdio();
        }
        inprocess::answer(settings, request, Client::only_for_this())
    });
    set_errno(saved);
    let ended = || {
        let reset = io::Error::from_raw_os_error(libc::ECONNRESET);
        Err(Failure::comm("the worker has ended without an answer", &reset))
    };
    answered.ok().map(|answer| answer.unwrap_or_else(ended))
}
