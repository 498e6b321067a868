//! How far the copying of memory has come: counters that the engine adds to and a face may read.
//!
//! They are the process's and not a request's: only the command line looks, and it carries out one
//! request. A stretch of memory that is copied costs one addition; nobody is waited for or told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static WATCHED: AtomicBool = AtomicBool::new(false);
static MOVED: AtomicU64 = AtomicU64::new(0);
static KNOWN: AtomicU64 = AtomicU64::new(0);
static GUESSED: AtomicU64 = AtomicU64::new(0);

/// Somebody is going to look, so that guesses are worth their trouble.
pub fn watch() {
    WATCHED.store(true, Relaxed);
}

/// Whether anybody looks.
pub fn is_watched() -> bool {
    WATCHED.load(Relaxed)
}

/// Bytes are on their way.
pub fn moved(bytes: u64) {
    MOVED.fetch_add(bytes, Relaxed);
}

/// So many bytes more will be moved, for sure.
pub fn expect(bytes: u64) {
    KNOWN.fetch_add(bytes, Relaxed);
}

/// So many bytes are likely to be moved beside those that are sure.
pub fn guess(bytes: u64) {
    GUESSED.store(bytes, Relaxed);
}

/// A look at the counters, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub moved: u64,
    pub total: u64,
}

/// Looks at the counters.
pub fn read() -> Reading {
    let moved = MOVED.load(Relaxed);
    let total = KNOWN.load(Relaxed).saturating_add(GUESSED.load(Relaxed));
    Reading { moved, total: total.max(moved) }
}
