//! Signals that are read from a file. A read gives the signals of the process that reads, so that
//! the engine can make the file. An epoll file watches the signals of the process that added it.

use std::os::fd::OwnedFd;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::fdinfo::hex;
use super::kind::{FileId, FileKind, held_as};
use super::opened::{Captured, Opened};
use super::set_status_flags;
use crate::error::{Context, Result};
use crate::images::proto::{FdTypes, FownEntry, SignalfdEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::signalfd;

pub(super) struct Signalfd;

impl FileKind for Signalfd {
    const TYPE: FdTypes = FdTypes::Signalfd;
    const NAME: &'static str = "signalfd";
    const WATCHED_FROM_WITHIN: bool = true;
    type Entry = SignalfdEntry;
    type Met = ();
    type Made = ();
    held_as!(sgfd);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        file.is_anonymous("signalfd")
    }

    fn capture(
        file: &Opened,
        id: FileId,
        _: &mut (),
        _: &mut DumpCx<'_>,
    ) -> Captured<SignalfdEntry> {
        let Some(sigmask) = file.info.value("sigmask").and_then(hex) else {
            return Err(file.refuse("the kernel does not tell its signals", ""));
        };
        Ok(SignalfdEntry { id, flags: file.flags(), fown: file.owner, sigmask })
    }

    fn validate(_: &SignalfdEntry, _: &Snapshot) -> Result<()> {
        Ok(())
    }

    fn open(entry: &SignalfdEntry, _: &mut (), _: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        let what = || format!("make a signalfd for the signals {:x}", entry.sigmask);
        let made = signalfd::create(entry.sigmask).doing(what)?;
        set_status_flags(&made, entry.flags).doing(what)?;
        Ok(Some(made))
    }

    fn owner<'a>(entry: &'a SignalfdEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &SignalfdEntry, _: &Snapshot) -> Description {
        Description::saying(format!("signals {:#x}", entry.sigmask))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn signals_come_back() {
        let mask = 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGTERM - 1) | 1 << 63;
        let (_, restored) = round_trip(vec![(3, signalfd::create(mask).unwrap())]);
        let info = super::super::fdinfo::Fdinfo::read(restored.pid(), 3).unwrap();
        assert_eq!(info.value("sigmask").and_then(hex), Some(mask));
    }
}
