//! Names and magic numbers of what lies beside the [sections](super::sections) of a checkpoint.

/// Second magic words.
pub mod magic {
    pub const STATS: u32 = 0x5709_3306;
}

/// The directory (mostly a symbolic link to it) with the dump before this one.
pub const PARENT: &str = "parent";

/// Raw pages.
pub fn pages(pages_id: u32) -> String {
    format!("pages-{pages_id}.img")
}
