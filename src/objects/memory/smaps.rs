//! Parser of `/proc/PID/smaps`: what `maps` says of each VMA, and its flags.

use std::io::BufRead;

use crate::error::{Context, Error, Kind, Result};
use crate::kernel::pid::HostPid;

const FLAGS: &[u8] = b"VmFlags:";
const PAGE_SIZE: &[u8] = b"KernelPageSize:";
/// Memory that is the process's own: what is present, and what is swapped out.
const OWN: [&[u8]; 2] = [b"Anonymous:", b"Swap:"];

/// One VMA as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// `PROT_*` bits.
    pub prot: u32,
    pub shared: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Major and minor number of the file's device.
    pub device: (u32, u32),
    pub inode: u64,
    /// Path of the file or a name in brackets; empty for plain anonymous memory.
    pub name: String,
    /// Size of a page of this VMA in KiB.
    pub page_kib: u64,
    /// Memory in it that is the process's own, in KiB.
    pub own_kib: u64,
    /// The two-letter words of `VmFlags`.
    pub flags: String,
}

impl Mapping {
    /// Whether a two-letter word stands among the flags.
    pub fn has(&self, word: &str) -> bool {
        self.flags.split_ascii_whitespace().any(|flag| flag == word)
    }

    /// Where it is, for messages.
    pub fn place(&self, pid: HostPid) -> String {
        format!("pid {pid} at {:x}-{:x}", self.start, self.end)
    }
}

/// Reads all VMAs.
pub fn parse(mut from: impl BufRead) -> Result<Vec<Mapping>> {
    let mut all: Vec<Mapping> = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line).doing(|| "read smaps")? == 0 {
            return Ok(all);
        }
        // Of the two dozen lines of a VMA five are wanted. The first line begins with a small letter or
        // a digit, unlike all others.
        let is_header = !line[0].is_ascii_uppercase();
        if !(is_header || is_wanted(&line)) {
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        match attribute(text).filter(|_| !is_header) {
            None => all.push(header(text).ok_or_else(|| unreadable(text))?),
            Some((key, value)) => {
                let last = all.last_mut().ok_or_else(|| unreadable(text))?;
                note(last, key, value).ok_or_else(|| unreadable(text))?;
            }
        }
    }
}

fn is_wanted(line: &[u8]) -> bool {
    let [present, swapped] = OWN;
    [FLAGS, PAGE_SIZE, present, swapped].iter().any(|key| line.starts_with(key))
}

fn unreadable(line: &str) -> Error {
    Error::new(Kind::Internal, format!("smaps: cannot read line {line:?}"))
}

/// `Key:   value` lines.
fn attribute(line: &str) -> Option<(&str, &str)> {
    line.split_once(':').map(|(key, value)| (key, value.trim()))
}

fn note(mapping: &mut Mapping, key: &str, value: &str) -> Option<()> {
    match key {
        "VmFlags" => value.clone_into(&mut mapping.flags),
        "KernelPageSize" => mapping.page_kib = kib(value)?,
        _ => mapping.own_kib += kib(value)?,
    }
    Some(())
}

fn kib(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse().ok()
}

fn header(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start_matches(' ');
        first
    };
    let (start, end) = word().split_once('-')?;
    let permissions = word().as_bytes();
    let offset = word();
    let (major, minor) = word().split_once(':')?;
    let inode = word();
    let &[read, write, execute, sharing] = permissions else { return None };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        prot: protection([read, write, execute]),
        shared: sharing == b's',
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode: inode.parse().ok()?,
        name: rest.to_owned(),
        ..Mapping::default()
    })
}

fn protection(letters: [u8; 3]) -> u32 {
    let bits = [libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC];
    let set = letters.iter().zip(bits).filter(|(letter, _)| **letter != b'-');
    set.map(|(_, bit)| bit.cast_unsigned()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
7f42bf9b9000-7f42bf9c9000 rw-p 00001000 00:01 36                         /memfd:two words (deleted)
Size:                 64 kB
KernelPageSize:        4 kB
Rss:                   4 kB
Anonymous:            12 kB
Swap:                  4 kB
SwapPss:               4 kB
VmFlags: rd wr mr mw me ac sd
7ffcafc2f000-7ffcafc50000 rw-p 00000000 00:00 0                          [stack]
KernelPageSize:     2048 kB
VmFlags: rd wr gd
7f42bfa09000-7f42bfa0a000 ---s 00000000 fe:00 10010812
VmFlags: 
";

    #[test]
    fn reads_saved_text() {
        let all = parse(TEXT.as_bytes()).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].name, "/memfd:two words (deleted)");
        assert_eq!((all[0].offset, all[0].inode, all[0].device), (4096, 36, (0, 1)));
        assert_eq!((all[0].prot, all[0].shared), (3, false));
        assert!(all[0].has("sd") && !all[0].has("s"));
        assert_eq!((all[0].own_kib, all[1].own_kib), (16, 0));
        assert!(all[1].has("gd") && all[1].page_kib == 2048);
        assert_eq!((all[2].prot, all[2].shared, all[2].device), (0, true, (0xfe, 0)));
        assert_eq!(all[2].name, "");
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["VmFlags: rd\n", "hello\n", "1-2 rw-p zz 00:00 0\n", "1-2 r-p 0 0:0 0\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_this_process() {
        let file = std::fs::File::open("/proc/self/smaps").unwrap();
        let all = parse(std::io::BufReader::new(file)).unwrap();
        assert!(all.iter().any(|mapping| mapping.name == "[stack]" && mapping.has("gd")));
        assert!(all.iter().all(|mapping| !mapping.flags.is_empty() && mapping.page_kib == 4));
    }
}
