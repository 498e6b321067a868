//! The order of the work: which part is written when, and by how many threads.
//!
//! This is bookkeeping alone, without threads, processes or files. Parts are written in the order in
//! which they come, as soon as there is a store and the [`Gate`] is open. A part that is written may
//! bring another part, and copying that several threads can take part in.

use std::collections::VecDeque;

use super::gate::Gate;

/// Copying that several threads may take part in.
pub trait Copying: Clone {
    /// Whether nothing is left that another thread could take.
    fn is_taken(&self) -> bool;
    /// Takes away what no thread has taken yet.
    fn give_up(&self);
}

/// What a thread does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<P, C, S> {
    /// Writes a part to the store, and calls [`Schedule::done`] afterwards.
    Write(P, S),
    /// Takes part in copying that another thread has begun.
    Join(C),
    /// Nothing can be done now, but something may come.
    Wait,
    /// Nothing will come any more.
    End,
}

/// Parts `P` that wait to be written to a store `S`, and copying `C` that is under way.
#[derive(Debug)]
pub struct Schedule<P, C, S> {
    store: Option<S>,
    gate: Gate,
    /// Each with the bytes of pages that it is likely to move.
    waiting: VecDeque<(P, u64)>,
    bytes_waiting: u64,
    copying: Vec<C>,
    /// Parts that are being written: each may bring another part, or copying.
    busy: usize,
    ending: Ending,
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Open,
    /// Nothing will be added any more, except by parts that are being written.
    Closed,
    GivenUp,
}

impl<P, C: Copying, S: Copy> Schedule<P, C, S> {
    /// Nothing is waiting; the pages of `processes` will come. Without a store, nothing is written.
    pub fn new(processes: usize, store: Option<S>) -> Self {
        Self {
            store,
            gate: Gate::new(processes),
            waiting: VecDeque::new(),
            bytes_waiting: 0,
            copying: Vec::new(),
            busy: 0,
            ending: Ending::Open,
        }
    }

    /// Where parts are written to, if that is decided.
    pub fn store(&self) -> Option<S> {
        self.store
    }

    /// From here on parts are written to `store`.
    pub fn set_store(&mut self, store: S) {
        self.store = Some(store);
    }

    /// The pages of one more process are known; they are likely to be so many bytes.
    pub fn add_pages(&mut self, part: P, bytes: u64) {
        self.gate.process_answered(bytes);
        self.push(part, bytes);
    }

    /// Another part is to be written.
    pub fn add(&mut self, part: P) {
        self.push(part, 0);
    }

    fn push(&mut self, part: P, bytes: u64) {
        if self.ending != Ending::GivenUp {
            self.waiting.push_back((part, bytes));
            self.bytes_waiting += bytes;
        }
    }

    /// Other threads may take part in this copying.
    pub fn share(&mut self, copying: C) {
        match self.ending {
            Ending::GivenUp => copying.give_up(),
            Ending::Open | Ending::Closed => self.copying.push(copying),
        }
    }

    /// Nothing will be added any more, except by parts that are being written.
    pub fn close(&mut self) {
        self.ending = Ending::Closed;
        self.gate.open();
    }

    /// Whatever no thread has taken yet is left undone.
    pub fn give_up(&mut self) {
        self.ending = Ending::GivenUp;
        self.waiting.clear();
        self.bytes_waiting = 0;
        self.copying.drain(..).for_each(|copying| copying.give_up());
    }

    /// Whether a thread that waits would find something to write.
    pub fn is_ready(&self) -> bool {
        self.gate.is_open() && self.store.is_some() && !self.waiting.is_empty()
    }

    /// Bytes of pages that are likely to be in the parts that wait.
    pub fn bytes_waiting(&self) -> u64 {
        self.bytes_waiting
    }

    /// Decides what a thread does that is free now.
    pub fn next(&mut self) -> Step<P, C, S> {
        if let Some(store) = self.store.filter(|_| self.gate.is_open())
            && let Some((part, bytes)) = self.waiting.pop_front()
        {
            self.bytes_waiting -= bytes;
            self.busy += 1;
            return Step::Write(part, store);
        }
        self.copying.retain(|copying| !copying.is_taken());
        match (self.copying.first(), &self.ending) {
            (Some(copying), _) => Step::Join(copying.clone()),
            (None, Ending::GivenUp) => Step::End,
            (None, Ending::Closed) if self.busy == 0 => Step::End,
            (None, Ending::Open | Ending::Closed) => Step::Wait,
        }
    }

    /// A part is written, or has failed.
    pub fn done(&mut self) {
        self.busy -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// So many stretches are left to be taken.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Stretches(Rc<Cell<u32>>);

    impl Stretches {
        fn new(count: u32) -> Self {
            Self(Rc::new(Cell::new(count)))
        }
    }

    impl Copying for Stretches {
        fn is_taken(&self) -> bool {
            self.0.get() == 0
        }

        fn give_up(&self) {
            self.0.set(0);
        }
    }

    const STORE: char = 'S';
    type Parts = Schedule<&'static str, Stretches, char>;

    fn schedule(processes: usize) -> Parts {
        Schedule::new(processes, Some(STORE))
    }

    #[test]
    fn parts_are_written_in_their_order_when_the_gate_is_open() {
        let mut parts = schedule(2);
        parts.add_pages("pages 1", 4096);
        parts.add("messages 1");
        assert!(!parts.is_ready());
        assert_eq!(parts.next(), Step::Wait);
        parts.add_pages("pages 2", 4096);
        assert!(parts.is_ready());
        assert_eq!(parts.bytes_waiting(), 8192);
        assert_eq!(parts.next(), Step::Write("pages 1", STORE));
        assert_eq!(parts.next(), Step::Write("messages 1", STORE));
        assert_eq!(parts.bytes_waiting(), 4096);
        assert_eq!(parts.next(), Step::Write("pages 2", STORE));
        assert_eq!(parts.next(), Step::Wait);
    }

    #[test]
    fn nothing_is_written_without_a_store() {
        let mut parts = Parts::new(1, None);
        parts.add_pages("pages 1", 0);
        parts.close();
        assert!(!parts.is_ready());
        assert_eq!(parts.store(), None);
        parts.set_store(STORE);
        assert!(parts.is_ready());
        assert_eq!(parts.next(), Step::Write("pages 1", STORE));
    }

    #[test]
    fn copying_is_joined_until_all_of_it_is_taken() {
        let mut parts = schedule(1);
        let copying = Stretches::new(2);
        parts.share(copying.clone());
        parts.add_pages("pages 1", 0);
        assert_eq!(parts.next(), Step::Write("pages 1", STORE), "parts come before copying");
        assert_eq!(parts.next(), Step::Join(copying.clone()));
        assert_eq!(parts.next(), Step::Join(copying.clone()));
        copying.0.set(0);
        assert_eq!(parts.next(), Step::Wait);
    }

    #[test]
    fn the_end_waits_for_parts_that_may_bring_others() {
        let mut parts = schedule(1);
        parts.add_pages("pages 1", 0);
        parts.close();
        assert_eq!(parts.next(), Step::Write("pages 1", STORE));
        assert_eq!(parts.next(), Step::Wait);
        parts.add("pagemap 1");
        parts.done();
        assert_eq!(parts.next(), Step::Write("pagemap 1", STORE));
        parts.done();
        assert_eq!(parts.next(), Step::End);
    }

    #[test]
    fn what_is_given_up_is_neither_written_nor_copied() {
        let mut parts = schedule(2);
        let copying = Stretches::new(5);
        parts.share(copying.clone());
        parts.add_pages("pages 1", 8192);
        parts.give_up();
        assert_eq!(parts.bytes_waiting(), 0);
        assert_eq!(copying.0.get(), 0);
        assert_eq!(parts.next(), Step::End);
    }

    #[test]
    fn what_comes_after_giving_up_is_left_undone_too() {
        let mut parts = schedule(1);
        parts.add_pages("pages 1", 0);
        assert_eq!(parts.next(), Step::Write("pages 1", STORE));
        parts.give_up();
        assert_eq!(parts.next(), Step::End, "nobody waits for the part that is being written");
        let copying = Stretches::new(5);
        parts.share(copying.clone());
        parts.add("pagemap 1");
        parts.done();
        assert_eq!(copying.0.get(), 0);
        assert_eq!(parts.next(), Step::End);
    }
}
