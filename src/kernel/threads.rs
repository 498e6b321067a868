//! Threads of the engine. They may run in the process of whoever calls the library, so none of them
//! ever handles a signal of that process.

use std::io;
use std::sync::mpsc;
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::Sys;

/// Starts a thread that has every signal blocked from its first instruction on.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    without_signals(|| Builder::new().name("criu".to_owned()).spawn_scoped(scope, work))?
}

/// Runs `work` in a thread of its own that takes no signals.
pub fn in_own_thread<T: Send>(work: impl FnOnce() -> Sys<T> + Send) -> Sys<T> {
    std::thread::scope(|scope| {
        let thread = start(scope, work).map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or(Err(Errno::EIO))
    })
}

/// Runs `work` in a thread of its own, which is left alone when it has not come to its end in time:
/// then there is no result, and who waits for the thread's end waits for nobody knows how long.
pub fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (tell, told) = mpsc::sync_channel(1);
    let work = move || {
        // Nobody listens any more if it took too long: the result is dropped here.
        let _ = tell.send(work());
    };
    without_signals(|| Builder::new().name("criu".to_owned()).spawn(work))??;
    Ok(told.recv_timeout(patience).ok())
}

/// Runs `work` with every signal blocked.
pub fn without_signals<T>(work: impl FnOnce() -> T) -> nix::Result<T> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let done = work();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_blocks_signals_and_its_maker_does_not() {
        let blocked = || SigSet::thread_get_mask().unwrap();
        let before = blocked();
        let within = std::thread::scope(|scope| start(scope, blocked).unwrap().join().unwrap());
        assert!(within.contains(nix::sys::signal::SIGUSR1));
        assert_eq!(blocked(), before);
    }
}
