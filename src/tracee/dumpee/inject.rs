//! A session of system calls in a dumpee.

use std::cell::Cell;
use std::ops::Range;

use super::armed::{Code, Heal, Healable, Park, Running, Stub};
use super::code::{self, Block};
use super::frame::{self, Ucontext};
use super::site::{self, Leftover, Site};
use super::{FrozenTask, FrozenThread, Restart, cave};
use crate::args;
use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, Status};
use crate::kernel::remote::RemoteAddr;
use crate::kernel::{memory, ptrace};
use crate::tracee::batch::{Batch, Outcome};

/// Bytes for entries and data if nobody asks for more.
pub const SCRATCH: usize = 64 << 10;
/// The first bytes of the scratch: pending signals, and the signature that shows whose scratch it
/// is.
const SCRATCH_HEADER: u64 = 64;

/// A dumpee with one thread ready to run batches.
///
/// A batch must contain no call that blocks, that uses a restart block (nanosleep), or whose effect
/// would be wrong if the engine died right after it. Dropping this value gives the thread its
/// registers back.
#[derive(Debug)]
pub struct Injection<'a> {
    task: &'a FrozenTask,
    /// Index of the chosen thread.
    thread: usize,
    status: Status,
    code: Code,
    block: RemoteAddr,
    scratch: Range<u64>,
    /// Stack pages that hold the vector state.
    page: Option<Range<u64>>,
    /// The scratch that an earlier session of the same block has left mapped.
    inherited: Option<Range<u64>>,
    /// Whether killed engines have left mappings.
    cleared: bool,
    /// What killed engines have left: other blocks, and stack pages.
    stale: (Vec<Leftover>, Vec<Range<u64>>),
    phase: Phase,
}

/// How far a session is. The engine may do something else while a stub runs.
#[derive(Debug)]
enum Phase {
    /// The scratch is being mapped.
    Booting(Running),
    Ready(Healable),
    /// A batch is being run.
    Working(Running),
    /// The scratch is being unmapped.
    Closing(Running),
    /// A failure has left the thread to its heal code, or all is done.
    Over,
}

/// A batch that is being run.
#[derive(Debug)]
#[must_use = "its results have to be read"]
pub struct RunningBatch {
    batch: Batch,
    image: Vec<u8>,
    base: RemoteAddr,
}

/// Whether a task has a session.
#[derive(Debug, Default)]
pub(super) struct Busy(Cell<bool>);

impl FrozenTask {
    /// Makes one thread ready to run system calls.
    pub fn inject(&self) -> Result<Injection<'_>> {
        self.inject_with(self.ordinary_room())
    }

    /// Bytes that suffice for most batches, in all threads at once.
    pub fn ordinary_room(&self) -> usize {
        SCRATCH + self.threads.len() * PER_THREAD
    }

    /// The same with a scratch of `scratch_len` bytes, of which a batch may take all but the
    /// header.
    pub fn inject_with(&self, scratch_len: usize) -> Result<Injection<'_>> {
        let mut session = self.begin_injection(scratch_len)?;
        session.ready()?;
        Ok(session)
    }

    /// The same without waiting. Until the first batch the chosen thread may be running, so that no
    /// ptrace request to it is allowed.
    pub fn begin_injection(&self, scratch_len: usize) -> Result<Injection<'_>> {
        if self.busy.0.replace(true) {
            return Err(Error::new(Kind::Internal, "two sessions in one process"));
        }
        let begun = Injection::begin(self, scratch_len);
        if begun.is_err() {
            self.busy.0.set(false);
        }
        begun.doing(|| format!("pid {}: run system calls in it", self.pid))
    }
}

impl<'a> Injection<'a> {
    fn begin(task: &'a FrozenTask, scratch_len: usize) -> Result<Self> {
        let thread = site::choose_thread(&task.threads);
        let frozen = &task.threads[thread];
        let maps = match task.maps.take() {
            Some(maps) => maps,
            None => proc::maps(task.pid)?,
        };
        let status = Status::of(task.status(thread)?)?;
        suspend_seccomp(task.pid, frozen.tid)?;
        let site = site::find(task, &maps)?;
        let len = (scratch_len as u64).next_multiple_of(cave::PAGE);
        let start = cave::hole(&maps, len)?.0;
        let state = frame::fpstate(&frozen.xstate).unwrap_or_default();
        let pages = cave::stack_pages(task, &maps, state.len());
        let mut session = Self {
            task,
            thread,
            code: Code { base: site.code, filtered: status.seccomp != 0 },
            block: site.block,
            status,
            scratch: start..start + len,
            page: pages.chosen.filter(|_| !state.is_empty()),
            inherited: site.inherited.clone(),
            cleared: site.has_mappings_left(),
            stale: (Vec::new(), pages.stale),
            phase: Phase::Over,
        };
        session.write_healing(&site, &state)?;
        session.stale.0 = site.leftovers;
        session.start_boot()?;
        Ok(session)
    }

    fn frozen(&self) -> &'a FrozenThread {
        &self.task.threads[self.thread]
    }

    /// The process of the session.
    pub fn task(&self) -> &'a FrozenTask {
        self.task
    }

    /// Index of the thread that runs the batches.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// Whether the session has unmapped memory that killed engines have left.
    pub fn has_cleared(&self) -> bool {
        self.cleared
    }

    /// Memory that is the engine's and not the program's. A copy of the program leaves it out.
    pub fn footprint(&self) -> Vec<Range<u64>> {
        std::iter::once(self.scratch.clone()).chain(self.page.clone()).collect()
    }

    /// Writes everything that heals the thread, which has to be in place before a register changes.
    fn write_healing(&mut self, site: &Site, state: &[u8]) -> Result<()> {
        if let Some(page) = &self.page {
            memory::write(self.task.pid, RemoteAddr(page.start), state)
                .doing(|| format!("write vector state at {:#x}", page.start))?;
        }
        let block = self.chosen_block();
        if site.is_new {
            self.force(site.code, code::code())?;
        }
        self.force(site.block, block.bytes())
    }

    /// Writes memory that the program itself cannot write. A kernel may forbid that to
    /// `/proc/PID/mem`, but not to ptrace.
    fn force(&self, addr: RemoteAddr, bytes: &[u8]) -> Result<()> {
        memory::write_forced(self.task.memory(), addr, bytes).or_else(|_| {
            ptrace::poke(self.frozen().tid, addr, bytes).doing(|| format!("write code at {addr:?}"))
        })
    }

    fn chosen_block(&self) -> Block {
        let frozen = self.frozen();
        let fpstate = self.page.as_ref().map_or(0, |page| page.start);
        let mut block = thread_block(frozen, self.code, self.block, fpstate);
        if frozen.restart() != Restart::Block && block.tail == 0 {
            block.tail = Block::trampoline_at(self.block);
        }
        block.state = code::IN_USE;
        block.scratch = self.scratch.start;
        block.scratch_len = self.scratch.end - self.scratch.start;
        block.signal = site::choose_park(&self.status, frozen).signal();
        if let Some(range) = &self.inherited {
            (block.inherited, block.inherited_len) = (range.start, range.end - range.start);
        }
        if let Some(page) = &self.page {
            (block.page, block.page_len) = (page.start, page.end - page.start);
        }
        if matches!(frozen.restart(), Restart::NoHandler | Restart::Hidden) {
            block.restart_mask = self.status.caught & !frozen.sigmask;
        }
        block
    }

    /// Tells the session which caught signals end an interrupted call with EINTR: those whose
    /// handler was installed without SA_RESTART.
    ///
    /// This matters only if the engine is killed while such a signal is pending. A session that was
    /// not told issues the call again.
    pub fn set_restart_mask(&mut self, mask: u64) -> Result<()> {
        const ERESTARTSYS: u64 = (-512i64).cast_unsigned();
        let frozen = self.frozen();
        if frozen.restart() != Restart::Always || frozen.regs.rax != ERESTARTSYS {
            return Ok(());
        }
        let mask = mask & self.status.caught & !frozen.sigmask;
        self.force(Block::restart_mask_at(self.block), &mask.to_le_bytes())
    }

    fn start_boot(&mut self) -> Result<()> {
        let park = site::choose_park(&self.status, self.frozen());
        let len = self.scratch.end - self.scratch.start;
        let boot = Stub::Boot { addr: self.scratch.start, len };
        let armed = Healable::arm(self.frozen(), self.code, self.block, park)?;
        self.phase = Phase::Booting(armed.start(boot, Heal::Mapped)?);
        Ok(())
    }

    fn leave_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Over)
    }

    /// Waits for the end of what runs: the mapping of the scratch, or a batch.
    fn ready(&mut self) -> Result<()> {
        match self.leave_phase() {
            Phase::Working(running) => {
                self.phase = Phase::Ready(running.park()?);
                Ok(())
            }
            Phase::Booting(running) => {
                self.take_scratch(running)
                    .doing(|| format!("pid {}: run system calls in it", self.task.pid))?;
                self.remove_leftovers()
            }
            other => {
                self.phase = other;
                Ok(())
            }
        }
    }

    /// The thread, when it is parked.
    fn parked(&mut self) -> Result<Healable> {
        self.ready()?;
        match self.leave_phase() {
            Phase::Ready(armed) => Ok(armed),
            other => {
                self.phase = other;
                Err(Error::new(Kind::Internal, "the session has ended by an earlier failure"))
            }
        }
    }

    fn take_scratch(&mut self, booting: Running) -> Result<()> {
        let len = self.scratch.end - self.scratch.start;
        let armed = booting.park()?;
        let got = armed.boot_result()?;
        if got == self.scratch.start {
            self.phase = Phase::Ready(armed);
            let place = RemoteAddr(self.scratch.start + site::SIGNATURE_AT);
            return self.write(place, &site::signature(self.block));
        }
        armed.disarm(Heal::Unmapped)?;
        self.end()?;
        let errno = nix::errno::Errno::from_raw(got.wrapping_neg().min(4095) as i32);
        Err(Error::sys(format_args!("map {len} bytes in pid {}", self.task.pid), errno)
            .remedy("its limits on memory or address space may leave no room"))
    }

    /// Removes what killed engines have left in this process.
    fn remove_leftovers(&mut self) -> Result<()> {
        let (leftovers, pages) = std::mem::take(&mut self.stale);
        let mut batch = Batch::new();
        for Range { start, end } in leftovers.iter().flat_map(|leftover| &leftover.scratch) {
            batch.call(libc::SYS_munmap, args![*start, end - start]);
        }
        for Range { start, end } in &pages {
            batch.call(libc::SYS_madvise, args![*start, end - start, libc::MADV_DONTNEED]);
        }
        self.run(batch)?;
        for leftover in &leftovers {
            if leftover.block == self.block {
                self.inherited = None;
                self.force(Block::inherited_at(self.block), &[0; 16])?;
            } else {
                self.force(leftover.block, &code::FREE.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Runs a batch in the chosen thread.
    pub fn run(&mut self, batch: Batch) -> Result<Outcome> {
        if batch.is_empty() {
            return batch.outcome(&[]);
        }
        let running = self.begin_run(batch)?;
        self.end_run(running)
    }

    /// Starts a batch, which must not be empty, without waiting for its end. Until
    /// [`end_run`](Self::end_run) the thread may be running, so that no ptrace request to it is
    /// allowed.
    pub fn begin_run(&mut self, batch: Batch) -> Result<RunningBatch> {
        let base = self.room(batch.encoded_len())?;
        let image = batch.encode(base);
        let armed = self.parked()?;
        if let Err(error) = self.write(base, &image) {
            self.phase = Phase::Ready(armed);
            return Err(error);
        }
        let stub = Stub::Entries { addr: base.0, count: batch.len() };
        self.phase = Phase::Working(armed.start(stub, Heal::Mapped)?);
        Ok(RunningBatch { batch, image, base })
    }

    /// Waits for the end of a batch.
    pub fn end_run(&mut self, running: RunningBatch) -> Result<Outcome> {
        let RunningBatch { batch, mut image, base } = running;
        self.ready()?;
        self.read(base, &mut image)?;
        batch.outcome(&image)
    }

    fn room(&self, len: usize) -> Result<RemoteAddr> {
        let base = self.scratch.start + SCRATCH_HEADER;
        if base + len as u64 > self.scratch.end {
            let text = format!("a batch of {len} bytes is larger than the room made for it");
            return Err(Error::new(Kind::Internal, text));
        }
        Ok(RemoteAddr(base))
    }

    fn write(&self, addr: RemoteAddr, bytes: &[u8]) -> Result<()> {
        memory::write(self.task.pid, addr, bytes).doing(|| format!("write batch at {addr:?}"))
    }

    fn read(&self, addr: RemoteAddr, bytes: &mut [u8]) -> Result<()> {
        memory::read(self.task.pid, addr, bytes).doing(|| format!("read batch at {addr:?}"))
    }

    /// Runs batches in threads given by their index; the outcomes come in the same order.
    ///
    /// If the engine is killed meanwhile the threads heal, but the scratch stays mapped.
    pub fn run_in_threads(&mut self, batches: Vec<(usize, Batch)>) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = batches.iter().map(|_| None).collect();
        let mut others = Vec::new();
        for (order, (thread, batch)) in batches.into_iter().enumerate() {
            if batch.is_empty() {
                outcomes[order] = Some(batch.outcome(&[])?);
            } else if thread == self.thread {
                outcomes[order] = Some(self.run(batch)?);
            } else {
                others.push(Job { order, thread, batch });
            }
        }
        while !others.is_empty() {
            let rest = others.split_off(self.how_many_fit(&others)?);
            for (order, outcome) in self.run_jobs(others)? {
                outcomes[order] = Some(outcome);
            }
            others = rest;
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    fn how_many_fit(&self, jobs: &[Job]) -> Result<usize> {
        let mut end = self.scratch.start + SCRATCH_HEADER;
        let fits = |job: &&Job| {
            end += job.len(self.task);
            end <= self.scratch.end
        };
        match jobs.iter().take_while(fits).count() {
            0 => self.room(usize::MAX / 2).map(|_| 0),
            count => Ok(count),
        }
    }

    fn run_jobs(&mut self, jobs: Vec<Job>) -> Result<Vec<(usize, Outcome)>> {
        // The frames of the other threads are in the scratch, so the heal code of the chosen thread
        // must not unmap it.
        let armed = self.parked()?;
        let done = armed.hold(Heal::Unmapped).and_then(|()| self.run_placed(jobs));
        let done = done.and_then(|done| armed.hold(Heal::Mapped).map(|()| done));
        self.phase = Phase::Ready(armed);
        done
    }

    fn run_placed(&self, jobs: Vec<Job>) -> Result<Vec<(usize, Outcome)>> {
        let mut image = Vec::new();
        let mut placed = Vec::new();
        for job in jobs {
            suspend_seccomp(self.task.pid, self.task.threads[job.thread].tid)?;
            let at = RemoteAddr(self.scratch.start + SCRATCH_HEADER + image.len() as u64);
            image.extend_from_slice(&self.job_image(&job, at));
            placed.push((job, at));
        }
        let base = RemoteAddr(self.scratch.start + SCRATCH_HEADER);
        self.write(base, &image)?;
        let mut running = Vec::new();
        for (job, at) in &placed {
            running.push(self.start_job(job, *at)?);
        }
        // A failure is reported only after all threads have been stopped and restored.
        let ended: Vec<Result<()>> =
            running.into_iter().map(|thread| thread.park()?.disarm(Heal::Unmapped)).collect();
        ended.into_iter().collect::<Result<()>>()?;
        self.read(base, &mut image)?;
        let outcome = |(job, at): (Job, RemoteAddr)| {
            let start = (at.0 - base.0) as usize + job.batch_at(self.task);
            let bytes = &image[start..start + job.batch.encoded_len()];
            Ok((job.order, job.batch.outcome(bytes)?))
        };
        placed.into_iter().map(outcome).collect()
    }

    fn park_of(&self, thread: &FrozenThread) -> Park {
        site::choose_park(&self.status, thread)
    }

    fn job_image(&self, job: &Job, at: RemoteAddr) -> Vec<u8> {
        let thread = &self.task.threads[job.thread];
        let fpstate = at.0 + code::BLOCK_SIZE as u64;
        let mut block = thread_block(thread, self.code, at, fpstate);
        block.signal = self.park_of(thread).signal();
        let mut image = block.bytes().to_vec();
        image.extend_from_slice(&frame::fpstate(&thread.xstate).unwrap_or_default());
        image.resize(job.batch_at(self.task), 0);
        image.extend_from_slice(&job.batch.encode(RemoteAddr(at.0 + image.len() as u64)));
        image.resize(job.len(self.task) as usize, 0);
        image
    }

    fn start_job(&self, job: &Job, at: RemoteAddr) -> Result<super::armed::Running> {
        let thread = &self.task.threads[job.thread];
        let armed = Healable::arm(thread, self.code, at, self.park_of(thread))?;
        let addr = at.0 + job.batch_at(self.task) as u64;
        armed.start(Stub::Entries { addr, count: job.batch.len() }, Heal::Unmapped)
    }

    /// Gives the thread its own registers back and removes every trace but the code.
    pub fn finish(mut self) -> Result<()> {
        self.close()
    }

    /// Starts to unmap the scratch; [`finish`](Self::finish) waits for the end of that. Meanwhile
    /// the thread may be running, so that no ptrace request to it is allowed.
    pub fn begin_finish(&mut self) -> Result<()> {
        let armed = self.parked()?;
        self.phase = Phase::Closing(armed.start(Stub::Fin, Heal::Mapped)?);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.ready()?;
        if let Phase::Ready(_) = self.phase {
            self.begin_finish()?;
        }
        let Phase::Closing(running) = self.leave_phase() else { return Ok(()) };
        let heal = if self.page.is_some() { Heal::Moves } else { Heal::Unmapped };
        running.park()?.disarm(heal)?;
        self.end()
    }

    fn end(&self) -> Result<()> {
        // The block still names a scratch that could not be removed yet, so it stays in use.
        if self.inherited.is_some() {
            return Ok(());
        }
        self.force(self.block, &code::FREE.to_le_bytes())
    }
}

impl Drop for Injection<'_> {
    fn drop(&mut self) {
        // After a failure the heal code restores the thread, as soon as the thread is let go.
        let _ = self.close();
        self.task.busy.0.set(false);
    }
}

/// Room for one more thread: its block, its vector state, a small batch.
const PER_THREAD: usize = 8 << 10;

/// A batch for one of the other threads.
struct Job {
    /// Position of the outcome among those of all batches.
    order: usize,
    thread: usize,
    batch: Batch,
}

impl Job {
    /// Where the entries begin, behind the block and the vector state.
    fn batch_at(&self, task: &FrozenTask) -> usize {
        let state = frame::fpstate_len(&task.threads[self.thread].xstate);
        (code::BLOCK_SIZE + state).next_multiple_of(64)
    }

    fn len(&self, task: &FrozenTask) -> u64 {
        (self.batch_at(task) + self.batch.encoded_len()).next_multiple_of(64) as u64
    }
}

/// What heals `thread`: a frame with its vector state at `fpstate`, or plain moves.
fn thread_block(thread: &FrozenThread, code: Code, at: RemoteAddr, fpstate: u64) -> Block {
    let mut block = Block::empty();
    let healed = frame::healed(thread);
    let in_call = thread.regs.orig_rax.cast_signed() >= 0;
    block.own_mask = thread.sigmask;
    block.moves = code::Moves::new(&healed, in_call);
    block.tail = if in_call { code.via_rcx() } else { 0 };
    if fpstate != 0 && (thread.restart() != Restart::Block || code.filtered) {
        (block.frame, block.frame_eintr) = Block::frames_at(at);
    }
    let interrupted = frame::interrupted(thread);
    // A frame clears the restart block, so a call that has one cannot go on from it and has to end.
    let ends = thread.restart() == Restart::Block;
    let ordinary = if ends { &interrupted } else { &healed };
    block.ordinary = Ucontext::new(ordinary, thread.sigmask, fpstate);
    block.eintr = Ucontext::new(&interrupted, thread.sigmask, fpstate);
    block
}

/// Lets a thread make calls that its seccomp filter would not allow.
fn suspend_seccomp(pid: HostPid, tid: HostPid) -> Result<()> {
    let options = ptrace::O_TRACESYSGOOD | ptrace::O_SUSPEND_SECCOMP;
    let Err(errno) = ptrace::set_options(tid, options) else { return Ok(()) };
    if proc::status(pid, tid)?.seccomp == 0 {
        return Ok(());
    }
    Err(Error::refused(Refusal {
        place: format!("pid {pid} thread {tid}"),
        object: "seccomp filter".to_owned(),
        reason: format!("it cannot be suspended ({errno:?})"),
        remedy: "run with CAP_SYS_ADMIN, outside any seccomp filter".to_owned(),
    }))
}
