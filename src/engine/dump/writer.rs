//! What is each process's own: its private pages and its messages. Of many processes, or of a large
//! one, they are written while the engine still asks the processes for the rest: by a thread of its
//! own, which the engine's joins when it has asked all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use super::freeze::Member;
use crate::error::{Context, Error, Result};
use crate::images::snapshot::{Pagemap, TaskImage};
use crate::images::write::Store;
use crate::kernel::{proc, threads};
use crate::objects::memory::{PrivatePages, Writing};
use crate::progress;

/// Pagemaps by process.
pub type Pagemaps = BTreeMap<i32, Pagemap>;

/// A second thread pays from this many processes on, or from this many bytes of one: of less it has
/// moved little by the time that the dumpee had to wait for the processor that the thread was on.
const MANY: usize = 4;
const LARGE: u64 = 4 << 20;

/// Runs `feed`, which says what is to be written of `members`, and writes it. `store` may be set by
/// `feed` as late as at its end: nothing is written before.
pub fn write<'a, T>(
    members: &[Member],
    store: &'a OnceLock<Store>,
    feed: impl FnOnce(&Writer<'a>) -> Result<T>,
) -> Result<(T, Pagemaps)> {
    let writer = Writer { store, state: Mutex::default(), changed: Condvar::new() };
    let fed = std::thread::scope(|scope| {
        // If none can be started it only takes longer.
        let other = is_worth_a_thread(members).then(|| threads::help(scope, || writer.work()));
        let mut feeding = Feeding { writer: &writer, failed: true };
        let fed = feed(&writer)?;
        feeding.failed = false;
        drop(feeding);
        writer.work();
        match other.and_then(|other| other.ok()).map(|other| other.join()) {
            Some(Err(_)) => Err(threads::panicked()),
            _ => Ok(fed),
        }
    })?;
    let state = writer.state.into_inner();
    state.failure.map_or(Ok(()), Err)?;
    Ok((fed, state.pagemaps))
}

fn is_worth_a_thread(members: &[Member]) -> bool {
    let large = |member: &Member| proc::own_memory(member.pid).is_ok_and(|bytes| bytes >= LARGE);
    members.len() >= MANY || members.iter().any(large)
}

/// What is to be written, for two threads.
pub struct Writer<'a> {
    store: &'a OnceLock<Store>,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Default)]
struct State<'a> {
    waiting: VecDeque<Part<'a>>,
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

/// What was captured of a process.
enum Part<'a> {
    /// With the bytes that are likely to be moved, for who watches.
    Pages(PrivatePages<'a>, u64),
    Messages(i32, Box<TaskImage>),
}

/// What a thread may do next.
enum Job<'a> {
    Write(i32, Box<TaskImage>, &'a Store),
    Begin(PrivatePages<'a>, u32, &'a Store),
    Join(Arc<Writing<'a>>),
}

/// Ends the wait for more, whatever has happened.
struct Feeding<'p, 'a> {
    writer: &'p Writer<'a>,
    failed: bool,
}

impl Drop for Feeding<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.writer.state.lock();
        state.closed = true;
        if self.failed {
            state.give_up();
        }
        self.writer.changed.notify_all();
    }
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
    /// The messages of a process.
    pub fn add_messages(&self, pid: i32, image: TaskImage) {
        self.state.lock().waiting.push_back(Part::Messages(pid, Box::new(image)));
        self.changed.notify_one();
    }

    /// The pages of a process.
    pub fn add_pages(&self, pages: PrivatePages<'a>) {
        let guess = progress::is_watched().then(|| proc::own_memory(pages.pid()).ok()).flatten();
        let mut state = self.state.lock();
        state.waiting.push_back(Part::Pages(pages, guess.unwrap_or(0)));
        state.tell_guess();
        self.changed.notify_one();
    }

    /// Until there is nothing left to do.
    fn work(&self) {
        let mut buffer = Vec::new();
        while let Some(job) = self.next() {
            if let Err(error) = self.carry_out(job, &mut buffer) {
                let mut state = self.state.lock();
                state.give_up();
                state.failure.get_or_insert(error);
                self.changed.notify_all();
            }
        }
    }

    fn next(&self) -> Option<Job<'a>> {
        let mut state = self.state.lock();
        while state.failure.is_none() {
            if let Some(store) = self.store.get()
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
            self.changed.wait(&mut state);
        }
        None
    }

    fn carry_out(&self, job: Job<'a>, buffer: &mut Vec<u8>) -> Result<()> {
        let writing = match job {
            Job::Write(pid, image, store) => return store.task(pid.cast_unsigned(), &image),
            Job::Join(writing) => writing,
            Job::Begin(pages, id, store) => self.begin(&pages, id, store)?,
        };
        writing.copy(buffer).doing(|| memory_of(writing.pid()))
    }

    fn begin(
        &self,
        pages: &PrivatePages<'a>,
        id: u32,
        store: &'a Store,
    ) -> Result<Arc<Writing<'a>>> {
        let pid = pages.pid();
        let beginning = Beginning(self);
        let (pagemap, writing) = pages.begin(store.creation(), id).doing(|| memory_of(pid))?;
        let writing = Arc::new(writing);
        self.state.lock().under_way.push(Arc::clone(&writing));
        drop(beginning);
        store.pagemap(pid.cast_unsigned(), &pagemap)?;
        self.state.lock().pagemaps.insert(pid, pagemap);
        Ok(writing)
    }
}

fn memory_of(pid: i32) -> String {
    format!("pid {pid}: memory")
}

impl<'a> State<'a> {
    fn begin(&mut self, part: Part<'a>, store: &'a Store) -> Job<'a> {
        match part {
            Part::Messages(pid, image) => Job::Write(pid, image, store),
            Part::Pages(pages, _) => {
                self.tell_guess();
                self.last_id += 1;
                self.begun += 1;
                Job::Begin(pages, self.last_id, store)
            }
        }
    }

    fn tell_guess(&self) {
        let guesses = self.waiting.iter().map(|part| match part {
            Part::Pages(_, guess) => *guess,
            Part::Messages(..) => 0,
        });
        progress::guess(guesses.sum());
    }

    /// What was not begun is not, what was is not gone on with.
    fn give_up(&mut self) {
        self.waiting.clear();
        self.under_way.drain(..).for_each(|writing| writing.give_up());
    }
}
