//! Translates what the kernel shows of a VMA into its `vma_entry`, or says why it is refused.

use crate::images::proto::VmaEntry;

use super::bits::{flags, status};
use super::smaps::Mapping;

/// Why a VMA cannot be carried, and what would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    pub reason: &'static str,
    pub remedy: &'static str,
}

const fn why(reason: &'static str, remedy: &'static str) -> Why {
    Why { reason, remedy }
}

/// `VmFlags` words that stand for something no image can say.
const REFUSED_FLAGS: &[(&str, Why)] = &[
    ("um", why("is watched by a userfaultfd", "close the userfaultfd before the dump")),
    ("uw", why("is write-protected by a userfaultfd", "close the userfaultfd before the dump")),
    ("ui", why("is watched by a userfaultfd", "close the userfaultfd before the dump")),
    ("sl", why("is sealed by mseal; the image format cannot say so", "")),
    ("ss", why("is a shadow stack, which is not carried", "run it without shadow stacks")),
];

/// Names under which the kernel shows what cannot be carried.
const REFUSED_NAMES: &[(&str, Why)] = &[
    ("[uprobes]", why("belongs to an active uprobe", "remove the uprobe before the dump")),
    ("/[aio]", why("asynchronous I/O rings are not carried", "call io_destroy before the dump")),
    ("/SYSV", why("System V shared memory is not carried", "detach it before the dump")),
    ("anon_inode:[io_uring]", why("io_uring is not carried", "close the ring before the dump")),
    ("anon_inode:[perf_event]", why("perf buffers are not carried", "close it before the dump")),
    ("socket:", why("memory mapped from a socket is not carried", "unmap it before the dump")),
];

/// `madvise` values with the word that shows each in `VmFlags`.
const ADVICE: &[(&str, i32)] = &[
    ("sr", libc::MADV_SEQUENTIAL),
    ("rr", libc::MADV_RANDOM),
    ("dc", libc::MADV_DONTFORK),
    ("dd", libc::MADV_DONTDUMP),
    ("mg", libc::MADV_MERGEABLE),
    ("hg", libc::MADV_HUGEPAGE),
    ("nh", libc::MADV_NOHUGEPAGE),
    ("wf", libc::MADV_WIPEONFORK),
];

/// What makes this VMA impossible to carry, if anything does.
pub fn refusal(mapping: &Mapping) -> Option<Why> {
    let named = REFUSED_NAMES.iter().find(|(prefix, _)| mapping.name.starts_with(prefix));
    let flagged = REFUSED_FLAGS.iter().find(|(word, _)| mapping.has(word));
    let device = || {
        let io = mapping.has("io") || mapping.has("pf");
        (io && !is_vvar(mapping)).then_some(why("is mapped device memory", "unmap it"))
    };
    let huge = || {
        let shared = mapping.has("ht") && has_file(mapping);
        shared.then_some(why("shared huge pages are not carried", "unmap them before the dump"))
    };
    named.or(flagged).map(|(_, why)| *why).or_else(device).or_else(huge)
}

/// `[vvar]` and, since Linux 6.13, `[vvar_vclock]`: data of the vDSO.
pub fn is_vvar(mapping: &Mapping) -> bool {
    matches!(mapping.name.as_str(), "[vvar]" | "[vvar_vclock]")
}

/// Whether the VMA has a file behind it that others could map as well.
pub fn has_file(mapping: &Mapping) -> bool {
    (mapping.device != (0, 0) || mapping.inode != 0) && !is_private_hugetlb(mapping)
}

fn is_private_hugetlb(mapping: &Mapping) -> bool {
    mapping.has("ht") && !mapping.shared && mapping.name.starts_with("/anon_hugepage")
}

/// The entry of a VMA without a file.
pub fn anonymous(mapping: &Mapping) -> VmaEntry {
    let special = match mapping.name.as_str() {
        "[vsyscall]" => status::VSYSCALL,
        "[vdso]" => status::REGULAR | status::VDSO,
        "[heap]" => status::REGULAR | status::HEAP,
        _ if is_vvar(mapping) => status::REGULAR | status::VVAR,
        _ => status::REGULAR,
    };
    let mut entry = common(mapping);
    entry.status = special | status::ANON_PRIVATE;
    entry.flags |= flags::ANONYMOUS;
    entry
}

/// What a VMA maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Id of the file.
    pub file_id: u32,
    /// Whether it is a memfd, or shared anonymous memory, which is the same to the kernel.
    pub memfd: bool,
    /// `O_RDONLY`, `O_WRONLY` or `O_RDWR`: how the mapped file was opened.
    pub access: u32,
}

/// The entry of a VMA that maps a file.
pub fn of_file(mapping: &Mapping, backing: Backing) -> VmaEntry {
    let mut entry = common(mapping);
    entry.status = status::REGULAR;
    entry.status |= if mapping.shared { status::FILE_SHARED } else { status::FILE_PRIVATE };
    if backing.memfd {
        entry.status |= status::MEMFD;
    }
    entry.shmid = backing.file_id.into();
    entry.fdflags = Some(backing.access);
    entry
}

fn common(mapping: &Mapping) -> VmaEntry {
    let madv = advice(mapping);
    VmaEntry {
        start: mapping.start,
        end: mapping.end,
        pgoff: mapping.offset,
        prot: mapping.prot,
        flags: mmap_flags(mapping),
        fd: -1,
        madv: (madv != 0).then_some(madv),
        ..VmaEntry::default()
    }
}

fn advice(mapping: &Mapping) -> u64 {
    ADVICE.iter().filter(|(word, _)| mapping.has(word)).map(|(_, advice)| 1u64 << advice).sum()
}

fn mmap_flags(mapping: &Mapping) -> u32 {
    let mut bits = match (mapping.shared, mapping.has("dp")) {
        (true, _) => flags::SHARED,
        (false, true) => flags::DROPPABLE,
        (false, false) => flags::PRIVATE,
    };
    let words = [
        ("gd", flags::GROWSDOWN),
        ("lo", flags::LOCKED),
        ("lf", flags::LOCKED_ON_FAULT),
        ("nr", flags::NORESERVE),
        ("ht", flags::HUGETLB | huge_size(mapping)),
    ];
    for (_, bit) in words.iter().filter(|(word, _)| mapping.has(word)) {
        bits |= bit;
    }
    bits
}

fn huge_size(mapping: &Mapping) -> u32 {
    let logarithm = (mapping.page_kib.max(1) * 1024).ilog2();
    (logarithm << flags::HUGE_SHIFT) & flags::HUGE_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(name: &str, words: &str) -> Mapping {
        Mapping {
            start: 0x10000,
            end: 0x20000,
            prot: 3,
            name: name.into(),
            flags: words.into(),
            page_kib: 4,
            ..Mapping::default()
        }
    }

    #[test]
    fn anonymous_kinds_have_the_bits_of_the_format() {
        let stack = anonymous(&mapping("[stack]", "rd wr gd ac"));
        assert_eq!((stack.status, stack.flags, stack.fd), (0x201, 0x122, -1));
        assert_eq!(anonymous(&mapping("[heap]", "rd wr")).status, 0x221);
        assert_eq!(anonymous(&mapping("[vdso]", "rd ex de")).status, 0x209);
        assert_eq!(anonymous(&mapping("[vsyscall]", "ex")).status, 0x204);
        let vvar = anonymous(&mapping("[vvar]", "rd mr pf io de dd"));
        assert_eq!((vvar.status, vvar.madv), (0x1201, Some(0x10000)));
        let droppable = anonymous(&mapping("", "rd wr mr mw me nr dd wf dp"));
        assert_eq!((droppable.flags, droppable.madv), (0x4028, Some(0x50000)));
        assert_eq!(anonymous(&mapping("", "lo")).flags, 0x2022);
        assert_eq!(anonymous(&mapping("", "lo lf")).flags, 0x12022);
    }

    #[test]
    fn files_have_their_id_and_access() {
        let mut shared = mapping("/memfd:x (deleted)", "rd wr sh");
        shared.shared = true;
        let entry = of_file(&shared, Backing { file_id: 3, memfd: true, access: 2 });
        assert_eq!(
            (entry.status, entry.flags, entry.shmid, entry.fdflags),
            (0x4081, 1, 3, Some(2))
        );
        let private = mapping("/bin/x", "rd");
        let entry = of_file(&private, Backing { file_id: 1, memfd: false, access: 0 });
        assert_eq!((entry.status, entry.flags, entry.fdflags), (0x41, 2, Some(0)));
    }

    #[test]
    fn huge_pages_say_their_size() {
        let mut huge = mapping("/anon_hugepage (deleted)", "rd wr ht");
        huge.page_kib = 2048;
        huge.inode = 7;
        assert!(!has_file(&huge) && refusal(&huge).is_none());
        assert_eq!(anonymous(&huge).flags, 0x22 | 0x40000 | 21 << 26);
        huge.shared = true;
        assert!(has_file(&huge));
        assert!(refusal(&huge).unwrap().reason.contains("huge pages"));
    }

    #[test]
    fn what_cannot_be_carried_is_refused() {
        for (name, words) in [
            ("[uprobes]", "ex"),
            ("/[aio] (deleted)", "rd wr"),
            ("/SYSV00000000 (deleted)", "rd wr"),
            ("", "rd wr um"),
            ("", "rd sl"),
            ("", "rd ss"),
            ("/dev/mem", "rd io pf"),
            ("anon_inode:[io_uring]", "rd wr"),
        ] {
            assert!(refusal(&mapping(name, words)).is_some(), "{name} {words}");
        }
        assert_eq!(refusal(&mapping("[vvar]", "rd pf io de dd")), None);
        assert_eq!(refusal(&mapping("/lib/x.so", "rd ex mr mw me")), None);
    }
}
