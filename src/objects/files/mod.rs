//! Open files, and what belongs to descriptors.
//!
//! A kind of open file is one file with a [`FileKind`] in it and one line in the registry below; a
//! file that no kind claims is refused by name ([`refused`]). Nothing else knows a kind.
//!
//! * Dump: [`Collector`] is told of every table, working directory and mapped file, finds out which
//!   descriptors are the same open file, and has the kinds fill the snapshot.
//! * Restore: [`OpenFiles`] makes every open file once, in the engine, and hands it to each holder.
//!   [`phases`](super::phases) has the order: in each phase, [`OpenFiles::run`] takes the steps for
//!   the whole tree, or [`OpenFiles::take`] those for one process. [`OpenFiles::finish`] comes last,
//!   when nothing can fail any more.

mod build_id;
mod collect;
mod context;
mod describe;
mod fdinfo;
mod ghost;
mod identity;
mod install;
mod kind;
mod link;
mod nameless;
mod open;
mod opened;
mod owners;
mod paths;
mod refused;
mod registry;
mod served;

#[cfg(test)]
mod testing;

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{FdTypes, FdinfoEntry, FileEntry};
use crate::images::sections::SECTIONS;
use crate::images::snapshot::Snapshot;
use crate::kernel::fcntl;

use self::kind::{DescriptorAttribute, FileKind};
use self::registry::{Attribute, Kind, kind_of, kinds, slot};

pub use self::collect::{Collected, Collector};
pub use self::context::{CollectorOptions, RestoreOptions, SharedFile};
pub use self::describe::{Description, describe};
pub use self::kind::{Blanks, FileId};
pub use self::link::Links;
pub use self::open::{DescriptorLimit, OpenFiles};

// Kinds are asked for their claims, and open their files, in this order: a memfd looks like a
// regular file, and the path of a terminal can be opened (by a regular file with O_PATH) when it is
// there.
kinds! {
    files {
        memfd: Memfd,
        tty: Tty,
        regular: Regular,
        pipe: Pipe,
        eventfd: Eventfd,
        epoll: Epoll,
        timerfd: Timerfd,
        signalfd: Signalfd,
        fifo: Fifo,
        service_socket: ServiceSocket,
    }
    descriptors {
        locks: Locks,
    }
}

/// The largest value of fs.nr_open, and so more than any descriptor number.
const MOST_DESCRIPTORS: u32 = 0x7fff_ffc0;

/// Checks the open files of the tree.
pub fn validate(snapshot: &Snapshot) -> Result<()> {
    for (files_id, table) in &snapshot.descriptor_tables {
        validate_table(snapshot, *files_id, table)?;
    }
    for file in snapshot.files.values() {
        let kind = kind_of(file).ok_or_else(|| unknown(file))?;
        (kind.validate)(file, snapshot)?;
    }
    ghost::validate(snapshot)?;
    KINDS.iter().try_for_each(|kind| (kind.validate_all)(snapshot))?;
    ATTRIBUTES.iter().try_for_each(|attribute| (attribute.validate)(snapshot))
}

/// Checks the directories of one process.
pub fn validate_process(snapshot: &Snapshot, pid: TreePid) -> Result<()> {
    let Some(fs) = &snapshot.tasks[&pid].fs else { return Ok(()) };
    for id in [fs.cwd_id, fs.root_id] {
        if snapshot.path_entry(id).is_none() {
            return Err(Error::image("fs.img", format!("directory {id} is not there")));
        }
    }
    Ok(())
}

fn validate_table(snapshot: &Snapshot, files_id: u32, table: &[FdinfoEntry]) -> Result<()> {
    let name = SECTIONS.descriptor_tables.of(files_id);
    let mut numbers = std::collections::BTreeSet::new();
    for entry in table {
        let file = snapshot.files.get(&entry.id);
        if file.is_none_or(|file| file.r#type != entry.r#type) {
            let cause =
                format!("descriptor {} is of file {}, which is not there", entry.fd, entry.id);
            return Err(Error::image(name, cause));
        }
        if entry.fd > MOST_DESCRIPTORS || !numbers.insert(entry.fd) {
            return Err(Error::image(name, format!("impossible descriptor {}", entry.fd)));
        }
    }
    Ok(())
}

fn unknown(file: &FileEntry) -> Error {
    let cause = match FdTypes::try_from(file.r#type) {
        Ok(kind) => format!("kind {}, which is not restored", kind.as_str_name()),
        Err(_) => "an unknown kind".to_owned(),
    };
    Error::image("files.img", format!("file {} is of {cause}", file.id))
}

/// Sets those status flags of an image that can be set on a file that is open.
fn set_status_flags(file: &OwnedFd, flags: u32) -> nix::Result<()> {
    const SETTABLE: i32 =
        libc::O_APPEND | libc::O_ASYNC | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;
    let now = fcntl::flags(file)?;
    let wanted = (flags.cast_signed() & SETTABLE) | (now & !SETTABLE);
    if wanted == now { Ok(()) } else { fcntl::set_flags(file, wanted) }
}
