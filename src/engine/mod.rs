//! Dump, restore, check: stories read top to bottom.

pub mod check;
pub mod hooks;
pub mod scripts;

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The images are complete.
    Dumped,
    /// The tree runs; `pid` is its root, a child of the engine unless it was asked for otherwise.
    Restored { pid: i32 },
    /// All that was asked about is there.
    Checked,
}
