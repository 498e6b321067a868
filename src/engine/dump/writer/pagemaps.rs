//! Pages files and what stands in each: their numbers are given here, and the pagemaps of all
//! processes are kept for the end of the dump.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::error::Result;
use crate::images::snapshot::Pagemap;
use crate::images::write::Store;
use crate::kernel::pid::HostPid;
use crate::objects::pids;

/// Pagemaps by process, filled by several threads.
#[derive(Debug, Default)]
pub struct Pagemaps {
    inner: Mutex<Private>,
}

/// The private memory of all processes, as it was written.
#[derive(Debug, Default)]
pub struct Private {
    /// By process.
    pub pagemaps: BTreeMap<HostPid, Pagemap>,
    /// The highest number of a pages file.
    pub last_id: u32,
}

impl Pagemaps {
    /// A number for a pages file; they count from 1.
    pub fn new_id(&self) -> u32 {
        let mut inner = self.inner.lock();
        inner.last_id += 1;
        inner.last_id
    }

    /// Writes the pagemap of a process, and keeps it.
    pub fn write(&self, pid: HostPid, pagemap: Pagemap, store: &Store) -> Result<()> {
        store.pagemap(pids::tree(pid), &pagemap)?;
        self.inner.lock().pagemaps.insert(pid, pagemap);
        Ok(())
    }

    /// All that was written.
    pub fn take(&self) -> Private {
        std::mem::take(&mut self.inner.lock())
    }
}
