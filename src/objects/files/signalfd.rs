//! Signals read from a file. It shows the signals of whoever reads it, so that it can be made by
//! the engine; only watching it by epoll ties it to a process.

use std::os::fd::OwnedFd;

use super::opened::{Captured, Opened};
use super::{Collector, set_status_flags};
use crate::error::{Context, Result};
use crate::images::proto::{FdTypes, FileEntry, SignalfdEntry};
use crate::kernel::signalfd;

pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    file.is_anonymous("signalfd")
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    let Some(sigmask) = file.info.sigmask else {
        return Err(file.refuse("the kernel does not tell its signals", ""));
    };
    let sgfd = SignalfdEntry { id, flags: file.flags(), fown: file.owner, sigmask };
    collector.put(FileEntry {
        r#type: FdTypes::Signalfd as i32,
        id,
        sgfd: Some(sgfd),
        ..Default::default()
    });
    Ok(FdTypes::Signalfd)
}

pub(super) fn open(entry: &SignalfdEntry) -> Result<OwnedFd> {
    let what = || format!("make a signalfd for the signals {:x}", entry.sigmask);
    let made = signalfd::create(entry.sigmask).doing(what)?;
    set_status_flags(&made, entry.flags).doing(what)?;
    Ok(made)
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
        assert_eq!(info.sigmask, Some(mask));
    }
}
