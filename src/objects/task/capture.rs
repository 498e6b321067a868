//! From a stopped process to its `core-*.img`.

use std::iter;

use super::inside::{self, Asking, Inside};
use super::outside::{self, Outside};
use super::syscall_restart::Handler;
use super::{
    comm, fpu, loginuid, oom_score, pending, personality, registers, rseq, scheduling, seccomp,
    state, syscall_restart,
};
use crate::error::{Context, Refusals, Result};
use crate::images::proto::{
    CoreEntry, SaEntry, SeccompEntry, SignalQueueEntry, TaskCoreEntry, TaskExtrasEntry,
    TaskTimersEntry, ThreadCoreEntry, ThreadExtrasEntry, ThreadInfoX86, core_entry,
};
use crate::kernel::ptrace::Queue;
use crate::kernel::xsave::Layout;
use crate::objects::memory as mm;
use crate::tracee::dumpee::{FrozenTask, FrozenThread, Injection};

/// The set of control groups that every task is in: they are not managed.
const CONTROL_GROUP_SET: u32 = 1;

/// What was captured of a process.
#[derive(Clone, Debug)]
pub struct Captured {
    /// core-PID.img
    pub leader: CoreEntry,
    /// core-TID.img of every thread but the leader, in the order of the frozen threads.
    pub threads: Vec<(u32, CoreEntry)>,
    /// What the process told about its address space.
    pub mm: mm::Facts,
    /// What CRIU's format has no field for; none if there is nothing of the kind.
    pub extras: Option<TaskExtrasEntry>,
}

/// Captures a process; its seccomp filters go to the table of the whole tree.
///
/// The session that comes with the answer is leaving the process, and has to be finished before
/// anybody looks at the memory. What can be read from outside is read while the process is busy
/// for us.
pub fn capture_process<'a>(
    task: &'a FrozenTask,
    filters: &mut SeccompEntry,
    refusals: &mut Refusals,
) -> Result<(Captured, Injection<'a>)> {
    // Before anything is asked inside: what is pending now was so at the stop.
    let mut shared = pending::capture(task.pid, Queue::Shared)?;
    let mut private = task
        .threads
        .iter()
        .map(|thread| pending::capture(thread.tid, Queue::Private))
        .collect::<Result<Vec<_>>>()?;
    let queues = iter::once(&mut shared).chain(&mut private);
    // All of them are searched, whatever was found before: each is emptied of stops.
    let pending_stop = queues.map(pending::take_stop).fold(false, std::ops::BitOr::bitor);
    let timers = outside::timers(task, refusals)?;
    let asking = Asking::begin(task, &timers)?;
    let outside = Outside::read(task, timers)?;
    let asked = asking.ask()?;
    let threads = outside::threads(task, refusals)?;
    let (inside, mut session) = asked.answers(&outside.timers, refusals)?;
    let mut extras = Extras::new(task.pid);
    let mut cores = Vec::with_capacity(task.threads.len());
    for (index, signals) in private.into_iter().enumerate() {
        let thread = &task.threads[index];
        let core =
            Thread { frozen: thread, outside: &threads[index], inside: &inside.threads[index] };
        let core = core.capture(signals, &mut extras, refusals);
        cores.push(core.doing(|| format!("thread {}", thread.tid))?);
    }
    capture_filters(task, &threads, &mut cores, filters)?;
    session.begin_finish()?;
    let mm = inside.mm;
    let mut entry = process(task, outside, inside, shared, &mut extras)?;
    entry.comm = comm::to_image(&threads[0].comm).0;
    state::to_image(&mut entry, task.group_stop.or(pending_stop.then_some(libc::SIGSTOP)));
    Ok((finish(task, cores, entry, mm, extras), session))
}

fn capture_filters(
    task: &FrozenTask,
    threads: &[outside::Thread],
    cores: &mut [CoreEntry],
    filters: &mut SeccompEntry,
) -> Result<()> {
    let tids: Vec<i32> = task.threads.iter().map(|thread| thread.tid).collect();
    let statuses: Vec<_> = threads.iter().map(|thread| thread.status.clone()).collect();
    let mut entries: Vec<&mut ThreadCoreEntry> =
        cores.iter_mut().filter_map(|core| core.thread_core.as_mut()).collect();
    seccomp::capture(&tids, &statuses, &mut entries, filters)
}

/// Puts the parts together and settles interrupted system calls, which needs all of them.
fn finish(
    task: &FrozenTask,
    mut cores: Vec<CoreEntry>,
    entry: TaskCoreEntry,
    mm: mm::Facts,
    extras: Extras,
) -> Captured {
    let mut leader = cores.remove(0);
    if let Some(thread) = &mut leader.thread_core {
        thread.blk_sigset = None;
    }
    leader.tc = Some(entry);
    let tids = task.threads[1..].iter().map(|thread| thread.tid.cast_unsigned());
    let mut threads: Vec<(u32, CoreEntry)> = tids.zip(cores).collect();
    let handlers = handlers(&leader, &threads);
    let cores = iter::once(&mut leader).chain(threads.iter_mut().map(|(_, core)| core));
    for (core, handler) in cores.zip(handlers) {
        if let Some(info) = &mut core.thread_info {
            let at_stop = registers::from_image(&info.gpregs);
            info.gpregs = registers::to_image(&syscall_restart::for_image(&at_stop, handler));
        }
    }
    Captured { leader, threads, mm, extras: extras.entry() }
}

struct Thread<'a> {
    frozen: &'a FrozenThread,
    outside: &'a outside::Thread,
    inside: &'a inside::Thread,
}

impl Thread<'_> {
    /// With the registers as at the stop.
    fn capture(
        &self,
        signals: SignalQueueEntry,
        extras: &mut Extras,
        refusals: &mut Refusals,
    ) -> Result<CoreEntry> {
        let tid = self.frozen.tid;
        registers::refuse(tid, &self.frozen.regs, refusals);
        let (fpregs, xstate) = fpu::to_image(&self.frozen.xstate, Layout::host())?;
        let (name, exact_name) = comm::to_image(&self.outside.comm);
        extras.add_thread(
            tid,
            ThreadExtrasEntry { tid: tid.cast_unsigned(), xstate, comm: exact_name },
        );
        let info = ThreadInfoX86 {
            clear_tid_addr: self.inside.clear_tid,
            gpregs: registers::to_image(&self.frozen.regs),
            fpregs,
            tls: registers::capture_tls(tid)?,
        };
        let mut entry = self.entry(name, signals)?;
        scheduling::capture(tid, &mut entry, refusals)?;
        Ok(CoreEntry {
            mtype: core_entry::March::X8664.into(),
            thread_info: Some(info),
            thread_core: Some(entry),
            ..CoreEntry::default()
        })
    }

    fn entry(&self, comm: String, signals: SignalQueueEntry) -> Result<ThreadCoreEntry> {
        let Self { frozen, outside, inside } = self;
        Ok(ThreadCoreEntry {
            futex_rla: frozen.robust_list.0,
            futex_rla_len: frozen.robust_list.1 as u32,
            blk_sigset: Some(frozen.sigmask),
            sas: Some(inside.altstack),
            pdeath_sig: inside.pdeath_signal,
            signals_p: Some(signals),
            creds: Some(inside.credentials.to_image(&inside.outcome, &outside.status)?),
            comm: Some(comm),
            rseq_entry: Some(rseq::to_image(frozen.rseq.as_ref())),
            cg_set: Some(CONTROL_GROUP_SET),
            ..ThreadCoreEntry::default()
        })
    }
}

/// What the process has as a whole.
fn process(
    task: &FrozenTask,
    outside: Outside,
    inside: Inside,
    shared: SignalQueueEntry,
    extras: &mut Extras,
) -> Result<TaskCoreEntry> {
    let (personality, exact) = personality::to_image(&outside.personality)?;
    extras.0.personality = exact;
    extras.0.mdwe = inside.mdwe;
    let [real, virt, prof] = inside.itimers;
    Ok(TaskCoreEntry {
        personality,
        flags: outside.flags,
        blk_sigset: task.threads[0].sigmask,
        timers: Some(TaskTimersEntry { real, virt, prof, posix: inside.timers }),
        rlimits: Some(outside.limits),
        signals_s: Some(shared),
        loginuid: loginuid::capture(task.pid)?,
        oom_score_adj: Some(oom_score::capture(task.pid)?),
        sigactions: inside.actions,
        child_subreaper: Some(inside.subreaper),
        membarrier_registration_mask: inside.membarrier,
        ..TaskCoreEntry::default()
    })
}

/// For each thread, the leader first: the handler that will run as soon as it resumes.
///
/// A signal of the process goes to the first thread that does not block it.
pub fn handlers(leader: &CoreEntry, threads: &[(u32, CoreEntry)]) -> Vec<Option<Handler>> {
    let none = SignalQueueEntry::default();
    let process = leader.tc.as_ref();
    let actions: &[SaEntry] = process.map_or(&[], |entry| &entry.sigactions);
    let shared = process.and_then(|entry| entry.signals_s.as_ref()).unwrap_or(&none);
    let mut taken = 0;
    let cores = iter::once(leader).chain(threads.iter().map(|(_, core)| core));
    cores
        .map(|core| {
            let blocked = sigmask(core);
            let private = core.thread_core.as_ref().and_then(|entry| entry.signals_p.as_ref());
            let shared_blocked = blocked | taken;
            taken |= !blocked;
            let private = private.unwrap_or(&none);
            pending::next_handler(private, shared, blocked, shared_blocked, actions)
        })
        .collect()
}

/// The signals that a thread blocks: the leader's are with the process.
pub fn sigmask(core: &CoreEntry) -> u64 {
    match (&core.tc, &core.thread_core) {
        (Some(process), _) => process.blk_sigset,
        (None, Some(thread)) => thread.blk_sigset(),
        (None, None) => 0,
    }
}

/// Extras under collection.
struct Extras(TaskExtrasEntry);

impl Extras {
    fn new(pid: i32) -> Self {
        Self(TaskExtrasEntry { pid: pid.cast_unsigned(), ..TaskExtrasEntry::default() })
    }

    fn add_thread(&mut self, tid: i32, thread: ThreadExtrasEntry) {
        let empty = ThreadExtrasEntry { tid: tid.cast_unsigned(), ..ThreadExtrasEntry::default() };
        if thread != empty {
            self.0.threads.push(thread);
        }
    }

    fn entry(self) -> Option<TaskExtrasEntry> {
        let empty = TaskExtrasEntry { pid: self.0.pid, ..TaskExtrasEntry::default() };
        (self.0 != empty).then_some(self.0)
    }
}
