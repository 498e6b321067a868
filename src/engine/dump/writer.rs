//! What is each process's own: its private pages and its messages. They are written by the engine's
//! thread, when it has asked all processes for what is to be written, and by a second one that helps
//! it: of many processes, or of a large one, while others are still asked; of few and small ones,
//! when the last of them has answered. Before, it would take the processor from the dumpee, which
//! the engine waits for. Where it has nothing to write yet it looks at the memory of processes that
//! will be asked later, the first of them while the engine reads what can be read from outside.
//! Where that takes long, since a process is large, the engine copies pages of it meanwhile.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use super::freeze::Member;
use crate::error::{Context, Error, Result};
use crate::helper::{self, Helper, Later};
use crate::images::snapshot::{Pagemap, TaskImage};
use crate::images::write::Store;
use crate::objects::memory::{self, Early, PrivatePages, Shown, Writing};
use crate::progress;
use crate::tracee::dumpee::FrozenTask;

/// Pagemaps by process.
pub type Pagemaps = BTreeMap<i32, Pagemap>;

/// Of so many processes, the second thread writes while others are asked.
const MANY: usize = 4;
/// It does as soon as this many bytes are to be written.
const LARGE: u64 = 4 << 20;
/// So many processes ahead are looked at.
const AHEAD: usize = 8;

/// Runs `feed`, which says what is to be written of `members`, and writes it. `store` may be set by
/// `feed` as late as at its end: nothing is written before. `first` is what the memory of the first
/// member looks like. It is the last job of `helper`.
pub fn write<'scope, 'a: 'scope, T>(
    helper: &Helper<'scope, '_>,
    members: &[Member],
    first: Option<Later<Shown>>,
    store: &'a OnceLock<Store>,
    feed: impl FnOnce(&Feed<'_, 'a>) -> Result<T>,
) -> Result<(T, Pagemaps)> {
    let alive = members.iter().filter_map(|member| Some(member.frozen()?.pid));
    let mut looks: VecDeque<_> = alive.map(|pid| (pid, Look::Wanted)).collect();
    let awaited = Cell::new(looks.len());
    let may_write = looks.len() >= MANY;
    if let (Some(first), Some((_, look))) = (first, looks.front_mut()) {
        *look = Look::Given(first);
    }
    let state = Mutex::new(State { looks, may_write, ..State::default() });
    let writer = Arc::new(Writer { store, state, changed: Condvar::new() });
    let mut feeding = Feed { writer: &writer, awaited, bytes: Cell::new(0), failed: true };
    // Without a thread it would be the feeder who waits to be fed.
    let helping = helper.has_thread().then(|| {
        let writer = Arc::clone(&writer);
        helper.give(move || {
            writer.help();
            Ok(())
        })
    });
    let fed = feed(&feeding)?;
    feeding.failed = false;
    drop(feeding);
    writer.work(&mut Vec::new());
    helper.dismiss();
    helping.map_or(Ok(()), Later::get)?;
    let mut state = writer.state.lock();
    state.failure.take().map_or(Ok(()), Err)?;
    Ok((fed, std::mem::take(&mut state.pagemaps)))
}

/// Takes what is to be written, and knows when the second thread may write.
pub struct Feed<'w, 'a> {
    writer: &'w Writer<'a>,
    /// Processes whose pages are still to come.
    awaited: Cell<usize>,
    /// Of pages, as far as that can be guessed.
    bytes: Cell<u64>,
    failed: bool,
}

impl<'a> Feed<'_, 'a> {
    /// What the memory of a process looks like; to be asked for in the order of the members. Pages
    /// of a large one are copied until that is known.
    pub fn shown(&self, task: &'a FrozenTask) -> Result<(Shown, Option<Early<'a>>)> {
        let early = self.writer.copy_early(task)?;
        Ok((self.writer.shown(task.pid)?, early))
    }

    /// The messages of a process.
    pub fn add_messages(&self, pid: i32, image: TaskImage) {
        self.writer.add(Part::Messages(pid, Box::new(image)));
    }

    /// The pages of a process, of which nothing is asked any more.
    pub fn add_pages(&self, pages: PrivatePages<'a>) {
        let guess = pages.guess();
        self.awaited.set(self.awaited.get().saturating_sub(1));
        self.bytes.set(self.bytes.get() + guess);
        if self.awaited.get() == 0 || self.bytes.get() >= LARGE {
            self.writer.state.lock().may_write = true;
        }
        self.writer.add(Part::Pages(Box::new(pages), guess));
    }
}

impl Drop for Feed<'_, '_> {
    /// Ends the wait for more, whatever has happened.
    fn drop(&mut self) {
        let mut state = self.writer.state.lock();
        (state.closed, state.may_write) = (true, true);
        if self.failed {
            state.give_up();
        }
        self.writer.changed.notify_all();
    }
}

/// What is to be written, for two threads.
struct Writer<'a> {
    store: &'a OnceLock<Store>,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Default)]
struct State<'a> {
    /// At the memory of processes that were not asked for theirs yet, in that order.
    looks: VecDeque<(i32, Look)>,
    waiting: VecDeque<Part<'a>>,
    /// Or the processor is a dumpee's, which is being asked.
    may_write: bool,
    /// Taken by a thread that still looks for their pages.
    begun: usize,
    under_way: Vec<Arc<Writing<'a>>>,
    pagemaps: Pagemaps,
    /// Ids of pages files count from 1.
    last_id: u32,
    /// Nothing more will come.
    closed: bool,
    failure: Option<Error>,
}

/// How far it is with a look at the memory of a process.
enum Look {
    Wanted,
    Begun,
    Given(Later<Shown>),
    Done(Result<Shown>),
}

/// What was captured of a process.
enum Part<'a> {
    /// With the bytes that are likely to be moved, for who watches.
    Pages(Box<PrivatePages<'a>>, u64),
    Messages(i32, Box<TaskImage>),
    Pagemap(i32, Pagemap),
}

/// What a thread may do next.
enum Job<'a> {
    Look(i32),
    Write(i32, Box<TaskImage>, &'a Store),
    WritePagemap(i32, Pagemap, &'a Store),
    Begin(Box<PrivatePages<'a>>, u32, &'a Store),
    Join(Arc<Writing<'a>>),
}

/// Lets those go on who wait to take part, whatever has happened.
struct Beginning<'w, 'a>(&'w Writer<'a>);

impl Drop for Beginning<'_, '_> {
    fn drop(&mut self) {
        self.0.state.lock().begun -= 1;
        self.0.changed.notify_all();
    }
}

impl<'a> Writer<'a> {
    fn add(&self, part: Part<'a>) {
        let mut state = self.state.lock();
        state.waiting.push_back(part);
        state.tell_guess();
        let wake = state.may_write;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    /// What the second thread does; nobody asks how it ended.
    fn help(&self) {
        // Now, while nobody waits: fresh memory costs a page fault for each page.
        let mut buffer = Writing::buffer();
        if catch_unwind(AssertUnwindSafe(|| self.work(&mut buffer))).is_err() {
            self.fail(helper::panicked());
        }
    }

    /// Until there is nothing left to do.
    fn work(&self, buffer: &mut Vec<u8>) {
        while let Some(job) = self.next() {
            if let Err(error) = self.carry_out(job, buffer) {
                self.fail(error);
            }
        }
    }

    fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.give_up();
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Job<'a>> {
        let mut state = self.state.lock();
        while state.failure.is_none() {
            if state.may_write
                && let Some(store) = self.store.get()
                && let Some(part) = state.waiting.pop_front()
            {
                return Some(state.begin(part, store));
            }
            state.under_way.retain(|writing| !writing.is_taken());
            if let Some(writing) = state.under_way.first() {
                return Some(Job::Join(Arc::clone(writing)));
            }
            if state.closed && state.begun == 0 {
                return None;
            }
            if let Some(pid) = state.begin_look() {
                return Some(Job::Look(pid));
            }
            self.changed.wait(&mut state);
        }
        None
    }

    fn carry_out(&self, job: Job<'a>, buffer: &mut Vec<u8>) -> Result<()> {
        let writing = match job {
            Job::Look(pid) => return self.look(pid),
            Job::Write(pid, image, store) => return store.task(pid.cast_unsigned(), &image),
            Job::Join(writing) => writing,
            Job::WritePagemap(pid, pagemap, store) => {
                store.pagemap(pid.cast_unsigned(), &pagemap)?;
                self.state.lock().pagemaps.insert(pid, pagemap);
                return Ok(());
            }
            Job::Begin(pages, id, store) => self.begin(pages, id, store)?,
        };
        writing.copy(buffer).doing(|| memory_of(writing.pid()))
    }

    fn look(&self, pid: i32) -> Result<()> {
        let shown = memory::look(pid);
        self.state.lock().end_look(pid, shown);
        self.changed.notify_all();
        Ok(())
    }

    /// While another thread looks at the process.
    fn copy_early(&self, task: &'a FrozenTask) -> Result<Option<Early<'a>>> {
        let Some(store) = self.store.get() else { return Ok(None) };
        if !self.is_looked_at(task.pid) || !Early::pays(task)? {
            return Ok(None);
        }
        let id = || self.state.lock().new_id();
        let early = Early::begin(task, store.creation(), id).doing(|| memory_of(task.pid))?;
        if let Some(early) = &early {
            let over = || !self.is_looked_at(task.pid);
            early.copy(over).doing(|| memory_of(task.pid))?;
        }
        Ok(early)
    }

    fn is_looked_at(&self, pid: i32) -> bool {
        match self.state.lock().looks.front_mut() {
            Some((looked_at, Look::Begun)) => *looked_at == pid,
            Some((looked_at, Look::Given(later))) => *looked_at == pid && !later.is_there(),
            _ => false,
        }
    }

    /// The result of a look, which is made now if nobody has begun it.
    fn shown(&self, pid: i32) -> Result<Shown> {
        let mut state = self.state.lock();
        while state.failure.is_none() && matches!(state.looks.front(), Some((_, Look::Begun))) {
            self.changed.wait(&mut state);
        }
        match state.looks.pop_front() {
            Some((looked_at, Look::Done(shown))) if looked_at == pid => shown,
            Some((looked_at, Look::Given(later))) if looked_at == pid => {
                drop(state);
                later.get()
            }
            _ => {
                drop(state);
                memory::look(pid)
            }
        }
    }

    fn begin(
        &self,
        pages: Box<PrivatePages<'a>>,
        id: u32,
        store: &'a Store,
    ) -> Result<Arc<Writing<'a>>> {
        let _beginning = Beginning(self);
        let pid = pages.pid();
        let (pagemap, writing) = pages.begin(store.creation(), id).doing(|| memory_of(pid))?;
        let writing = Arc::new(writing);
        let mut state = self.state.lock();
        state.waiting.push_back(Part::Pagemap(pid, pagemap));
        state.under_way.push(Arc::clone(&writing));
        Ok(writing)
    }
}

fn memory_of(pid: i32) -> String {
    format!("pid {pid}: memory")
}

impl<'a> State<'a> {
    fn begin_look(&mut self) -> Option<i32> {
        let mut ahead = self.looks.iter_mut().take(AHEAD);
        let (pid, look) = ahead.find(|(_, look)| matches!(look, Look::Wanted))?;
        *look = Look::Begun;
        Some(*pid)
    }

    fn end_look(&mut self, pid: i32, shown: Result<Shown>) {
        if let Some((_, look)) = self.looks.iter_mut().find(|(looked_at, _)| *looked_at == pid) {
            *look = Look::Done(shown);
        }
    }

    fn begin(&mut self, part: Part<'a>, store: &'a Store) -> Job<'a> {
        match part {
            Part::Messages(pid, image) => Job::Write(pid, image, store),
            Part::Pagemap(pid, pagemap) => Job::WritePagemap(pid, pagemap, store),
            Part::Pages(pages, _) => {
                self.tell_guess();
                self.begun += 1;
                let id = pages.pages_id().unwrap_or_else(|| self.new_id());
                Job::Begin(pages, id, store)
            }
        }
    }

    /// For a pages file.
    fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn tell_guess(&self) {
        let guesses = self.waiting.iter().map(|part| match part {
            Part::Pages(_, guess) => *guess,
            Part::Messages(..) | Part::Pagemap(..) => 0,
        });
        progress::guess(guesses.sum());
    }

    /// What was not begun is not, what was is not gone on with.
    fn give_up(&mut self) {
        self.waiting.clear();
        self.under_way.drain(..).for_each(|writing| writing.give_up());
    }
}
