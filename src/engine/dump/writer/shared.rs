//! What the two threads of the writer share, and what each of them does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::looks::{Looks, Taken};
use super::pagemaps::{Pagemaps, Private};
use super::schedule::{Copying, Schedule, Step};
use crate::error::{Context, Error, Result};
use crate::helper;
use crate::images::snapshot::{Pagemap, TaskImage};
use crate::images::write::Store;
use crate::kernel::pid::HostPid;
use crate::objects::memory::{self, Early, PrivatePages, Shown, Writing};
use crate::objects::pids;
use crate::progress;
use crate::tracee::dumpee::FrozenTask;

/// Something that was captured of a process.
pub enum Part<'a> {
    Pages(Box<PrivatePages<'a>>),
    Messages(HostPid, Box<TaskImage>),
    Pagemap(HostPid, Pagemap),
}

impl Copying for Arc<Writing<'_>> {
    fn is_taken(&self) -> bool {
        Writing::is_taken(self)
    }

    fn give_up(&self) {
        Writing::give_up(self);
    }
}

type Parts<'a> = Schedule<Part<'a>, Arc<Writing<'a>>, &'a Store>;

/// What the two threads share.
pub struct Shared<'a> {
    state: Mutex<State<'a>>,
    /// Notified when a thread that waits may find something to do, or to take.
    changed: Condvar,
    pagemaps: Pagemaps,
}

struct State<'a> {
    schedule: Parts<'a>,
    looks: Looks<Shown>,
    /// The first of all.
    failure: Option<Error>,
}

/// What a thread does next.
enum Job<'a> {
    Look(HostPid),
    Write(Part<'a>, &'a Store),
    Join(Arc<Writing<'a>>),
}

impl<'a> Shared<'a> {
    pub fn new(schedule: Parts<'a>, looks: Looks<Shown>) -> Self {
        let state = Mutex::new(State { schedule, looks, failure: None });
        Self { state, changed: Condvar::new(), pagemaps: Pagemaps::default() }
    }

    /// Changes what is to be written, and wakes a thread if there is something for it.
    pub fn change(&self, change: impl FnOnce(&mut Parts<'a>)) {
        let mut state = self.state.lock();
        change(&mut state.schedule);
        progress::guess(state.schedule.bytes_waiting());
        let ready = state.schedule.is_ready();
        drop(state);
        if ready {
            self.changed.notify_one();
        }
    }

    /// Changes how the work ends, which concerns all threads.
    pub fn end(&self, how: impl FnOnce(&mut Parts<'a>)) {
        how(&mut self.state.lock().schedule);
        self.changed.notify_all();
    }

    fn fail(&self, error: Error) {
        self.state.lock().failure.get_or_insert(error);
        self.end(Schedule::give_up);
    }

    /// What the helper does; how that ended is in `failure`.
    pub fn help(&self) {
        // Made while nobody waits for it: fresh memory costs a page fault for each page.
        let mut buffer = Writing::buffer();
        if catch_unwind(AssertUnwindSafe(|| self.work(&mut buffer))).is_err() {
            self.fail(helper::panicked());
        }
    }

    /// Works until nothing is left to do.
    pub fn work(&self, buffer: &mut Vec<u8>) {
        while let Some(job) = self.next() {
            let done = match job {
                Job::Look(pid) => {
                    self.look(pid);
                    Ok(())
                }
                Job::Write(part, store) => self.write(part, store, buffer),
                Job::Join(writing) => copy(&writing, buffer),
            };
            done.unwrap_or_else(|error| self.fail(error));
        }
    }

    fn next(&self) -> Option<Job<'a>> {
        let mut state = self.state.lock();
        loop {
            match state.schedule.next() {
                Step::Write(part, store) => {
                    progress::guess(state.schedule.bytes_waiting());
                    return Some(Job::Write(part, store));
                }
                Step::Join(writing) => return Some(Job::Join(writing)),
                Step::End => return None,
                Step::Wait => {}
            }
            if state.failure.is_none()
                && let Some(pid) = state.looks.begin()
            {
                return Some(Job::Look(pid));
            }
            self.changed.wait(&mut state);
        }
    }

    /// What was written, or why something was not.
    pub fn take(&self) -> Result<Private> {
        self.state.lock().failure.take().map_or(Ok(()), Err)?;
        Ok(self.pagemaps.take())
    }

    fn look(&self, pid: HostPid) {
        let seen = memory::look(pid);
        self.state.lock().looks.end(pid, seen);
        self.changed.notify_all();
    }

    fn write(&self, part: Part<'a>, store: &'a Store, buffer: &mut Vec<u8>) -> Result<()> {
        let part_at_work = AtWork(self);
        match part {
            Part::Messages(pid, image) => store.task(pids::tree(pid), &image),
            Part::Pagemap(pid, pagemap) => self.pagemaps.write(pid, pagemap, store),
            Part::Pages(pages) => {
                let writing = self.begin_copying(*pages, store)?;
                // From here on others can see what is left to do.
                drop(part_at_work);
                copy(&writing, buffer)
            }
        }
    }

    fn begin_copying(&self, pages: PrivatePages<'a>, store: &'a Store) -> Result<Arc<Writing<'a>>> {
        let pid = pages.pid();
        let id = pages.pages_id().unwrap_or_else(|| self.pagemaps.new_id());
        let (pagemap, writing) = pages.begin(store.creation(), id).doing(|| memory_of(pid))?;
        let writing = Arc::new(writing);
        let mut state = self.state.lock();
        state.schedule.add(Part::Pagemap(pid, pagemap));
        state.schedule.share(Arc::clone(&writing));
        Ok(writing)
    }

    /// Copies pages of a large process while another thread looks at it.
    pub fn copy_early(&self, task: &'a FrozenTask) -> Result<Option<Early<'a>>> {
        let Some(store) = self.state.lock().schedule.store() else { return Ok(None) };
        if !self.is_looked_at(task.pid) || !Early::pays(task)? {
            return Ok(None);
        }
        let id = || self.pagemaps.new_id();
        let early = Early::begin(task, store.creation(), id).doing(|| memory_of(task.pid))?;
        if let Some(early) = &early {
            let over = || !self.is_looked_at(task.pid);
            early.copy(over).doing(|| memory_of(task.pid))?;
        }
        Ok(early)
    }

    fn is_looked_at(&self, pid: HostPid) -> bool {
        self.state.lock().looks.is_under_way(pid)
    }

    /// The result of a look, which this thread takes if no other has begun to.
    pub fn shown(&self, pid: HostPid) -> Result<Shown> {
        let mut state = self.state.lock();
        loop {
            match state.looks.take(pid) {
                Taken::UnderWay if state.failure.is_none() => self.changed.wait(&mut state),
                Taken::Done(seen) => return seen,
                Taken::Promised(later) => {
                    drop(state);
                    return later.get();
                }
                Taken::UnderWay | Taken::NotBegun => {
                    drop(state);
                    return memory::look(pid);
                }
            }
        }
    }
}

/// Tells the schedule that a part is written, or will never be.
struct AtWork<'s, 'a>(&'s Shared<'a>);

impl Drop for AtWork<'_, '_> {
    fn drop(&mut self) {
        self.0.end(Schedule::done);
    }
}

fn copy(writing: &Writing<'_>, buffer: &mut Vec<u8>) -> Result<()> {
    writing.copy(buffer).doing(|| memory_of(writing.pid()))
}

fn memory_of(pid: HostPid) -> String {
    format!("pid {pid}: memory")
}
