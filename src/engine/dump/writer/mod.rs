//! Writes what is each process's own, its messages and its private pages, while the engine still
//! captures.
//!
//! Two threads write: the helper, and the engine's own when it has captured everything. What a free
//! thread does next is decided by [`schedule`]. As long as the helper has nothing to write, it looks
//! at the memory of processes that come next ([`looks`]); when the engine has to wait for such a look,
//! since the process is large, it copies pages of that process meanwhile.

mod gate;
mod looks;
mod pagemaps;
mod schedule;
mod shared;

use std::sync::Arc;

use self::looks::Looks;
use self::schedule::Schedule;
use self::shared::{Part, Shared};
use crate::error::Result;
use crate::helper::{Helper, Later};
use crate::images::snapshot::TaskImage;
use crate::images::write::Store;
use crate::kernel::pid::HostPid;
use crate::objects::memory::{Early, PrivatePages, Shown};
use crate::tracee::dumpee::FrozenTask;

pub use self::pagemaps::Private;

/// Takes what is to be written. Dropped before its end, it takes back what nobody has begun to write.
pub struct Writer<'a> {
    shared: Arc<Shared<'a>>,
    /// None where the process may have no second thread: then the engine's own does it all, in the end.
    helping: Option<Later<()>>,
}

impl<'a> Writer<'a> {
    /// Has `helper` write, as its last job; without a store, not before [`set_store`](Self::set_store).
    ///
    /// `pids` are the processes whose memory and pages will come, in this order; the helper was told
    /// already to look at the memory of the first.
    pub fn start<'scope>(
        helper: &Helper<'scope, '_>,
        pids: &[HostPid],
        first: Later<Shown>,
        store: Option<&'a Store>,
    ) -> Self
    where
        'a: 'scope,
    {
        let looks = Looks::new(pids.iter().copied(), first);
        let shared = Arc::new(Shared::new(Schedule::new(pids.len(), store), looks));
        let helping = helper.has_thread().then(|| {
            let shared = Arc::clone(&shared);
            helper.give(move || {
                shared.help();
                Ok(())
            })
        });
        Self { shared, helping }
    }

    /// What the kernel shows of the memory of a process, to be asked for in the order of the pids.
    /// Pages of a large process are copied as long as that takes.
    pub fn shown(&self, task: &'a FrozenTask) -> Result<(Shown, Option<Early<'a>>)> {
        let early = self.shared.copy_early(task)?;
        Ok((self.shared.shown(task.pid)?, early))
    }

    /// The messages of a process.
    pub fn add_messages(&self, pid: HostPid, image: TaskImage) {
        self.shared.change(|schedule| schedule.add(Part::Messages(pid, Box::new(image))));
    }

    /// The pages of a process, of which nothing is asked any more.
    pub fn add_pages(&self, pages: PrivatePages<'a>) {
        let bytes = pages.guess();
        self.shared.change(|schedule| schedule.add_pages(Part::Pages(Box::new(pages)), bytes));
    }

    /// From here on what was added is written, to `store`.
    pub fn set_store(&self, store: &'a Store) {
        self.shared.change(|schedule| schedule.set_store(store));
    }

    /// Writes what is left, together with `helper`, which is dismissed.
    pub fn finish(mut self, helper: &Helper<'_, '_>) -> Result<Private> {
        self.shared.end(Schedule::close);
        self.shared.work(&mut Vec::new());
        helper.dismiss();
        self.helping.take().map_or(Ok(()), Later::get)?;
        self.shared.take()
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.shared.end(Schedule::give_up);
    }
}
