//! What belongs to an address space.

mod common;

round_trips! { anybody:
    /// Private memory: contents, protections, flags, holes, heap, stack, the layout itself.
    memory_private,
    /// Mappings of files, private and shared, of parts, of unlinked files.
    memory_files,
    /// Shared memory of several processes.
    memory_shared,
    /// Memory in common until one writes.
    memory_cow,
    /// Locked memory, moved memory, huge pages, the vDSO.
    memory_special,
}

/// After a restore, what was in common in memory still is: it is not there twice.
#[test]
fn memory_stays_shared() {
    common::Round { args: &["sharing"], ..common::Round::of("memory_cow") }.run();
}

/// Pages of so much memory are copied while the kernel still shows its layout.
#[test]
fn much_memory() {
    common::Round { args: &["100"], ..common::Round::of("large") }.run();
}

/// Only then it is known that such pages are not to be brought in late.
#[test]
fn much_locked_memory() {
    common::Round { args: &["100", "locked"], ..common::Round::of("large") }.run();
}
