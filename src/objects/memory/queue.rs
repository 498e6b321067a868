//! A queue of runs that several threads take work from.

use parking_lot::Mutex;

use crate::error::Result;
use crate::helper;
use crate::progress;

use super::runs::Run;

/// Bytes that pass through a thread's buffer at a time: they stay in its CPU's cache between the
/// read and the write.
pub const BOUNCE: usize = 256 << 10;
/// The same for few bytes in all: a fresh buffer costs a page fault for each of its pages.
const SMALL_BOUNCE: usize = 64 << 10;
/// A second thread pays from this many bytes on.
pub const WORTH_A_THREAD: u64 = 4 << 20;
/// The kernel takes no more stretches of memory at a time.
pub const MAX_STRETCHES: usize = 1024;

/// Size of a thread's buffer if there are `total` bytes to move.
pub fn bounce(total: u64) -> usize {
    if total < WORTH_A_THREAD { SMALL_BOUNCE } else { BOUNCE }
}

/// Runs not yet taken.
#[derive(Debug)]
pub struct Queue<I> {
    left: Mutex<Left<I>>,
}

#[derive(Debug)]
struct Left<I> {
    runs: I,
    next: Option<Run>,
}

impl<I: ExactSizeIterator<Item = Run>> Queue<I> {
    /// Leaves nothing to take.
    pub fn clear(&self) {
        let mut left = self.left.lock();
        left.next = None;
        left.runs.by_ref().for_each(drop);
    }

    /// Whether all of it was taken.
    pub fn is_empty(&self) -> bool {
        let left = self.left.lock();
        left.next.is_none() && left.runs.len() == 0
    }
}

impl<I: Iterator<Item = Run>> Queue<I> {
    /// All of `runs`.
    pub fn new(runs: impl IntoIterator<IntoIter = I>) -> Self {
        Self { left: Mutex::new(Left { runs: runs.into_iter(), next: None }) }
    }

    /// Fills `batch` with runs that follow one another in the pages file, of `room` bytes at most.
    /// Returns how many bytes they are; 0 at the end.
    pub fn take(&self, batch: &mut Vec<Run>, room: usize) -> usize {
        batch.clear();
        let mut left = self.left.lock();
        let mut taken = 0;
        while taken < room as u64 && batch.len() < MAX_STRETCHES {
            let Some(run) = left.next.take().or_else(|| left.runs.next()) else { break };
            let follows = batch.last().is_none_or(|last| last.offset + last.len == run.offset);
            if !follows {
                left.next = Some(run);
                break;
            }
            let stop = run.end().min(run.start + (room as u64 - taken));
            left.next = run.within(stop, u64::MAX);
            taken += stop - run.start;
            batch.push(Run { len: stop - run.start, ..run });
        }
        progress::moved(taken);
        usize::try_from(taken).expect("no more than the room")
    }
}

/// Runs `work` in this thread and, if it is about many bytes, in a second one.
pub fn share(bytes: u64, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    if bytes < WORTH_A_THREAD {
        return work();
    }
    std::thread::scope(|scope| {
        // Without a second one it only takes longer.
        let other = helper::help(scope, &work);
        let here = work();
        let there =
            other.map_or(Ok(()), |other| other.join().unwrap_or_else(|_| Err(helper::panicked())));
        here.and(there)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_contiguous_in_the_file_and_fit_the_room() {
        let run = |start, len, offset| Run { start, len, offset };
        let queue = Queue::new([run(0, 10, 0), run(100, 10, 10), run(200, 10, 50)]);
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, 15), 15);
        assert_eq!(batch, [run(0, 10, 0), run(100, 5, 10)]);
        assert_eq!(queue.take(&mut batch, 15), 5);
        assert_eq!(batch, [run(105, 5, 15)]);
        assert_eq!(queue.take(&mut batch, 15), 10);
        assert_eq!(batch, [run(200, 10, 50)]);
        assert_eq!(queue.take(&mut batch, 15), 0);
        assert!(batch.is_empty());
    }
}
