//! Bits of a `vma_entry` and of a `pagemap_entry`, as the image format defines them.

/// What a VMA is: `vma_entry.status`.
pub mod status {
    /// Restored by mapping it anew.
    pub const REGULAR: u32 = 1 << 0;
    pub const VSYSCALL: u32 = 1 << 2;
    pub const VDSO: u32 = 1 << 3;
    /// For information only.
    pub const HEAP: u32 = 1 << 5;
    pub const FILE_PRIVATE: u32 = 1 << 6;
    pub const FILE_SHARED: u32 = 1 << 7;
    pub const ANON_SHARED: u32 = 1 << 8;
    pub const ANON_PRIVATE: u32 = 1 << 9;
    pub const SYSVIPC: u32 = 1 << 10;
    pub const SOCKET: u32 = 1 << 11;
    pub const VVAR: u32 = 1 << 12;
    pub const AIO_RING: u32 = 1 << 13;
    /// With one of the `FILE_*` bits: the file is a memfd or shared anonymous memory.
    pub const MEMFD: u32 = 1 << 14;
    pub const SHADOW_STACK: u32 = 1 << 15;
    /// A range of guard pages inside a VMA. These entries stand after those of all VMAs.
    pub const GUARD: u32 = 1 << 16;
    pub const UPROBES: u32 = 1 << 17;

    /// The four kinds of contents. A VMA has exactly one of them.
    pub const CONTENTS: u32 = FILE_PRIVATE | FILE_SHARED | ANON_SHARED | ANON_PRIVATE;
}

/// How a VMA was mapped: `vma_entry.flags` (values of `mmap`).
pub mod flags {
    pub const SHARED: u32 = 0x01;
    pub const PRIVATE: u32 = 0x02;
    pub const DROPPABLE: u32 = 0x08;
    pub const ANONYMOUS: u32 = 0x20;
    pub const GROWSDOWN: u32 = 0x100;
    pub const LOCKED: u32 = 0x2000;
    pub const NORESERVE: u32 = 0x4000;
    /// Beside [`LOCKED`]: pages are locked as they are touched (`MLOCK_ONFAULT`). The format has no
    /// bit for that, so the value of `MAP_NONBLOCK` stands for it. `mmap` ignores `MAP_NONBLOCK` without
    /// `MAP_POPULATE`: another program that restores the image locks all pages, and nothing else changes.
    pub const LOCKED_ON_FAULT: u32 = 0x1_0000;
    pub const HUGETLB: u32 = 0x4_0000;
    /// Logarithm of the size of huge pages.
    pub const HUGE_SHIFT: u32 = 26;
    pub const HUGE_MASK: u32 = 0x3f << HUGE_SHIFT;

    /// Every bit that may stand in an image.
    pub const KNOWN: u32 = SHARED
        | PRIVATE
        | DROPPABLE
        | ANONYMOUS
        | GROWSDOWN
        | LOCKED
        | NORESERVE
        | LOCKED_ON_FAULT
        | HUGETLB
        | HUGE_MASK;
}

/// `pagemap_entry.flags`.
pub mod page {
    /// The pages stand in the parent checkpoint's image.
    pub const PARENT: u32 = 1 << 0;
    /// The pages may be brought in after the process runs again.
    pub const LAZY: u32 = 1 << 1;
    /// The pages stand in this checkpoint's pages file.
    pub const PRESENT: u32 = 1 << 2;
}
