//! The build id of a program or library, by which two builds of the same size are told apart.
//!
//! To open a file breaks the leases on it and wakes whoever watches it, so that none is opened here:
//! it is read through a descriptor that there is already, or where a process has it mapped.

use std::os::fd::{AsFd, OwnedFd};

use crate::kernel::mapping;
use crate::kernel::memory::Stretch;

/// How many bytes of a file are searched: the note stands near the beginning.
const SEARCHED: u64 = 1 << 20;
const PT_NOTE: u64 = 4;
const NT_GNU_BUILD_ID: u64 = 3;
/// The longest build id that is believed; linkers write 20 bytes or fewer.
const LONGEST: usize = 512;

/// The build id in words, of which the last one is filled up with zeros. None if there is none, or
/// if the descriptor is not for reading.
pub(super) fn read(file: &OwnedFd) -> Option<Vec<u32>> {
    let size = nix::sys::stat::fstat(file).ok()?.st_size;
    read_by(size.cast_unsigned(), |offset, bytes| {
        mapping::read_unnoticed(file.as_fd(), bytes, offset).ok()
    })
}

/// The same of a file whose beginning a process has mapped.
pub(super) fn read_mapped(head: &Stretch) -> Option<Vec<u32>> {
    read_by(head.len, |offset, bytes| head.read(offset, bytes).ok())
}

fn read_by(size: u64, read: impl Fn(u64, &mut [u8]) -> Option<()>) -> Option<Vec<u32>> {
    let mut start = [0u8; 4];
    read(0, &mut start)?;
    if &start != b"\x7fELF" {
        return None;
    }
    let size = usize::try_from(size.min(SEARCHED)).ok()?;
    let mut head = vec![0u8; 4096.min(size)];
    read(0, &mut head)?;
    let id = notes(&head)?.find_map(|(offset, len)| {
        let mut notes = vec![0u8; len.min(size.checked_sub(offset)?)];
        read(offset as u64, &mut notes)?;
        find(&notes)
    })?;
    Some(
        id.chunks(4)
            .map(|chunk| {
                let mut word = [0u8; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                u32::from_le_bytes(word)
            })
            .collect(),
    )
}

/// Offset and length of the note segments, from the first bytes of an ELF file.
fn notes(head: &[u8]) -> Option<impl Iterator<Item = (usize, usize)>> {
    // (width of an address, e_phoff, e_phentsize, p_offset, p_filesz)
    let (wide, phoff, phentsize, offset, filesz) = match head.get(4)? {
        1 => (4, 28, 42, 4, 16),
        2 => (8, 32, 54, 8, 32),
        _ => return None,
    };
    let start = usize::try_from(number(head, phoff, wide)?).ok()?;
    let size = usize::try_from(number(head, phentsize, 2)?).ok()?.max(1);
    let count = usize::try_from(number(head, phentsize + 2, 2)?).ok()?;
    let headers = head.get(start..)?.chunks(size).take(count);
    Some(headers.filter_map(move |header| {
        let note = number(header, 0, 4)? == PT_NOTE;
        let place = (number(header, offset, wide)?, number(header, filesz, wide)?);
        note.then_some((usize::try_from(place.0).ok()?, usize::try_from(place.1).ok()?))
    }))
}

fn find(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let name = usize::try_from(number(notes, 0, 4)?).ok()?.checked_next_multiple_of(4)?;
        let len = usize::try_from(number(notes, 4, 4)?).ok()?;
        let kind = number(notes, 8, 4)?;
        let rest = notes.get(12..)?.get(name..)?;
        if kind == NT_GNU_BUILD_ID && (1..=LONGEST).contains(&len) {
            return rest.get(..len).map(<[u8]>::to_vec);
        }
        notes = rest.get(len.checked_next_multiple_of(4)?..)?;
    }
}

fn number(bytes: &[u8], at: usize, wide: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.get(..wide)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::kernel::pid::HostPid;
    use crate::kernel::remote::RemoteAddr;

    #[test]
    fn finds_the_note_among_others() {
        let mut notes = Vec::new();
        for (kind, desc) in [(5u32, &b"property"[..]), (3, b"0123456789")] {
            notes
                .extend([4u32, desc.len() as u32, kind].iter().flat_map(|word| word.to_le_bytes()));
            notes.extend(b"GNU\0");
            notes.extend(desc);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(find(&notes).unwrap(), b"0123456789");
        assert_eq!(find(&notes[..30]), None);
    }

    #[test]
    fn what_is_no_program_has_none() {
        assert_eq!(read(&File::open("/etc/passwd").unwrap().into()), None);
        assert_eq!(read(&File::open("/dev/null").unwrap().into()), None);
    }

    #[test]
    fn a_library_has_one() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.contains("/libc")).unwrap();
        let path = line.split_whitespace().last().unwrap();
        let by_descriptor = read(&File::open(path).unwrap().into()).unwrap();
        assert_eq!(by_descriptor.len(), 5);
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let pid = HostPid::own();
        let head = Stretch { pid, start: RemoteAddr(start), len: end - start };
        assert_eq!(read_mapped(&head), Some(by_descriptor));
    }
}
