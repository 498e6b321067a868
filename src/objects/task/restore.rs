//! From the cores of a process to a process.
//!
//! The engine calls the stages in this order, each when its turn has come for the whole tree. The
//! place of an attribute follows from what it needs and what it hinders:
//!
//! 1. [`threads`](Rebuild::threads), when memory is there: what a thread registers points to it.
//! 2. [`credentials`](Rebuild::credentials): all that needs privileges is done by then. Seccomp
//!    and the login uid come just before, as they need them.
//! 3. [`signals`](Rebuild::signals), when all children are dead or stopped that are to be: their
//!    SIGCHLDs are forgotten, then actions are set, timers started, signals queued.
//! 4. [`limits`](Rebuild::limits): what hinders everything else (no_new_privs would hinder the
//!    credentials), and what a change of credentials resets (the parent death signal).
//! 5. [`exposure`](Rebuild::exposure): what lets the user or the memory of the process interfere,
//!    when there is no right and no limit left to be had by it.
//! 6. [`final_states`](Rebuild::final_states), for the launch.

use std::iter;

use super::credentials::Reach;
use super::validate::thread_extras;
use super::{
    altstack, capture, clear_tid, comm, credentials, dumpable, fpu, itimers, loginuid, mdwe,
    membarrier, oom_score, pdeath_signal, pending, personality, posix_timers, registers, rlimits,
    robust_list, rseq, scheduling, seccomp, sigaction, subreaper, syscall_restart,
};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::images::proto::{
    CoreEntry, SeccompEntry, TaskCoreEntry, TaskExtrasEntry, TaskTimersEntry, ThreadCoreEntry,
};
use crate::images::snapshot::TaskImage;
use crate::kernel::xsave::Layout;
use crate::tracee::batch::{Batch, CallId, Outcome};
use crate::tracee::blank::{Blank, FinalState, ThreadSpec};

/// What follows the registrations, in the order in which a process needs it.
#[derive(Clone, Copy)]
enum Step {
    Reset,
    Credentials,
    Actions,
    Pending,
    Timers,
    Limits,
    Exposure,
}

const CREDENTIALS: [Step; 2] = [Step::Reset, Step::Credentials];
const SIGNALS: [Step; 3] = [Step::Actions, Step::Pending, Step::Timers];

/// The rebuilding of one process; [`validate`](super::validate::validate) has passed.
pub struct Rebuild<'a> {
    pid: i32,
    image: &'a TaskImage,
    extras: Option<&'a TaskExtrasEntry>,
    filters: &'a SeccompEntry,
    reach: &'a Reach,
}

impl<'a> Rebuild<'a> {
    /// `extras` are those of this process, `filters` those of the tree.
    pub fn new(
        pid: u32,
        image: &'a TaskImage,
        extras: Option<&'a TaskExtrasEntry>,
        filters: &'a SeccompEntry,
        reach: &'a Reach,
    ) -> Self {
        Self { pid: pid.cast_signed(), image, extras, filters, reach }
    }

    /// The threads to be cloned, all but the leader.
    pub fn thread_specs(&self) -> Vec<ThreadSpec> {
        let spec = |(tid, core): &(u32, CoreEntry)| ThreadSpec {
            tid: tid.cast_signed(),
            clear_tid_addr: core.thread_info.as_ref().map_or(0, |info| info.clear_tid_addr),
        };
        self.image.threads.iter().map(spec).collect()
    }

    /// What each thread registers with the kernel, and its name.
    pub fn threads(&self, blank: &mut Blank) -> Result<()> {
        self.run_in_all(blank, |thread, batch| thread.register(batch))?;
        let mut process = Batch::new();
        membarrier::rebuild(&mut process, self.process()?.membarrier_registration_mask());
        blank.run(process)?;
        for thread in self.all()? {
            registers::rebuild_tls(thread.tid, thread.tls())?;
        }
        Ok(())
    }

    /// Keeps the user out of the memory of a process whose threads have lent capabilities, until its
    /// [`exposure`](Self::exposure): as soon as the first thread has given them up, its memory would
    /// be the user's to write, and the others still run code in it.
    pub fn shield(&self, blank: &mut Blank) -> Result<()> {
        let mut batch = Batch::new();
        dumpable::shield(&mut batch);
        blank.run(batch).map(drop)
    }

    /// Seccomp, login uid, and the credentials of every thread.
    pub fn credentials(&self, blank: &mut Blank) -> Result<()> {
        self.before_credentials(blank)?;
        self.run_steps(blank, &CREDENTIALS)
    }

    /// Actions, timers and pending signals.
    pub fn signals(&self, blank: &mut Blank) -> Result<()> {
        self.before_signals(blank)?;
        self.run_steps(blank, &SIGNALS)
    }

    /// no_new_privs, parent death signals, subreaper flag, memory-deny-write-execute, transparent huge
    /// pages, limits, scheduling.
    pub fn limits(&self, blank: &mut Blank) -> Result<()> {
        self.run_steps(blank, &[Step::Limits])?;
        self.scheduling()
    }

    /// Personality; dumpable, by which the process is its user's again; and restartable sequences, by
    /// which its memory says where an interrupted thread goes on.
    pub fn exposure(&self, blank: &mut Blank) -> Result<()> {
        self.run_steps(blank, &[Step::Exposure])
    }

    /// All of these in turn, if there is nobody whose turn has to come in between.
    pub fn credentials_to_exposure(&self, blank: &mut Blank) -> Result<()> {
        self.before_credentials(blank)?;
        self.before_signals(blank)?;
        let last = [Step::Limits, Step::Exposure];
        self.run_steps(blank, &[&CREDENTIALS[..], &SIGNALS, &last].concat())?;
        self.scheduling()
    }

    fn before_credentials(&self, blank: &mut Blank) -> Result<()> {
        let entry = self.process()?;
        self.seccomp(blank)?;
        if let Some(uid) = entry.loginuid {
            loginuid::rebuild(self.pid, uid, |batch| blank.run(batch))?;
        }
        entry.oom_score_adj.map_or(Ok(()), |adjustment| oom_score::rebuild(self.pid, adjustment))
    }

    fn before_signals(&self, blank: &mut Blank) -> Result<()> {
        blank.reserve_signals(self.used_signals()?)?;
        match &self.process()?.timers {
            Some(timers) if !timers.posix.is_empty() => make_timers(blank, timers),
            _ => Ok(()),
        }
    }

    fn scheduling(&self) -> Result<()> {
        self.all()?.into_iter().try_for_each(|thread| scheduling::rebuild(thread.tid, thread.entry))
    }

    /// Runs steps in all threads, none before the one before is over in all of them.
    fn run_steps(&self, blank: &mut Blank, steps: &[Step]) -> Result<()> {
        let threads = self.all()?;
        let at_once = if threads.len() == 1 { steps.len() } else { 1 };
        for some in steps.chunks(at_once) {
            let mut asked = None;
            let outcomes = self.run_in(&threads, blank, |thread, batch| {
                for step in some {
                    asked = asked.or(self.add(*step, thread, batch));
                }
            })?;
            // Whoever is asked is the leader, whose outcome is the first.
            if let (Some(asked), Some(outcome)) = (asked, outcomes.first()) {
                let stands = outcome.ret(asked).doing(|| "ask for dumpable")?;
                dumpable::check(self.dumpable(), stands)?;
            }
        }
        Ok(())
    }

    /// Adds what a step is for one thread. Returns the call that tells whether it is dumpable.
    fn add(&self, step: Step, thread: &Thread<'_>, batch: &mut Batch) -> Option<CallId> {
        let (leads, entry) = (thread.index == 0, thread.process);
        match step {
            Step::Reset if leads => dumpable::prepare(batch, self.dumpable()),
            Step::Credentials => {
                if let Some(creds) = &thread.entry.creds {
                    credentials::rebuild(batch, creds, self.reach);
                }
            }
            Step::Actions if leads => {
                sigaction::flush_sigchld(batch);
                sigaction::rebuild(batch, &entry.sigactions);
            }
            Step::Pending => self.add_pending(thread, batch),
            Step::Timers if leads => self.add_timers(entry, batch),
            Step::Limits => self.add_limits(thread, batch),
            Step::Exposure => return self.add_exposure(thread, batch),
            Step::Reset | Step::Actions | Step::Timers => {}
        }
        None
    }

    fn add_pending(&self, thread: &Thread<'_>, batch: &mut Batch) {
        if let (0, Some(shared)) = (thread.index, &thread.process.signals_s) {
            let alarm = self.expiring_alarm(thread.process);
            pending::rebuild_shared(batch, self.pid, shared, alarm);
        }
        if let Some(private) = &thread.entry.signals_p {
            pending::rebuild_private(batch, self.pid, thread.tid, private);
        }
    }

    fn add_timers(&self, entry: &TaskCoreEntry, batch: &mut Batch) {
        if let Some(timers) = &entry.timers {
            posix_timers::start(batch, &timers.posix);
            let all = [&timers.real, &timers.virt, &timers.prof];
            itimers::rebuild(batch, &all, self.expiring_alarm(entry));
        }
    }

    fn add_limits(&self, thread: &Thread<'_>, batch: &mut Batch) {
        if let Some(creds) = &thread.entry.creds {
            credentials::rebuild_no_new_privs(batch, creds);
        }
        pdeath_signal::rebuild(batch, thread.entry.pdeath_sig);
        if thread.index > 0 {
            return;
        }
        subreaper::rebuild(batch, thread.process.child_subreaper());
        if let Some(extras) = self.extras {
            mdwe::rebuild(batch, extras);
        }
        self.set_huge_pages(batch);
        if let Some(limits) = &thread.process.rlimits {
            rlimits::rebuild(batch, limits);
        }
    }

    fn add_exposure(&self, thread: &Thread<'_>, batch: &mut Batch) -> Option<CallId> {
        let exact = self.extras.and_then(|extras| extras.personality);
        personality::rebuild(batch, thread.process.personality, exact);
        let asked = (thread.index == 0).then(|| dumpable::rebuild(batch, self.dumpable()));
        if let Some(registered) = &thread.entry.rseq_entry {
            rseq::rebuild(batch, registered);
        }
        asked
    }

    fn set_huge_pages(&self, batch: &mut Batch) {
        if let Some(disabled) = self.image.mm.as_ref().and_then(|mm| mm.thp_disabled) {
            let call = args![libc::PR_SET_THP_DISABLE, u32::from(disabled), 0, 0, 0];
            batch.must("set the huge page flag", libc::SYS_prctl, call);
        }
    }

    /// Registers and masks of all threads, the leader first.
    pub fn final_states(&self) -> Result<Vec<FinalState>> {
        let handlers = capture::handlers(&self.image.core, &self.image.threads);
        let states = self.all()?.into_iter().zip(handlers).map(|(thread, handler)| {
            let info = thread.core.thread_info.as_ref().ok_or_else(|| self.torn())?;
            let in_image = registers::from_image(&info.gpregs);
            Ok(FinalState {
                regs: syscall_restart::for_resume(&in_image, handler),
                xstate: fpu::from_image(&info.fpregs, self.xstate(thread.tid), Layout::host()),
                sigmask: capture::sigmask(thread.core),
            })
        });
        states.collect()
    }

    fn xstate(&self, tid: i32) -> &'a [crate::images::proto::XstateComponentEntry] {
        let extras = thread_extras(self.extras, tid.cast_unsigned());
        extras.map_or(&[], |extras| &extras.xstate)
    }

    fn seccomp(&self, blank: &mut Blank) -> Result<()> {
        let cores = iter::once(&self.image.core).chain(self.image.threads.iter().map(|t| &t.1));
        if !seccomp::is_used(cores) {
            return Ok(());
        }
        if !blank.seccomp_suspended() {
            let cause = format!("pid {}: seccomp cannot be suspended while it is built", self.pid);
            return Err(Error::new(Kind::Denied, cause)
                .remedy("restore with CAP_SYS_ADMIN and without seccomp"));
        }
        let mut installed = Vec::new();
        let mut batches = Vec::new();
        for thread in self.all()? {
            let mut batch = Batch::new();
            installed.push(seccomp::rebuild(&mut batch, thread.entry, self.filters));
            batches.push((thread.index, batch));
        }
        // One after the other: installing for all threads needs the others to stand still.
        for ((index, batch), installed) in batches.into_iter().zip(installed) {
            for outcome in blank.run_in_threads(vec![(index, batch)])? {
                installed.check(&outcome)?;
            }
        }
        Ok(())
    }

    /// Whether the real-time timer is to expire at once and queue its SIGALRM itself.
    fn expiring_alarm(&self, entry: &TaskCoreEntry) -> bool {
        let expired = entry.timers.as_ref().is_some_and(|all| itimers::has_expired(&all.real));
        expired && entry.signals_s.as_ref().is_some_and(pending::holds_alarm)
    }

    /// Signals that may become pending while the process is still under construction.
    fn used_signals(&self) -> Result<u64> {
        const TIMERS: [i32; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];
        let entry = self.process()?;
        let bit =
            |signal: i32| 1u64.checked_shl(signal.cast_unsigned().wrapping_sub(1)).unwrap_or(0);
        let posix = entry.timers.iter().flat_map(|timers| &timers.posix);
        let timers = posix.map(|timer| timer.si_signo.cast_signed()).chain(TIMERS);
        let queues = self.all()?.into_iter().filter_map(|thread| thread.entry.signals_p.as_ref());
        let queues = queues.chain(&entry.signals_s).map(pending::signals);
        Ok(timers.map(bit).chain(queues).fold(0, |set, more| set | more))
    }

    fn dumpable(&self) -> Option<i32> {
        let dumpable = self.image.mm.as_ref().and_then(|mm| mm.dumpable);
        if self.reach.is_lent() { dumpable.or(Some(dumpable::YES)) } else { dumpable }
    }

    fn process(&self) -> Result<&'a TaskCoreEntry> {
        self.image.core.tc.as_ref().ok_or_else(|| self.torn())
    }

    /// All threads, the leader first.
    fn all(&self) -> Result<Vec<Thread<'a>>> {
        let leader = iter::once((self.pid.cast_unsigned(), &self.image.core));
        let others = self.image.threads.iter().map(|(tid, core)| (*tid, core));
        let threads = leader.chain(others).enumerate().map(|(index, (tid, core))| {
            let entry = core.thread_core.as_ref().ok_or_else(|| self.torn())?;
            Ok(Thread {
                index,
                tid: tid.cast_signed(),
                core,
                entry,
                process: self.process()?,
                exact_comm: thread_extras(self.extras, tid).and_then(|t| t.comm.as_deref()),
            })
        });
        threads.collect()
    }

    fn torn(&self) -> Error {
        Error::new(Kind::Internal, format!("pid {}: its cores were not validated", self.pid))
    }

    /// Runs a batch in every thread that has anything to do.
    fn run_in_all(
        &self,
        blank: &mut Blank,
        fill: impl FnMut(&Thread<'_>, &mut Batch),
    ) -> Result<Vec<Outcome>> {
        self.run_in(&self.all()?, blank, fill)
    }

    fn run_in(
        &self,
        threads: &[Thread<'_>],
        blank: &mut Blank,
        mut fill: impl FnMut(&Thread<'_>, &mut Batch),
    ) -> Result<Vec<Outcome>> {
        let mut batches = Vec::new();
        for thread in threads {
            let mut batch = Batch::new();
            fill(thread, &mut batch);
            if !batch.is_empty() {
                batches.push((thread.index, batch));
            }
        }
        blank.run_in_threads(batches).doing(|| format!("pid {}", self.pid))
    }
}

/// Makes the timers of `timer_create`, under their numbers.
fn make_timers(blank: &mut Blank, timers: &TaskTimersEntry) -> Result<()> {
    let mut wish = Batch::new();
    let wished = posix_timers::wish_numbers(&mut wish);
    if blank.run(wish)?.ret(wished).is_err() {
        let run = |batch| -> Result<Outcome> { blank.run(batch) };
        return posix_timers::rebuild_counting(&timers.posix, run);
    }
    let mut make = Batch::new();
    posix_timers::rebuild_wished(&mut make, &timers.posix);
    blank.run(make).map(drop)
}

struct Thread<'a> {
    index: usize,
    tid: i32,
    core: &'a CoreEntry,
    entry: &'a ThreadCoreEntry,
    process: &'a TaskCoreEntry,
    exact_comm: Option<&'a [u8]>,
}

impl Thread<'_> {
    fn register(&self, batch: &mut Batch) {
        if let (0, Some(info)) = (self.index, &self.core.thread_info) {
            clear_tid::rebuild(batch, info.clear_tid_addr);
        }
        robust_list::rebuild(batch, self.entry.futex_rla, self.entry.futex_rla_len);
        if let Some(stack) = &self.entry.sas {
            altstack::rebuild(batch, stack);
        }
        let name = self.entry.comm.as_deref().unwrap_or(&self.process.comm);
        comm::rebuild(batch, name, self.exact_comm);
    }

    fn tls(&self) -> &[crate::images::proto::UserDescT] {
        self.core.thread_info.as_ref().map_or(&[], |info| &info.tls)
    }
}
