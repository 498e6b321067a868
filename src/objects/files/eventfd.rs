//! Event counters.
//!
//! The image has no field for EFD_SEMAPHORE. An eventfd's flags always have O_RDWR; the bit beside
//! it, which can occur in no access mode together with it, says semaphore, and other readers of the
//! format mask it away.

use std::os::fd::OwnedFd;

use super::opened::{Captured, Opened};
use super::{Collector, set_status_flags};
use crate::error::{Context, Error, Result};
use crate::images::proto::{EventfdFileEntry, FdTypes, FileEntry};
use crate::kernel::eventfd;

const SEMAPHORE: u32 = libc::EFD_SEMAPHORE.cast_unsigned();

pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    file.is_anonymous("eventfd")
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    let Some(counter) = file.info.eventfd else {
        return Err(file.refuse("the kernel does not tell its counter", ""));
    };
    let flags = file.flags() | if counter.semaphore { SEMAPHORE } else { 0 };
    let efd = EventfdFileEntry { id, flags, fown: file.owner, counter: counter.count };
    collector.put(FileEntry {
        r#type: FdTypes::Eventfd as i32,
        id,
        efd: Some(efd),
        ..Default::default()
    });
    Ok(FdTypes::Eventfd)
}

/// The largest count is reserved.
pub(super) fn validate(entry: &EventfdFileEntry) -> Result<()> {
    if entry.counter == u64::MAX {
        return Err(Error::image("files.img", format!("eventfd {}: impossible count", entry.id)));
    }
    Ok(())
}

pub(super) fn open(entry: &EventfdFileEntry) -> Result<OwnedFd> {
    let what = || format!("make an eventfd with count {}", entry.counter);
    let semaphore = if entry.flags & SEMAPHORE != 0 { libc::EFD_SEMAPHORE } else { 0 };
    let made = eventfd::create(semaphore).doing(what)?;
    if entry.counter > 0 {
        nix::unistd::write(&made, &entry.counter.to_ne_bytes()).doing(what)?;
    }
    set_status_flags(&made, entry.flags).doing(what)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn counts_come_back() {
        let plain = eventfd::create(libc::EFD_NONBLOCK).unwrap();
        nix::unistd::write(&plain, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let semaphore = eventfd::create(libc::EFD_SEMAPHORE).unwrap();
        nix::unistd::write(&semaphore, &3u64.to_ne_bytes()).unwrap();
        let (_, restored) = round_trip(vec![(3, plain), (4, semaphore)]);
        let mut count = [0u8; 8];
        let plain = copy_of(&restored, 3);
        nix::unistd::read(&plain, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), u64::MAX - 1);
        assert_eq!(nix::unistd::read(&plain, &mut count), Err(nix::errno::Errno::EAGAIN));
        nix::unistd::read(copy_of(&restored, 4), &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1, "a semaphore gives one at a time");
    }
}
