//! Helpers: threads that work beside the one that made them.
//!
//! A dump or a restore has one thread that traces, reads and decides. What needs neither order nor
//! a tracer (copying pages, decoding images, checksums) is handed to a helper. A process may be
//! allowed no more threads: then everything is done by the thread that asks, and only takes longer.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

use crate::error::{Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::{descriptor, eventfd, sys, threads};

/// Starts a thread that works beside its maker, on another processor.
///
/// It is an error if the process may have no more threads; the caller then does the work alone.
pub fn help<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    grow_descriptor_table();
    let here = sys::getcpu();
    threads::start(scope, move || {
        if let Ok(cpu) = here {
            leave(cpu);
        }
        work()
    })
}

/// Makes room in the descriptor table for more descriptors than most engines need. Each time that a
/// table grows which threads share, the kernel waits until no processor can be looking at the old
/// table, which takes 10 ms. For a table of one thread it does not wait.
fn grow_descriptor_table() {
    const ROOM: u64 = 2048;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let last = ROOM.min(limit).saturating_sub(1);
    // If this fails, the table grows later, which only takes longer.
    if let (Ok(last), Ok(fd)) = (i32::try_from(last), eventfd::create(libc::EFD_CLOEXEC)) {
        let _ = descriptor::duplicate_above(fd.as_raw_fd(), last);
    }
}

type Job<'scope> = Box<dyn FnOnce() + Send + 'scope>;

/// A helper that does one job after the other.
///
/// The thread is made for the first job. That job should come early, because a new thread takes a
/// while until it runs on another processor. Dropping the helper waits for the end of the thread.
pub struct Helper<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    state: RefCell<State<'scope>>,
}

enum State<'scope> {
    NotStarted,
    There(Worker<'scope>),
    /// The thread ends when its jobs are done. There is none if the process may have no more
    /// threads.
    Dismissed {
        _thread: Option<Joined<'scope, ()>>,
    },
}

struct Worker<'scope> {
    /// The thread ends when this sender is dropped, so it stands before the thread, whose drop
    /// waits.
    jobs: Sender<Job<'scope>>,
    thread: Joined<'scope, ()>,
    tid: Arc<AtomicI32>,
}

impl<'scope, 'env> Helper<'scope, 'env> {
    /// A helper without a thread, which the first job will make.
    pub fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { scope, state: RefCell::new(State::NotStarted) }
    }

    /// Makes the thread. A thread inherits the CPU affinity of its maker, so this has to happen
    /// before the maker is pinned to one CPU.
    fn start(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::NotStarted) {
            *state = self.worker().map_or(State::Dismissed { _thread: None }, State::There);
        }
    }

    fn worker(&self) -> io::Result<Worker<'scope>> {
        let (jobs, todo) = mpsc::channel::<Job<'scope>>();
        let tid = Arc::new(AtomicI32::new(0));
        let own = Arc::clone(&tid);
        let thread = help(self.scope, move || {
            own.store(sys::gettid().number(), Ordering::Release);
            todo.into_iter().for_each(|job| job());
        })?;
        Ok(Worker { jobs, thread: Joined::new(thread), tid })
    }

    /// Has a job done by the thread or, if there is none, at once by the caller.
    pub fn give<T: Send + 'scope>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'scope,
    ) -> Later<T> {
        self.start();
        let state = self.state.borrow();
        let State::There(Worker { jobs, .. }) = &*state else { return Later::Now(job()) };
        let (tell, done) = mpsc::sync_channel(1);
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Err(panicked()));
            // The receiver may be gone: then nobody wants the result.
            let _ = tell.send(result);
        };
        match jobs.send(Box::new(job)) {
            Ok(()) => Later::Then(done),
            Err(_) => Later::Now(Err(panicked())),
        }
    }

    /// Whether a job would be done by a thread that does nothing but jobs.
    pub fn has_thread(&self) -> bool {
        matches!(*self.state.borrow(), State::There(_))
    }

    /// The id of the thread; none if there is no thread, or if it has not run yet.
    pub fn tid(&self) -> Option<HostPid> {
        match &*self.state.borrow() {
            State::There(worker) => {
                Some(worker.tid.load(Ordering::Acquire)).filter(|tid| *tid != 0).map(HostPid::new)
            }
            _ => None,
        }
    }

    /// Lets the thread end when its jobs are done. Later jobs are done by the caller.
    pub fn dismiss(&self) {
        let state = self.state.replace(State::Dismissed { _thread: None });
        if let State::There(Worker { jobs, thread, .. }) = state {
            drop(jobs);
            self.state.replace(State::Dismissed { _thread: Some(thread) });
        }
    }

    /// Waits until the jobs are done and the thread has ended. Later jobs are done by the caller.
    pub fn end(&self) {
        self.state.replace(State::Dismissed { _thread: None });
    }
}

/// The result of a job, now or later.
#[derive(Debug)]
pub enum Later<T> {
    Now(Result<T>),
    Then(Receiver<Result<T>>),
}

impl<T> Later<T> {
    /// Whether [`get`](Self::get) would not have to wait.
    pub fn is_there(&mut self) -> bool {
        if let Self::Then(done) = self
            && let Ok(result) = done.try_recv()
        {
            *self = Self::Now(result);
        }
        matches!(self, Self::Now(_))
    }

    /// The result, waited for if need be.
    pub fn get(self) -> Result<T> {
        let done = match self {
            Self::Now(result) => return result,
            Self::Then(done) => done,
        };
        let mut early = None;
        for_a_moment(|| {
            early = done.try_recv().ok();
            early.is_some()
        });
        early.unwrap_or_else(|| done.recv().unwrap_or_else(|_| Err(panicked())))
    }
}

/// Asks again and again for a moment whether something is `over`. Most waits are about to end, and
/// to fall asleep and wake up takes longer.
fn for_a_moment(mut over: impl FnMut() -> bool) {
    const MOMENT: Duration = Duration::from_micros(200);
    let begun = Instant::now();
    while !over() && begun.elapsed() < MOMENT {
        std::thread::yield_now();
    }
}

/// A thread whose end is waited for when this value is dropped. A process that runs in the memory
/// of another must not end while one of its threads is still ending: the thread would go on using
/// memory that is the other's again.
#[derive(Debug)]
pub struct Joined<'scope, T>(Option<ScopedJoinHandle<'scope, T>>);

impl<'scope, T> Joined<'scope, T> {
    /// For a thread that catches its panics.
    pub fn new(thread: ScopedJoinHandle<'scope, T>) -> Self {
        Self(Some(thread))
    }
}

impl<T> Drop for Joined<'_, T> {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else { return };
        for_a_moment(|| thread.is_finished());
        // The thread catches its panics, so there is no result to look at.
        let _ = thread.join();
    }
}

/// The error of a helper that has panicked.
pub fn panicked() -> Error {
    Error::new(Kind::Internal, "a thread of the engine panicked")
}

/// Moves the calling thread to another processor, if there is one; afterwards the scheduler may
/// move it as it likes.
///
/// By itself a scheduler may leave a new thread on its maker's processor until it balances the
/// load, which happens later than most dumps end.
fn leave(cpu: usize) {
    let this = Pid::from_raw(0);
    let Ok(all) = sched_getaffinity(this) else { return };
    let mut allowed = all;
    let others =
        (0..CpuSet::count()).any(|other| other != cpu && allowed.is_set(other) == Ok(true));
    if others && allowed.unset(cpu).is_ok() {
        // If this fails, the work only takes longer.
        let _ = sched_setaffinity(this, &allowed);
        let _ = sched_setaffinity(this, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_descriptors_before_a_table_is_shared() {
        std::thread::scope(|scope| help(scope, || ()).unwrap().join().unwrap());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= limit.min(2048));
    }

    #[test]
    fn jobs_are_done_in_their_order_and_by_the_caller_after_all() {
        std::thread::scope(|scope| {
            let helper = Helper::new(scope);
            let (tell, told) = mpsc::channel();
            let other = tell.clone();
            let first = helper.give(move || {
                tell.send(1).unwrap();
                Ok(())
            });
            let second = helper.give(move || {
                other.send(2).unwrap();
                Ok(std::thread::current().id())
            });
            let failing = helper.give(|| Err::<(), _>(panicked()));
            first.get().unwrap();
            assert_ne!(second.get().unwrap(), std::thread::current().id());
            assert!(failing.get().is_err());
            assert_eq!(told.iter().collect::<Vec<_>>(), [1, 2]);
            assert_eq!(helper.tid().map(|tid| tid == sys::gettid()), Some(false));
            helper.dismiss();
            assert_eq!(helper.tid(), None);
            let here = helper.give(|| Ok(std::thread::current().id()));
            assert_eq!(here.get().unwrap(), std::thread::current().id());
        });
    }

    #[test]
    fn a_job_that_panics_is_an_error_and_the_next_is_done() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let results = std::thread::scope(|scope| {
            let helper = Helper::new(scope);
            let jobs = [helper.give(|| panic!("as it should")), helper.give(|| Ok(()))];
            jobs.map(|job| job.get().is_ok())
        });
        std::panic::set_hook(hook);
        assert_eq!(results, [false, true]);
    }
}
