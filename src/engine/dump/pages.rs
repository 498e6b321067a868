//! The private pages of all processes. Of many processes, or of a large one, they are written while
//! the engine still asks the processes for the rest: by a thread of its own, which the engine's
//! joins when it has asked all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use super::freeze::Member;
use crate::error::{Context, Error, Result};
use crate::images::dir::Creation;
use crate::images::snapshot::Pagemap;
use crate::kernel::{proc, threads};
use crate::objects::memory::{PrivatePages, Writing};
use crate::progress;

/// Pagemaps by process.
pub type Pagemaps = BTreeMap<i32, Pagemap>;

/// A second thread pays from this many processes on, or from this many bytes of one: of less it has
/// moved little by the time that the dumpee had to wait for the processor that the thread was on.
const MANY: usize = 4;
const LARGE: u64 = 4 << 20;

/// Runs `feed`, which says what is to be written of `members`, and writes it. `creation` may be set
/// by `feed` as late as at its end: nothing is written before.
pub fn write<'a, T>(
    members: &[Member],
    creation: &'a OnceLock<Creation>,
    feed: impl FnOnce(&Pages<'a>) -> Result<T>,
) -> Result<(T, Pagemaps)> {
    let pages = Pages { creation, state: Mutex::default(), changed: Condvar::new() };
    let fed = std::thread::scope(|scope| {
        // If none can be started it only takes longer.
        let other = is_worth_a_thread(members).then(|| threads::help(scope, || pages.work()));
        let mut feeding = Feeding { pages: &pages, failed: true };
        let fed = feed(&pages)?;
        feeding.failed = false;
        drop(feeding);
        pages.work();
        match other.and_then(|other| other.ok()).map(|other| other.join()) {
            Some(Err(_)) => Err(threads::panicked()),
            _ => Ok(fed),
        }
    })?;
    let state = pages.state.into_inner();
    state.failure.map_or(Ok(()), Err)?;
    Ok((fed, state.pagemaps))
}

fn is_worth_a_thread(members: &[Member]) -> bool {
    let large = |member: &Member| proc::own_memory(member.pid).is_ok_and(|bytes| bytes >= LARGE);
    members.len() >= MANY || members.iter().any(large)
}

/// What is to be written, for two threads.
pub struct Pages<'a> {
    creation: &'a OnceLock<Creation>,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Default)]
struct State<'a> {
    /// With what is likely to be moved of each, for who watches.
    waiting: VecDeque<(PrivatePages<'a>, u64)>,
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

/// What a thread may do next.
enum Job<'a> {
    Begin(PrivatePages<'a>, u32, &'a Creation),
    Join(Arc<Writing<'a>>),
}

/// Ends the wait for more, whatever has happened.
struct Feeding<'p, 'a> {
    pages: &'p Pages<'a>,
    failed: bool,
}

impl Drop for Feeding<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.pages.state.lock();
        state.closed = true;
        if self.failed {
            state.give_up();
        }
        self.pages.changed.notify_all();
    }
}

impl<'a> Pages<'a> {
    /// One more process.
    pub fn add(&self, pages: PrivatePages<'a>) {
        let guess = progress::is_watched().then(|| proc::own_memory(pages.pid()).ok()).flatten();
        let mut state = self.state.lock();
        state.waiting.push_back((pages, guess.unwrap_or(0)));
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
        loop {
            if let Some(creation) = self.creation.get()
                && let Some((pages, _)) = state.waiting.pop_front()
            {
                state.tell_guess();
                state.last_id += 1;
                state.begun += 1;
                return Some(Job::Begin(pages, state.last_id, creation));
            }
            state.under_way.retain(|writing| !writing.is_taken());
            if let Some(writing) = state.under_way.first() {
                return Some(Job::Join(Arc::clone(writing)));
            }
            if state.closed && state.begun == 0 || state.failure.is_some() {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn carry_out(&self, job: Job<'a>, buffer: &mut Vec<u8>) -> Result<()> {
        let writing = match job {
            Job::Join(writing) => writing,
            Job::Begin(pages, id, creation) => self.begin(&pages, id, creation)?,
        };
        writing.copy(buffer).doing(|| memory_of(writing.pid()))
    }

    fn begin(
        &self,
        pages: &PrivatePages<'a>,
        id: u32,
        creation: &'a Creation,
    ) -> Result<Arc<Writing<'a>>> {
        let pid = pages.pid();
        let begun = pages.begin(creation, id).doing(|| memory_of(pid));
        let mut state = self.state.lock();
        state.begun -= 1;
        self.changed.notify_one();
        let (pagemap, writing) = begun?;
        let writing = Arc::new(writing);
        state.pagemaps.insert(pid, pagemap);
        state.under_way.push(Arc::clone(&writing));
        Ok(writing)
    }
}

fn memory_of(pid: i32) -> String {
    format!("pid {pid}: memory")
}

impl State<'_> {
    fn tell_guess(&self) {
        progress::guess(self.waiting.iter().map(|(_, guess)| guess).sum());
    }

    /// What was not begun is not, what was is not gone on with.
    fn give_up(&mut self) {
        self.waiting.clear();
        self.under_way.drain(..).for_each(|writing| writing.give_up());
    }
}
