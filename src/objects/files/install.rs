//! Puts descriptors to their numbers in the restored processes.
//!
//! A process receives its descriptors in the order of their final numbers, and the kernel gives
//! them the lowest free numbers: the n-th never gets a number above its final one. They are moved
//! from the highest down, so that none is overwritten before it is moved.

use std::os::fd::{AsFd, BorrowedFd};

use super::OpenFiles;
use super::collect::FD_CLOEXEC;
use crate::args;
use crate::error::{Error, Kind, Result};
use crate::images::proto::{FdinfoEntry, FsEntry};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteFd;
use crate::objects::phases::{Phase, Turn};
use crate::objects::pids;
use crate::tracee::batch::Batch;
use crate::tracee::blank::Delivery;

/// How many descriptors one batch places: so many fit into any helper area.
const AT_A_TIME: usize = 100;

impl OpenFiles<'_> {
    /// Takes the steps of a phase in one process. A table that several have is filled by the first.
    pub fn take(&self, phase: Phase, turn: &mut Turn<'_>) -> Result<()> {
        let pid = pids::tree(turn.pid());
        let table = self.cx.snapshot.table_of(pid).filter(|_| self.fillers.contains(&pid));
        let fs = self.cx.snapshot.tasks.get(&pid).and_then(|task| task.fs.as_ref());
        match phase {
            Phase::EmptyTable => match table {
                Some(table) => self.prepare_table(turn, table),
                None => Ok(()),
            },
            Phase::Directories => fs.map_or(Ok(()), |fs| self.install_fs(turn.delivery(), fs)),
            Phase::Tables => {
                table.map_or(Ok(()), |table| self.install_table(turn.delivery(), table))
            }
            _ => self.run_in(phase, turn),
        }
    }

    /// Takes the steps of [`Phase::EmptyTable`] in the process that fills a table.
    fn prepare_table(&self, turn: &mut Turn<'_>, table: &[FdinfoEntry]) -> Result<()> {
        let highest = table.iter().map(|entry| entry.fd.cast_signed()).max();
        if let Some(highest) = highest
            && turn.stopped().service_fd().is_none_or(|service| service.0 <= highest)
        {
            turn.blank()?.move_service_fd(highest + 1)?;
        }
        self.run_in(Phase::EmptyTable, turn)
    }

    /// Fills the empty, [prepared](Self::prepare_table) table of a process.
    pub(super) fn install_table(
        &self,
        delivery: &mut Delivery<'_>,
        table: &[FdinfoEntry],
    ) -> Result<()> {
        let mut sorted: Vec<&FdinfoEntry> = table.iter().collect();
        sorted.sort_unstable_by_key(|entry| entry.fd);
        let files = sorted
            .iter()
            .map(|entry| self.fd(entry.id))
            .collect::<Result<Vec<BorrowedFd<'_>>>>()?;
        place(delivery, &files, &sorted)
    }

    /// Puts a process into its root and working directory and sets its umask.
    fn install_fs(&self, delivery: &mut Delivery<'_>, fs: &FsEntry) -> Result<()> {
        let pid = delivery.pid();
        let directory =
            |id| self.open_for_map(id, (libc::O_PATH | libc::O_DIRECTORY).cast_unsigned());
        let cwd = directory(fs.cwd_id)?;
        let mut sent = vec![cwd.as_fd()];
        let root = if self.is_our_root(fs.root_id) { None } else { Some(directory(fs.root_id)?) };
        sent.extend(root.as_ref().map(AsFd::as_fd));
        let received = delivery.receive(&sent)?;
        let batch = delivery.batch();
        if root.is_some() {
            let dot = batch.cstr(".");
            batch.must(format!("pid {pid}: enter the root"), libc::SYS_fchdir, args![received[1]]);
            batch.must(format!("pid {pid}: chroot"), libc::SYS_chroot, args![dot]);
        }
        batch.must(format!("pid {pid}: chdir"), libc::SYS_fchdir, args![received[0]]);
        for number in received {
            batch.must("close a directory", libc::SYS_close, args![number]);
        }
        if let Some(umask) = fs.umask {
            batch.must(format!("pid {pid}: umask"), libc::SYS_umask, args![umask]);
        }
        Ok(())
    }

    fn is_our_root(&self, id: u32) -> bool {
        self.cx.snapshot.path_entry(id).is_some_and(|reg| reg.name == "/")
    }
}

/// Sends open files, in the order of their final numbers, and moves them there.
pub(super) fn place(
    delivery: &mut Delivery<'_>,
    files: &[BorrowedFd<'_>],
    sorted: &[&FdinfoEntry],
) -> Result<()> {
    let received = delivery.receive(files)?;
    delivery.note_filled();
    let pid = delivery.pid();
    let both: Vec<(RemoteFd, &FdinfoEntry)> =
        received.into_iter().zip(sorted.iter().copied()).collect();
    for some in both.rchunks(AT_A_TIME) {
        add_placement(delivery.batch(), pid, some)?;
        if both.len() > AT_A_TIME {
            delivery.flush()?;
        }
    }
    Ok(())
}

/// Adds the calls that move received descriptors to their final numbers.
fn add_placement(batch: &mut Batch, pid: HostPid, both: &[(RemoteFd, &FdinfoEntry)]) -> Result<()> {
    for (from, entry) in both.iter().rev() {
        let to = entry.fd.cast_signed();
        if from.0 > to {
            let cause = format!("pid {pid}: descriptor {to} was received as {}", from.0);
            return Err(Error::new(Kind::Internal, cause));
        }
        let cloexec = entry.flags & FD_CLOEXEC != 0;
        if from.0 == to {
            let flags = if cloexec { libc::FD_CLOEXEC } else { 0 };
            batch.must(
                format!("flags of fd {to}"),
                libc::SYS_fcntl,
                args![*from, libc::F_SETFD, flags],
            );
        } else {
            let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
            batch.must(format!("place fd {to}"), libc::SYS_dup3, args![*from, to, flags]);
            batch.must(format!("close fd {}", from.0), libc::SYS_close, args![*from]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::super::testing::hold;
    use super::*;

    fn entry(fd: u32) -> FdinfoEntry {
        FdinfoEntry { fd, ..Default::default() }
    }

    /// The tables take one batch, several batches, and more than one message.
    #[test]
    fn tables_of_any_length_are_filled() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        for count in [3, 150, 300] {
            let numbers: Vec<i32> = (0..count).map(|index| 2 * index + 1).collect();
            let fds: Vec<_> = numbers.iter().map(|number| (*number, &file)).collect();
            let holder = hold(&fds);
            let service = holder.service_fd().unwrap().0;
            let mut there: Vec<i32> = std::fs::read_dir(format!("/proc/{}/fd", holder.pid()))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                .filter(|number| *number != service)
                .collect();
            there.sort_unstable();
            assert_eq!(there, numbers);
        }
    }

    #[test]
    fn a_table_that_was_not_empty_is_noticed() {
        let (one, two) = (entry(0), entry(7));
        let placed = |first| {
            let both = [(RemoteFd(first), &one), (RemoteFd(first + 1), &two)];
            add_placement(&mut Batch::new(), HostPid::new(1), &both)
        };
        assert!(placed(0).is_ok());
        assert!(placed(1).is_err());
    }
}
