//! Event counters.
//!
//! The image has no field for EFD_SEMAPHORE. The access mode of an eventfd is always O_RDWR. The
//! lowest bit, which is never set together with O_RDWR, says in our images that it is a semaphore;
//! other readers of the format mask that bit out.

use std::os::fd::OwnedFd;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::fdinfo::{Fdinfo, hex};
use super::kind::{FileId, FileKind, held_as};
use super::opened::{Captured, Opened};
use super::set_status_flags;
use crate::error::{Context, Error, Result};
use crate::images::proto::{EventfdFileEntry, FdTypes, FownEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::eventfd;

const SEMAPHORE: u32 = libc::EFD_SEMAPHORE.cast_unsigned();

pub(super) struct Eventfd;

impl FileKind for Eventfd {
    const TYPE: FdTypes = FdTypes::Eventfd;
    const NAME: &'static str = "eventfd";
    type Entry = EventfdFileEntry;
    type Met = ();
    type Made = ();
    held_as!(efd);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        file.is_anonymous("eventfd")
    }

    fn capture(
        file: &Opened,
        id: FileId,
        _: &mut (),
        _: &mut DumpCx<'_>,
    ) -> Captured<EventfdFileEntry> {
        let Some((counter, semaphore)) = counter(&file.info) else {
            return Err(file.refuse("the kernel does not tell its counter", ""));
        };
        let flags = file.flags() | if semaphore { SEMAPHORE } else { 0 };
        Ok(EventfdFileEntry { id, flags, fown: file.owner, counter })
    }

    /// A counter never holds the largest number.
    fn validate(entry: &EventfdFileEntry, _: &Snapshot) -> Result<()> {
        if entry.counter == u64::MAX {
            let cause = format!("eventfd {}: impossible count", entry.id);
            return Err(Error::image("files.img", cause));
        }
        Ok(())
    }

    fn open(entry: &EventfdFileEntry, _: &mut (), _: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        let what = || format!("make an eventfd with count {}", entry.counter);
        let semaphore = if entry.flags & SEMAPHORE != 0 { libc::EFD_SEMAPHORE } else { 0 };
        let made = eventfd::create(semaphore).doing(what)?;
        if entry.counter > 0 {
            nix::unistd::write(&made, &entry.counter.to_ne_bytes()).doing(what)?;
        }
        set_status_flags(&made, entry.flags).doing(what)?;
        Ok(Some(made))
    }

    fn owner<'a>(entry: &'a EventfdFileEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &EventfdFileEntry, _: &Snapshot) -> Description {
        Description::saying(format!("counter {}", entry.counter))
    }
}

/// The count, and whether the file is a semaphore.
fn counter(info: &Fdinfo) -> Option<(u64, bool)> {
    let semaphore = info.value("eventfd-semaphore").is_some_and(|value| value != "0");
    Some((hex(info.value("eventfd-count")?)?, semaphore))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_kernel_tells_a_counter() {
        let text = "pos:\t0\nflags:\t04002\nmnt_id:\t17\nino:\t1038\n\
                    eventfd-count:                a\neventfd-id: 3\neventfd-semaphore: 1\n";
        assert_eq!(counter(&Fdinfo::parse(text.into()).unwrap()), Some((10, true)));
        assert_eq!(counter(&Fdinfo::default()), None);
    }

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
