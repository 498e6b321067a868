//! Open files: regular files and directories, unlinked files, pipes, named pipes, event counters,
//! timers, signal files, epoll files, memfds, pseudo terminals, locks, and the socket of a process
//! that asked for its own dump.
//!
//! One file per kind: what it is, claim, capture, validate, rebuild. [`KINDS`] lists them; a file that
//! none of them claims is refused by name ([`refused`]).
//!
//! * Dump: [`Collector`] is told of every table, working directory and mapped file, settles which
//!   descriptors are the same open file, and fills the snapshot.
//! * Restore: [`OpenFiles`] makes every open file once, in the engine, and hands it to each holder.
//!   The order, and the reason for it:
//!   0. [`OpenFiles::prepare`]: before memory is mapped.
//!   1. [`OpenFiles::open_all`]: when the processes exist, since files of `/proc/PID` are opened.
//!   2. [`OpenFiles::attach_terminals`]: when sessions and groups exist; `/dev/tty` can only be
//!      opened from within a session that has its terminal.
//!   3. [`OpenFiles::watch`]: epoll files need all their targets, `/dev/tty` included.
//!   4. [`OpenFiles::install_table`], [`OpenFiles::install_fs`] per table and process.
//!   5. [`OpenFiles::restore_owners`]: when all threads exist, since one may be the owner.
//!   6. [`OpenFiles::lock`], [`OpenFiles::lock_process`]: tables must be in place.
//!   7. [`OpenFiles::seal`]: when memory is filled and mapped.
//!   8. [`OpenFiles::finish`]: when nothing can fail any more.

mod build_id;
mod collect;
mod epoll;
mod eventfd;
mod fdinfo;
mod fifo;
mod ghost;
mod install;
mod link;
mod locks;
mod memfd;
mod open;
mod opened;
mod pipe;
mod refused;
mod regular;
mod service_socket;
mod signalfd;
mod timerfd;
mod tty;
mod tty_data;
mod tty_open;

#[cfg(test)]
mod testing;

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::{Context, Error, Result};
use crate::images::proto::{FdTypes, FdinfoEntry, FileEntry};
use crate::images::sections::SECTIONS;
use crate::images::snapshot::Snapshot;
use crate::kernel::fcntl;

use self::collect::Fate;
use self::opened::{Captured, Opened};

pub use self::collect::{Collected, Collector, CollectorOptions};
pub use self::link::Links;
pub use self::memfd::SharedFile;
pub use self::open::{OpenFiles, RestoreOptions};

/// A kind of open file.
struct KindOfFile {
    claim: fn(&Collector, &Opened) -> bool,
    capture: fn(&Opened, u32, &mut Collector) -> Captured<FdTypes>,
}

/// All kinds, asked in this order: a memfd would pass for a regular file.
const KINDS: [KindOfFile; 10] = [
    KindOfFile { claim: memfd::claim, capture: memfd::capture },
    KindOfFile { claim: regular::claim, capture: regular::capture },
    KindOfFile { claim: pipe::claim, capture: pipe::capture },
    KindOfFile { claim: eventfd::claim, capture: eventfd::capture },
    KindOfFile { claim: epoll::claim, capture: epoll::capture },
    KindOfFile { claim: timerfd::claim, capture: timerfd::capture },
    KindOfFile { claim: signalfd::claim, capture: signalfd::capture },
    KindOfFile { claim: tty::claim, capture: tty::capture },
    KindOfFile { claim: fifo::claim, capture: fifo::capture },
    KindOfFile { claim: service_socket::claim, capture: service_socket::capture },
];

/// More descriptors than Linux gives a process (fs.nr_open is at most this).
const MOST_DESCRIPTORS: u32 = 0x7fff_ffc0;

/// Checks everything about open files that can be checked before anything is built.
pub fn validate(snapshot: &Snapshot) -> Result<()> {
    for (files_id, table) in &snapshot.descriptor_tables {
        validate_table(snapshot, *files_id, table)?;
    }
    for task in snapshot.tasks.values() {
        let Some(fs) = &task.fs else { continue };
        for id in [fs.cwd_id, fs.root_id] {
            if snapshot.files.get(&id).is_none_or(|file| file.reg.is_none()) {
                return Err(Error::image("fs.img", format!("directory {id} is not there")));
            }
        }
    }
    for file in snapshot.files.values() {
        validate_file(file)?;
    }
    for fifo in snapshot.files.values().filter_map(|file| file.fifo.as_ref()) {
        fifo::path(fifo, snapshot)?;
    }
    pipe::validate("pipes-data.img", &snapshot.pipe_data)?;
    pipe::validate("fifo-data.img", &snapshot.fifo_data)?;
    ghost::validate(snapshot)?;
    memfd::validate(snapshot)?;
    tty::validate(snapshot)?;
    epoll::validate(snapshot)?;
    locks::validate(snapshot)
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

fn validate_file(file: &FileEntry) -> Result<()> {
    let missing =
        || Error::image("files.img", format!("file {} has no contents of its kind", file.id));
    let kind = FdTypes::try_from(file.r#type);
    match kind {
        Ok(FdTypes::Reg) => regular::validate(file.reg.as_ref().ok_or_else(missing)?),
        Ok(FdTypes::Pipe) => file.pipe.as_ref().ok_or_else(missing).map(drop),
        Ok(FdTypes::Fifo) => file.fifo.as_ref().ok_or_else(missing).map(drop),
        Ok(FdTypes::Eventfd) => eventfd::validate(file.efd.as_ref().ok_or_else(missing)?),
        Ok(FdTypes::Eventpoll) => file.epfd.as_ref().ok_or_else(missing).map(drop),
        Ok(FdTypes::Signalfd) => file.sgfd.as_ref().ok_or_else(missing).map(drop),
        Ok(FdTypes::Timerfd) => timerfd::validate(file.tfd.as_ref().ok_or_else(missing)?),
        Ok(FdTypes::Memfd) => file.memfd.as_ref().ok_or_else(missing).map(drop),
        Ok(FdTypes::Tty) => file.tty.as_ref().ok_or_else(missing).map(drop),
        Ok(FdTypes::Unixsk) => service_socket::validate(file.usk.as_ref().ok_or_else(missing)?),
        Ok(other) => {
            let cause = format!(
                "file {} is of kind {}, which is not restored",
                file.id,
                other.as_str_name()
            );
            Err(Error::image("files.img", cause))
        }
        Err(_) => Err(Error::image("files.img", format!("file {} is of an unknown kind", file.id))),
    }
}

/// The table of descriptors of a process.
fn table_of(snapshot: &Snapshot, pid: u32) -> Option<&[FdinfoEntry]> {
    let ids = snapshot.tasks.get(&pid)?.ids.as_ref()?;
    snapshot.descriptor_tables.get(&ids.files_id).map(Vec::as_slice)
}

/// Opens a path for a restored task: close-on-exec in the engine, and never as our terminal.
fn open_for(path: &Path, flags: i32) -> Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(flags | libc::O_CLOEXEC | libc::O_NOCTTY);
    nix::fcntl::open(path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))
}

/// Gives an open file those status flags of an image that can be set after opening.
fn set_status_flags(file: &OwnedFd, flags: u32) -> nix::Result<()> {
    const SETTABLE: i32 =
        libc::O_APPEND | libc::O_ASYNC | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;
    let now = fcntl::flags(file)?;
    let wanted = (flags.cast_signed() & SETTABLE) | (now & !SETTABLE);
    if wanted == now { Ok(()) } else { fcntl::set_flags(file, wanted) }
}
