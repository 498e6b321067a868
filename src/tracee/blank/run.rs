//! Running batches in the threads of a blank.

use std::io;

use nix::errno::Errno;

use super::stub::ENTRIES_AT;
use super::{Blank, BlankThread};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::memory;
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::kernel::remote::RemoteAddr;
use crate::tracee::batch::{Batch, ENTRY_SIZE, Outcome, Parts};

/// Alignment of batches in the helper area.
const ALIGN: usize = 64;

/// Batches that run at the same time, one thread each.
#[derive(Default)]
struct Wave {
    runs: Vec<Run>,
    /// The encoded batches as they stand in the helper area.
    image: Vec<u8>,
}

struct Run {
    thread: usize,
    batch: Batch,
    offset: usize,
}

impl Blank {
    /// How many bytes of an encoded batch run at once (see [`Batch::encoded_len`]).
    pub fn capacity(&self) -> usize {
        self.helper.len - ENTRIES_AT - ENTRY_SIZE
    }

    /// Runs a batch in the leader.
    pub fn run(&mut self, batch: Batch) -> Result<Outcome> {
        if batch.is_empty() {
            return batch.outcome(&[]);
        }
        let mut outcomes = self.run_in_threads(vec![(0, batch)])?;
        Ok(outcomes.remove(0))
    }

    /// Runs batches in the threads with these indices (the leader's is 0), started together.
    ///
    /// Several batches for one thread run one after the other, and so do batches that do not fit
    /// into the helper area side by side, and the [parts](Parts) of a batch that does not fit at all.
    /// The outcomes come in the order of the batches.
    pub fn run_in_threads(&mut self, batches: Vec<(usize, Batch)>) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(batches.len());
        let mut wave = Wave::default();
        for (thread, batch) in batches {
            if batch.encoded_len() > self.capacity() {
                outcomes.extend(self.run_wave(std::mem::take(&mut wave))?);
                outcomes.push(self.run_in_parts(thread, batch)?);
                continue;
            }
            let len = batch.encoded_len() + ENTRY_SIZE;
            if wave.has(thread) || wave.end() + len > self.helper.len - ENTRIES_AT {
                outcomes.extend(self.run_wave(std::mem::take(&mut wave))?);
            }
            wave.add(thread, self.with_park(thread, batch), self.helper.entries());
        }
        outcomes.extend(self.run_wave(wave)?);
        Ok(outcomes)
    }

    /// Runs a batch that the helper area has no room for.
    fn run_in_parts(&mut self, thread: usize, batch: Batch) -> Result<Outcome> {
        let mut parts = Parts::of(batch);
        while let Some((batch, taken)) =
            parts.next(self.capacity()).doing(|| format!("pid {}", self.pid()))?
        {
            for outcome in self.run_in_threads(vec![(thread, batch)])? {
                parts.ran(&taken, &outcome);
            }
        }
        Ok(parts.outcome())
    }

    /// Adds the call that ends a batch: the thread sends the park signal to itself.
    fn with_park(&self, thread: usize, mut batch: Batch) -> Batch {
        let tid = self.threads[thread].tid;
        batch.call(libc::SYS_tgkill, args![self.pid().number(), tid.number(), self.park]);
        batch
    }

    fn run_wave(&mut self, wave: Wave) -> Result<Vec<Outcome>> {
        let pid = self.pid();
        let Wave { runs, mut image } = wave;
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.helper.entries();
        self.write(entries, &image)
            .doing(|| format!("write a batch to pid {pid} at {entries:?}"))?;
        for run in &runs {
            let at = RemoteAddr(entries.0 + run.offset as u64);
            self.start(&self.threads[run.thread], at)?;
        }
        for run in &runs {
            self.wait_parked(&self.threads[run.thread])?;
        }
        self.read(entries, &mut image).doing(|| format!("read a batch back from pid {pid}"))?;
        runs.into_iter()
            .map(|run| {
                let end = run.offset + run.batch.encoded_len();
                run.batch.outcome(&image[run.offset..end])
            })
            .collect()
    }

    /// Lets a thread run the entries at `entries`.
    fn start(&self, thread: &BlankThread, entries: RemoteAddr) -> Result<()> {
        let mut regs = *self.registers;
        regs.rip = self.helper.start.0;
        regs.rbx = entries.0;
        ptrace::setregs(thread.tid, &regs)
            .and_then(|()| ptrace::cont(thread.tid, 0))
            .map_err(|errno| lost(thread.tid, "start a batch", errno))
    }

    /// Writes memory. If the process is not dumpable, this needs a privilege or the file that was
    /// [opened](Blank::memory) before.
    pub(super) fn write(&self, at: RemoteAddr, bytes: &[u8]) -> io::Result<()> {
        match (memory::write(self.pid(), at, bytes), self.memory.get()) {
            (Err(Errno::EPERM), Some(file)) => memory::write_forced(file, at, bytes),
            (done, _) => done.map_err(io::Error::from),
        }
    }

    /// Reads memory, by the same ways as [`write`](Self::write).
    fn read(&self, at: RemoteAddr, bytes: &mut [u8]) -> io::Result<()> {
        match (memory::read(self.pid(), at, bytes), self.memory.get()) {
            (Err(Errno::EPERM), Some(file)) => memory::read_forced(file, at, bytes),
            (done, _) => done.map_err(io::Error::from),
        }
    }

    /// Writes a batch for the leader that does not end in a park.
    pub(super) fn write_entries(&self, batch: &Batch) -> Result<()> {
        let entries = self.helper.entries();
        self.write(entries, &batch.encode(entries))
            .doing(|| format!("write a batch to pid {}", self.pid()))
    }

    /// Lets the leader run what [`write_entries`](Self::write_entries) wrote.
    pub(super) fn start_leader(&self) -> Result<()> {
        self.start(&self.threads[0], self.helper.entries())
    }

    /// Waits for the end of a batch.
    pub(super) fn wait_parked(&self, thread: &BlankThread) -> Result<()> {
        loop {
            match self.wait_stop(thread)? {
                Stop::Signal(signal) if signal == self.park => return Ok(()),
                stop => self.pass(thread, stop)?,
            }
            ptrace::cont(thread.tid, 0).map_err(|errno| lost(thread.tid, "continue", errno))?;
        }
    }

    /// Waits until a thread stops for whatever reason.
    pub(super) fn wait_stop(&self, thread: &BlankThread) -> Result<Stop> {
        match ptrace::wait(thread.tid).map_err(|errno| lost(thread.tid, "wait", errno))? {
            WaitStatus::Stopped(stop) => Ok(stop),
            gone => Err(died(thread.tid, &format!("{gone:?}"))),
        }
    }

    /// Judges a stop in the middle of a batch: it is harmless, has to be remembered, or is fatal.
    pub(super) fn pass(&self, thread: &BlankThread, stop: Stop) -> Result<()> {
        match stop {
            // A SIGCONT makes such a stop, even if it is blocked.
            Stop::Event { event: libc::PTRACE_EVENT_STOP, .. } => Ok(()),
            Stop::Signal(libc::SIGSTOP) => {
                self.stopped_from_outside.set(true);
                Ok(())
            }
            stop => Err(died(thread.tid, &format!("stopped unexpectedly: {stop:?}"))),
        }
    }
}

impl super::HelperArea {
    fn entries(&self) -> RemoteAddr {
        RemoteAddr(self.start.0 + ENTRIES_AT as u64)
    }
}

impl Wave {
    fn has(&self, thread: usize) -> bool {
        self.runs.iter().any(|run| run.thread == thread)
    }

    /// Where the next batch would begin.
    fn end(&self) -> usize {
        self.image.len().next_multiple_of(ALIGN)
    }

    fn add(&mut self, thread: usize, batch: Batch, base: RemoteAddr) {
        let offset = self.end();
        self.image.resize(offset, 0);
        self.image.extend(batch.encode(RemoteAddr(base.0 + offset as u64)));
        self.runs.push(Run { thread, batch, offset });
    }
}

/// A ptrace call failed: the thread is gone if the kernel says so.
pub(super) fn lost(tid: HostPid, doing: &str, errno: Errno) -> Error {
    match errno {
        Errno::ESRCH | Errno::ECHILD => died(tid, "it is gone"),
        errno => Error::sys(format!("{doing} (thread {tid})"), errno),
    }
}

pub(super) fn died(tid: HostPid, how: &str) -> Error {
    Error::new(Kind::TaskDied, format!("thread {tid} died while it was being restored: {how}"))
}
