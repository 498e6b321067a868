//! How far a long dump or restore has come, in one line on a terminal; elsewhere nothing.
//!
//! A thread of its own looks at the engine's counters. It begins when there is only memory left to
//! copy, and has cleared its line before a tree runs, which may have the same terminal. It may also
//! be that nobody reads the terminal, because who does is being dumped: then the thread is left
//! behind, and ends with the process.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::hooks::{Hooks, Stage};
use crate::error::Result;
use crate::kernel::PAGE_SIZE;
use crate::kernel::pid::HostPid;
use crate::log::Log;
use crate::options::{Request, Verb};
use crate::progress::{self, Reading};

/// What takes less time than this is not long.
const PATIENCE: Duration = Duration::from_millis(700);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long clearing the line may take.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Lines of this level are many, and a line that is drawn again and again gets lost among them.
const CHATTY: i32 = 3;

/// What is to be shown.
pub struct Watch {
    what: &'static str,
    begin: Stage,
    end: Stage,
}

impl Watch {
    /// None if the request copies no memory, or nobody could see it.
    pub fn of(request: &Request, log: &Log) -> Option<Self> {
        let quiet = log.is_file() || log.level() < CHATTY;
        if !quiet || !std::io::stderr().is_terminal() {
            return None;
        }
        let (what, begin, end) = match request.verb {
            Verb::Dump => ("Dumping", Stage::PreDump, Stage::PostDump),
            Verb::Restore => ("Restoring", Stage::PostSetupNamespaces, Stage::PostRestore),
            _ => return None,
        };
        Some(Self { what, begin, end })
    }
}

/// Hooks that also show progress.
pub struct Watched<H> {
    inner: H,
    watch: Option<Watch>,
    line: Option<Line>,
}

impl<H: Hooks> Watched<H> {
    /// Shows what `watch` says, if anything, and does what `inner` does.
    pub fn new(inner: H, watch: Option<Watch>) -> Self {
        if watch.is_some() {
            progress::watch();
        }
        Self { inner, watch, line: None }
    }

    /// The hooks that are watched.
    pub fn inner(&self) -> &H {
        &self.inner
    }

    fn end(&mut self, stage: Stage) {
        if self.watch.as_ref().is_some_and(|watch| watch.end == stage) {
            self.line = None;
        }
    }

    fn begin(&mut self, stage: Stage) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| watch.begin == stage) {
            self.line = Line::start(watch.what);
        }
    }
}

impl<H: Hooks> Hooks for Watched<H> {
    fn notify(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        self.end(stage);
        self.inner.notify(stage, pid)?;
        self.begin(stage);
        Ok(())
    }

    fn notify_with_fd(
        &mut self,
        stage: Stage,
        pid: Option<HostPid>,
        fd: BorrowedFd<'_>,
    ) -> Result<()> {
        self.inner.notify_with_fd(stage, pid, fd)
    }

    fn query_external(&mut self) -> Result<Vec<OsString>> {
        self.inner.query_external()
    }
}

/// The line; dropped, it is gone from the terminal.
struct Line {
    stop: Option<Sender<()>>,
    /// Closed when nothing more is drawn.
    stopped: Receiver<()>,
}

impl Line {
    /// None if there is no thread to be had: the work is what matters.
    fn start(what: &'static str) -> Option<Self> {
        let (stop, until) = channel();
        let (drawing, stopped) = channel();
        let draw = move || {
            let _until_the_end = drawing;
            draw(what, &until);
        };
        std::thread::Builder::new().name("progress".into()).spawn(draw).ok()?;
        Some(Self { stop: Some(stop), stopped })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Always an error: the end of the thread, or of our patience.
        let _ = self.stopped.recv_timeout(LAST_WORDS);
    }
}

fn draw(what: &'static str, until: &Receiver<()>) {
    let mut wait = PATIENCE;
    let mut bar = None;
    while let Err(RecvTimeoutError::Timeout) = until.recv_timeout(wait) {
        let reading = progress::read();
        show(bar.get_or_insert_with(|| new_bar(what, reading)), reading);
        wait = INTERVAL;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn new_bar(what: &'static str, first: Reading) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:12}] {percent}% {wide_msg}");
    let bar = ProgressBar::with_draw_target(Some(first.total), ProgressDrawTarget::stderr());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(what);
    bar
}

fn show(bar: &ProgressBar, reading: Reading) {
    // The beginning is a little before the first look.
    let message = message(reading, bar.elapsed() + PATIENCE);
    bar.update(|state| {
        state.set_len(reading.total);
        state.set_pos(reading.moved);
    });
    bar.set_message(message);
}

/// What stands behind the bar, in 50 columns: the line is to fit into 80.
fn message(reading: Reading, passed: Duration) -> String {
    let Reading { moved, total } = reading;
    let rate = u128::from(moved) * 1000 / passed.as_millis().max(1);
    let left = match u128::from(total - moved).checked_div(rate) {
        Some(seconds) => format!("{seconds} s left"),
        None => "waiting".to_owned(),
    };
    let mib = |bytes: u128| bytes >> 20;
    let (done, all, rate) = (mib(moved.into()), mib(total.into()), mib(rate));
    format!("{done} of {all} MiB, {rate} MiB/s, {left}, {} pages", moved / PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pages_rate_and_time_left_are_told() {
        let half = Reading { moved: 100 << 20, total: 300 << 20 };
        let text = message(half, Duration::from_secs(2));
        assert_eq!(text, "100 of 300 MiB, 50 MiB/s, 4 s left, 25600 pages");
        assert!(text.len() < 50);
        let nothing = Reading { moved: 0, total: 0 };
        assert_eq!(message(nothing, Duration::ZERO), "0 of 0 MiB, 0 MiB/s, waiting, 0 pages");
    }
}
