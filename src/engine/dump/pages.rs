//! The private pages of all processes. Each address space has a pages file of its own, so two are
//! written at a time: of many small ones most of the time goes into making files and looking at
//! page tables.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::error::{Context, Result};
use crate::images::dir::Creation;
use crate::images::snapshot::Pagemap;
use crate::kernel::proc;
use crate::objects::memory::{PrivatePages, in_two_threads};
use crate::progress;

/// A second thread pays from this many address spaces on; of one large one the pages are shared
/// out instead.
const WORTH_A_THREAD: usize = 4;

/// Writes them, with ids from 1 on in their order, and returns what is where, in the same order.
pub fn write(spaces: &[PrivatePages<'_>], creation: &Creation) -> Result<Vec<Pagemap>> {
    let sizes = guesses(spaces);
    let next = AtomicUsize::new(0);
    let written = Mutex::new(BTreeMap::new());
    let work = || loop {
        let index = next.fetch_add(1, Relaxed);
        let Some(space) = spaces.get(index) else { return Ok(()) };
        progress::guess(sizes.iter().skip(index + 1).sum());
        let id = u32::try_from(index + 1).expect("as many as pids at most");
        let pagemap = space.write(creation, id).doing(|| format!("pid {}: memory", space.pid()));
        match pagemap {
            Ok(pagemap) => written.lock().insert(index, pagemap),
            Err(error) => {
                // The other thread need not go on.
                next.store(spaces.len(), Relaxed);
                return Err(error);
            }
        };
    };
    if spaces.len() < WORTH_A_THREAD { work() } else { in_two_threads(work) }?;
    Ok(written.into_inner().into_values().collect())
}

/// How much memory each process has, for who watches.
fn guesses(spaces: &[PrivatePages<'_>]) -> Vec<u64> {
    let watched = if progress::is_watched() { spaces } else { &[] };
    watched.iter().map(|space| proc::own_memory(space.pid()).unwrap_or(0)).collect()
}
