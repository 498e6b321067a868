//! A queue of runs that several threads take work from.

use std::ops::Range;

use parking_lot::Mutex;

use crate::error::Result;
use crate::helper;
use crate::progress;

use super::runs::Run;

/// Size of a thread's buffer: what it holds stays in the processor's cache between the read and the
/// write.
pub const BOUNCE: usize = 256 << 10;
/// Size of the buffer for few bytes in all: a fresh buffer costs a page fault for each of its pages.
const SMALL_BOUNCE: usize = 64 << 10;
/// A second thread pays from this many bytes on.
pub const WORTH_A_THREAD: u64 = 4 << 20;
/// The kernel takes no more stretches of memory by one call (`UIO_MAXIOV`).
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
    /// Takes all runs away.
    pub fn clear(&self) {
        let mut left = self.left.lock();
        left.next = None;
        left.runs.by_ref().for_each(drop);
    }

    /// Whether all runs were taken.
    pub fn is_empty(&self) -> bool {
        let left = self.left.lock();
        left.next.is_none() && left.runs.len() == 0
    }
}

impl<I: Iterator<Item = Run>> Queue<I> {
    /// A queue of these runs.
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

    /// Hands all batches that no other thread has taken to `carry`: where the batch stands in the
    /// pages file, its runs, and a part of `buffer` that is as large as they are together.
    pub fn drain(
        &self,
        buffer: &mut [u8],
        carry: impl FnMut(u64, &[Run], &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        self.drain_until(buffer, || false, carry)
    }

    /// The same, until it is `over`.
    pub fn drain_until(
        &self,
        buffer: &mut [u8],
        mut over: impl FnMut() -> bool,
        mut carry: impl FnMut(u64, &[Run], &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut batch = Vec::new();
        while !over() {
            let len = self.take(&mut batch, buffer.len());
            let Some(first) = batch.first() else { break };
            carry(first.offset, &batch, &mut buffer[..len])?;
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Run> + Send> Queue<I> {
    /// Drains a queue of `total` bytes, in two threads if they are many.
    pub fn share(
        &self,
        total: u64,
        carry: impl Fn(u64, &[Run], &mut [u8]) -> Result<()> + Sync,
    ) -> Result<()> {
        share(total, || self.drain(&mut vec![0; bounce(total)], &carry))
    }
}

/// The runs of a batch, each with its place in the batch's bytes.
pub fn places(batch: &[Run]) -> impl Iterator<Item = (&Run, Range<usize>)> {
    let mut end = 0;
    batch.iter().map(move |run| {
        let start = end;
        end += run.size();
        (run, start..end)
    })
}

/// Runs `work` in this thread and, if it is about many bytes, in a second one.
pub fn share(bytes: u64, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    if bytes < WORTH_A_THREAD {
        return work();
    }
    std::thread::scope(|scope| {
        // Where no second thread can be made, this one does everything.
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
        let ranges: Vec<_> = places(&batch).map(|(_, place)| place).collect();
        assert_eq!(ranges, [0..10, 10..15]);
        assert_eq!(queue.take(&mut batch, 15), 5);
        assert_eq!(batch, [run(105, 5, 15)]);
        assert_eq!(queue.take(&mut batch, 15), 10);
        assert_eq!(batch, [run(200, 10, 50)]);
        assert_eq!(queue.take(&mut batch, 15), 0);
        assert!(batch.is_empty());
    }

    #[test]
    fn batches_are_carried_until_it_is_over() {
        let run = |start, len, offset| Run { start, len, offset };
        let queue = Queue::new([run(0, 10, 0), run(100, 5, 20)]);
        let (mut buffer, mut carried) = ([0; 8], Vec::new());
        let mut count = 0;
        let over = || {
            count += 1;
            count > 2
        };
        let mut carry = |offset, batch: &[Run], bytes: &mut [u8]| {
            carried.push((offset, batch.len(), bytes.len()));
            Ok(())
        };
        queue.drain_until(&mut buffer, over, &mut carry).unwrap();
        queue.drain(&mut buffer, &mut carry).unwrap();
        assert_eq!(carried, [(0, 1, 8), (8, 1, 2), (20, 1, 5)]);
    }
}
