//! The thread-local segments in the GDT of a traced thread.

use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;

/// The first slot of the GDT that belongs to the thread.
pub const FIRST_SLOT: u32 = 12;
/// How many slots there are.
pub const SLOTS: u32 = 3;

/// A 32-bit segment.
pub const SEG_32BIT: u32 = 1 << 0;
/// Lower bit of the kind of contents.
pub const CONTENTS_LOW: u32 = 1 << 1;
/// Upper bit of the kind of contents.
pub const CONTENTS_HIGH: u32 = 1 << 2;
/// Not writable.
pub const READ_EXEC_ONLY: u32 = 1 << 3;
/// The limit counts pages.
pub const LIMIT_IN_PAGES: u32 = 1 << 4;
/// The slot is empty.
pub const SEG_NOT_PRESENT: u32 = 1 << 5;
/// A bit for the program's own use.
pub const USABLE: u32 = 1 << 6;

const PTRACE_GET_THREAD_AREA: libc::c_uint = 25;
const PTRACE_SET_THREAD_AREA: libc::c_uint = 26;

/// One slot, as the kernel's `user_desc` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Number of the slot in the GDT.
    pub number: u32,
    /// Where the segment begins.
    pub base: u32,
    /// The limit of the segment.
    pub limit: u32,
    /// The flags above.
    pub flags: u32,
}

impl Descriptor {
    /// The slot `number`, empty.
    pub fn empty(number: u32) -> Self {
        Self { number, base: 0, limit: 0, flags: READ_EXEC_ONLY | SEG_NOT_PRESENT }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// The slots of a stopped thread; all empty on a kernel that runs no 32-bit code.
pub fn get(tid: HostPid) -> Sys<Vec<Descriptor>> {
    (FIRST_SLOT..FIRST_SLOT + SLOTS)
        .map(|number| match get_one(tid, number) {
            Err(Errno::EIO) => Ok(Descriptor::empty(number)),
            other => other,
        })
        .collect()
}

fn get_one(tid: HostPid, number: u32) -> Sys<Descriptor> {
    let mut slot = Descriptor::empty(number);
    let at = libc::c_long::from(number);
    // SAFETY: the kernel writes one `user_desc`, which `Descriptor` has the layout of.
    let done = unsafe { libc::ptrace(PTRACE_GET_THREAD_AREA, tid.number(), at, &raw mut slot) };
    Errno::result(done).map(|_| slot)
}

/// Sets one slot of a stopped thread.
pub fn set(tid: HostPid, slot: &Descriptor) -> Sys<()> {
    let at = libc::c_long::from(slot.number);
    // SAFETY: the kernel reads one `user_desc`, which `Descriptor` has the layout of.
    let done =
        unsafe { libc::ptrace(PTRACE_SET_THREAD_AREA, tid.number(), at, std::ptr::from_ref(slot)) };
    Errno::result(done).map(drop)
}
