//! Looks at the memory of processes before the engine asks for them.
//!
//! The kernel takes long to show an address space, so a thread that has nothing to write looks at
//! those of the processes that come next.

use std::collections::VecDeque;

use crate::error::Result;
use crate::helper::Later;
use crate::kernel::pid::HostPid;

/// So many processes ahead are looked at: what is seen takes memory until it is asked for.
const AHEAD: usize = 8;

/// Looks, each with a result `T`, in the order in which the results will be asked for.
#[derive(Debug)]
pub struct Looks<T> {
    coming: VecDeque<(HostPid, Look<T>)>,
}

#[derive(Debug)]
enum Look<T> {
    NotBegun,
    /// A thread of the writer is at it.
    Begun,
    /// The helper was told to, before there was a writer.
    Promised(Later<T>),
    Done(Result<T>),
}

/// What there is when the result of a look is asked for.
#[derive(Debug)]
pub enum Taken<T> {
    Done(Result<T>),
    /// It has to be waited for, which needs no lock.
    Promised(Later<T>),
    /// Another thread is at it: ask again.
    UnderWay,
    /// Nobody has begun: whoever asks has to look.
    NotBegun,
}

impl<T> Looks<T> {
    /// At the memory of these processes, the first of which the helper looks at already.
    pub fn new(pids: impl IntoIterator<Item = HostPid>, first: Later<T>) -> Self {
        let mut coming: VecDeque<_> = pids.into_iter().map(|pid| (pid, Look::NotBegun)).collect();
        if let Some((_, look)) = coming.front_mut() {
            *look = Look::Promised(first);
        }
        Self { coming }
    }

    /// The next process to look at, if that is not too far ahead.
    pub fn begin(&mut self) -> Option<HostPid> {
        let mut ahead = self.coming.iter_mut().take(AHEAD);
        let (pid, look) = ahead.find(|(_, look)| matches!(look, Look::NotBegun))?;
        *look = Look::Begun;
        Some(*pid)
    }

    /// A look that was begun has come to this.
    pub fn end(&mut self, pid: HostPid, seen: Result<T>) {
        if let Some((_, look)) = self.coming.iter_mut().find(|(coming, _)| *coming == pid) {
            *look = Look::Done(seen);
        }
    }

    /// Whether `pid` comes next and somebody is still looking at it.
    pub fn is_under_way(&mut self, pid: HostPid) -> bool {
        match self.coming.front_mut() {
            Some((next, Look::Begun)) => *next == pid,
            Some((next, Look::Promised(later))) => *next == pid && !later.is_there(),
            _ => false,
        }
    }

    /// Takes the result for `pid`, which comes next.
    pub fn take(&mut self, pid: HostPid) -> Taken<T> {
        match self.coming.pop_front() {
            Some((next, Look::Begun)) => {
                self.coming.push_front((next, Look::Begun));
                Taken::UnderWay
            }
            Some((next, Look::Done(seen))) if next == pid => Taken::Done(seen),
            Some((next, Look::Promised(later))) if next == pid => Taken::Promised(later),
            _ => Taken::NotBegun,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::error::{Error, Kind};

    fn pid(number: i32) -> HostPid {
        HostPid::new(number)
    }

    fn promised() -> (mpsc::SyncSender<Result<&'static str>>, Later<&'static str>) {
        let (tell, told) = mpsc::sync_channel(1);
        (tell, Later::Then(told))
    }

    #[test]
    fn the_first_look_is_the_helpers() {
        let (tell, first) = promised();
        let mut looks = Looks::new([pid(1), pid(2)], first);
        assert!(looks.is_under_way(pid(1)));
        assert_eq!(looks.begin(), Some(pid(2)));
        assert_eq!(looks.begin(), None);
        tell.send(Ok("seen 1")).unwrap();
        assert!(!looks.is_under_way(pid(1)));
        let Taken::Promised(later) = looks.take(pid(1)) else { panic!("it was promised") };
        assert_eq!(later.get().unwrap(), "seen 1");
        assert!(looks.is_under_way(pid(2)));
        assert!(matches!(looks.take(pid(2)), Taken::UnderWay));
        looks.end(pid(2), Ok("seen 2"));
        assert!(!looks.is_under_way(pid(2)));
        assert!(matches!(looks.take(pid(2)), Taken::Done(Ok("seen 2"))));
    }

    #[test]
    fn no_more_than_a_few_processes_ahead_are_looked_at() {
        let count = i32::try_from(AHEAD).unwrap();
        let mut looks = Looks::new((0..2 * count).map(pid), promised().1);
        let begun: Vec<HostPid> = std::iter::from_fn(|| looks.begin()).collect();
        assert_eq!(begun, (1..count).map(pid).collect::<Vec<_>>());
        assert!(matches!(looks.take(pid(0)), Taken::Promised(_)));
        assert_eq!(looks.begin(), Some(pid(count)));
        assert_eq!(looks.begin(), None);
    }

    #[test]
    fn who_asks_before_anybody_has_begun_looks_himself() {
        let mut looks = Looks::new([pid(1), pid(2)], promised().1);
        looks.take(pid(1));
        assert!(!looks.is_under_way(pid(2)));
        assert!(matches!(looks.take(pid(2)), Taken::NotBegun));
        assert_eq!(looks.begin(), None);
    }

    #[test]
    fn a_look_that_fails_is_told_to_who_asks() {
        let mut looks = Looks::new([pid(1), pid(2)], promised().1);
        looks.take(pid(1));
        assert_eq!(looks.begin(), Some(pid(2)));
        looks.end(pid(2), Err(Error::new(Kind::TaskDied, "it is gone")));
        let Taken::Done(Err(error)) = looks.take(pid(2)) else { panic!("it has failed") };
        assert_eq!(error.kind(), Kind::TaskDied);
    }
}
