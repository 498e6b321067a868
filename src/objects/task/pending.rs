//! Signals that were sent but not yet delivered: one queue per process, one per thread.
//!
//! An image holds each siginfo as the kernel gives it. A siginfo that says "from the kernel" can
//! only be queued by the very thread it is for (for the process: its leader), so that is who
//! queues all of them. Order within a queue is kept.

use libc::{SI_KERNEL, SIGALRM, SIGSTOP, SIGTRAP};

use super::attribute::{Attribute, Step};
use super::draft::Draft;
use super::sigaction::{self, Effect};
use super::syscall_restart::Handler;
use super::{Rebuild, Recorded, RecordedThread, itimers};
use crate::args;
use crate::error::{Context, Error, Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{SaEntry, SiginfoEntry, SignalQueueEntry, TaskCoreEntry};
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, Queue, SIGINFO_SIZE};
use crate::objects::phases::{Phase, Turn};
use crate::tracee::batch::Batch;
use crate::tracee::dumpee::FrozenTask;

const SIGNALS: i32 = 64;
/// Signals about something that the thread itself has just done: the kernel delivers them first.
const SYNCHRONOUS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, SIGTRAP, libc::SIGFPE, libc::SIGSYS];

pub struct PendingSignals;

impl Attribute for PendingSignals {
    /// Before anything is run in the process: what is pending now was so at the stop.
    fn look(&self, task: &FrozenTask, draft: &mut Draft, _: &mut Refusals) -> Result<()> {
        draft.entry.signals_s = Some(capture(task.pid, Queue::Shared)?);
        for thread in &mut draft.threads {
            thread.entry.signals_p = Some(capture(thread.tid, Queue::Private)?);
        }
        Ok(())
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        let shared = task.entry.signals_s.as_ref();
        validate(&task.file(), shared.ok_or_else(|| task.missing("the pending signals"))?)
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        let private = thread.entry.signals_p.as_ref();
        validate(&thread.file(), private.ok_or_else(|| thread.missing("the pending signals"))?)
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[
            (Phase::Registrations, Step::Act(reserve)),
            (Phase::Pending, Step::Leader(rebuild_shared)),
            (Phase::Pending, Step::Threads(rebuild_private)),
        ]
    }
}

/// A queue of a stopped thread as an image holds it.
pub(super) fn capture(tid: HostPid, queue: Queue) -> Result<SignalQueueEntry> {
    let infos = ptrace::peek_siginfo(tid, queue)
        .doing(|| format!("read the pending signals of thread {tid}"))?;
    let signals = infos.iter().map(|info| SiginfoEntry { siginfo: info.to_vec() }).collect();
    Ok(SignalQueueEntry { signals })
}

/// Checks sizes and numbers.
fn validate(file: &str, queue: &SignalQueueEntry) -> Result<()> {
    for info in &queue.signals {
        if info.siginfo.len() != SIGINFO_SIZE {
            let len = info.siginfo.len();
            return Err(Error::image(file, format!("a pending signal has {len} bytes")));
        }
        let signal = signal(info);
        if !(1..=SIGNALS).contains(&signal) || signal == libc::SIGKILL {
            return Err(Error::image(file, format!("signal {signal} cannot be pending")));
        }
    }
    Ok(())
}

/// Keeps the engine's hands off the signals that may become pending while the process is still under
/// construction.
fn reserve(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    const TIMERS: [i32; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];
    let task = &process.task;
    let bit = |signal: i32| 1u64.checked_shl(signal.cast_unsigned().wrapping_sub(1)).unwrap_or(0);
    let posix = task.entry.timers.iter().flat_map(|timers| &timers.posix);
    let timers = posix.map(|timer| timer.si_signo.cast_signed()).chain(TIMERS);
    let private = task.threads.iter().filter_map(|thread| thread.entry.signals_p.as_ref());
    let queues = private.chain(&task.entry.signals_s).map(signals);
    let used = timers.map(bit).chain(queues).fold(0, |set, more| set | more);
    turn.stopped().reserve_signals(used)
}

fn rebuild_shared(process: &Rebuild<'_>, batch: &mut Batch) {
    let entry = process.task.entry;
    if let Some(queue) = &entry.signals_s {
        queue_shared(batch, process.task.pid, queue, itimers::queues_alarm(entry));
    }
}

fn rebuild_private(process: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    if let Some(queue) = &thread.entry.signals_p {
        queue_private(batch, process.task.pid, thread.tid, queue);
    }
}

/// Queues the signals of the process; for the leader's batch.
///
/// `skip_alarm`: the expiry of the real-time interval timer is about to queue its own.
fn queue_shared(batch: &mut Batch, pid: TreePid, queue: &SignalQueueEntry, skip_alarm: bool) {
    for info in queue.signals.iter().filter(|info| !(skip_alarm && is_alarm(info))) {
        let (signal, place) = (signal(info), batch.bytes(&info.siginfo));
        if signal != SIGSTOP {
            let what = format!("queue signal {signal} for process {pid}");
            batch.must(what, libc::SYS_rt_sigqueueinfo, args![pid.number(), signal, place]);
        }
    }
}

/// Queues the signals of a thread; for the thread's own batch.
fn queue_private(batch: &mut Batch, pid: TreePid, tid: TreePid, queue: &SignalQueueEntry) {
    for info in &queue.signals {
        let (signal, place) = (signal(info), batch.bytes(&info.siginfo));
        if signal != SIGSTOP {
            let what = format!("queue signal {signal} for thread {tid}");
            batch.must(
                what,
                libc::SYS_rt_tgsigqueueinfo,
                args![pid.number(), tid.number(), signal, place],
            );
        }
    }
}

/// The signals in a queue: bit n-1 for signal n.
fn signals(queue: &SignalQueueEntry) -> u64 {
    let known = queue.signals.iter().map(signal).filter(|signal| (1..=SIGNALS).contains(signal));
    known.fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Takes the stops out of a queue that was captured, and tells whether there were any.
///
/// They are written down as the state of the process: in a stopped one they have no effect (SIGCONT
/// discards them), and any other is about to be stopped by them. CRIU has them in no image, and its
/// restorer would stop halfway.
pub fn take_stop(queue: &mut SignalQueueEntry) -> bool {
    let found = holds_stop(queue);
    queue.signals.retain(|info| signal(info) != SIGSTOP);
    found
}

/// Whether a stop is among the pending signals: it acts as soon as the process runs, so it is not
/// queued but makes the restored process a stopped one.
pub fn holds_stop(queue: &SignalQueueEntry) -> bool {
    queue.signals.iter().any(|info| signal(info) == SIGSTOP)
}

/// Whether the real-time interval timer has expired and its signal is still waiting.
pub fn holds_alarm(queue: &SignalQueueEntry) -> bool {
    queue.signals.iter().any(is_alarm)
}

/// For each thread, given its mask and its queue: the handler that will run as soon as it resumes.
///
/// A signal of the process goes to the first thread that does not block it.
pub fn handlers<'q>(
    entry: &TaskCoreEntry,
    threads: impl Iterator<Item = (u64, Option<&'q SignalQueueEntry>)>,
) -> Vec<Option<Handler>> {
    let (none, mut taken) = (SignalQueueEntry::default(), 0);
    let shared = entry.signals_s.as_ref().unwrap_or(&none);
    threads
        .map(|(blocked, private)| {
            let shared_blocked = blocked | taken;
            taken |= !blocked;
            let private = private.unwrap_or(&none);
            next_handler(private, shared, blocked, shared_blocked, &entry.sigactions)
        })
        .collect()
}

/// The handler that will run first when a thread with these queues resumes, if one will.
///
/// `shared_blocked` are the signals of the process that it blocks or that another thread takes.
fn next_handler(
    private: &SignalQueueEntry,
    shared: &SignalQueueEntry,
    blocked: u64,
    shared_blocked: u64,
    actions: &[SaEntry],
) -> Option<Handler> {
    let queues = [(private, blocked), (shared, shared_blocked)];
    queues.into_iter().find_map(|(queue, blocked)| next_in_queue(queue, blocked, actions))
}

fn next_in_queue(queue: &SignalQueueEntry, blocked: u64, actions: &[SaEntry]) -> Option<Handler> {
    let mut waiting: Vec<i32> = queue
        .signals
        .iter()
        .map(signal)
        .filter(|signal| (1..=SIGNALS).contains(signal) && blocked & (1 << (signal - 1)) == 0)
        .collect();
    waiting.sort_by_key(|signal| (!SYNCHRONOUS.contains(signal), *signal));
    waiting.into_iter().find_map(|signal| match sigaction::effect(actions, signal) {
        Effect::Handled(handler) => Some(handler),
        Effect::Ignored | Effect::Default => None,
    })
}

fn signal(info: &SiginfoEntry) -> i32 {
    word(info, 0)
}

fn is_alarm(info: &SiginfoEntry) -> bool {
    signal(info) == SIGALRM && word(info, 8) == SI_KERNEL
}

fn word(info: &SiginfoEntry, at: usize) -> i32 {
    let bytes = info.siginfo.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(signals: &[(i32, i32)]) -> SignalQueueEntry {
        let info = |(signal, code): &(i32, i32)| {
            let mut siginfo = vec![0; SIGINFO_SIZE];
            siginfo[..4].copy_from_slice(&signal.to_le_bytes());
            siginfo[8..12].copy_from_slice(&code.to_le_bytes());
            SiginfoEntry { siginfo }
        };
        SignalQueueEntry { signals: signals.iter().map(info).collect() }
    }

    fn handled(signal: i32, flags: i32) -> Vec<SaEntry> {
        let action = |found| match found == signal {
            true => SaEntry { sigaction: 0x1000, flags: flags as u64, ..SaEntry::default() },
            false => SaEntry::default(),
        };
        sigaction::signals().map(action).collect()
    }

    #[test]
    fn only_unblocked_handled_signals_are_about_to_run() {
        let (usr1, none) = (queue(&[(libc::SIGUSR1, 0)]), queue(&[]));
        let actions = handled(libc::SIGUSR1, libc::SA_RESTART);
        let handler = Some(Handler { restarts: true });
        assert_eq!(next_handler(&usr1, &none, 0, 0, &actions), handler);
        assert_eq!(next_handler(&none, &usr1, !0, 0, &actions), handler);
        assert_eq!(next_handler(&usr1, &none, 1 << (libc::SIGUSR1 - 1), 0, &actions), None);
        assert_eq!(next_handler(&usr1, &none, 0, 0, &handled(libc::SIGUSR2, 0)), None);
    }

    #[test]
    fn the_alarm_of_an_expired_timer_is_told_from_a_sent_one() {
        assert!(holds_alarm(&queue(&[(SIGALRM, SI_KERNEL)])));
        assert!(!holds_alarm(&queue(&[(SIGALRM, 0)])));
        let mut batch = Batch::new();
        let both = queue(&[(SIGALRM, SI_KERNEL), (SIGALRM, 0)]);
        queue_shared(&mut batch, TreePid::new(1), &both, true);
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn a_stop_is_not_queued() {
        let mut batch = Batch::new();
        let stop = queue(&[(SIGSTOP, 0), (libc::SIGTERM, 0)]);
        queue_private(&mut batch, TreePid::new(1), TreePid::new(2), &stop);
        assert_eq!(batch.len(), 1);
        assert!(holds_stop(&stop));
    }

    #[test]
    fn a_pending_stop_becomes_a_state() {
        let mut waiting = queue(&[(SIGSTOP, 0), (libc::SIGTERM, 0), (SIGSTOP, 0)]);
        assert!(take_stop(&mut waiting));
        assert_eq!(waiting, queue(&[(libc::SIGTERM, 0)]));
        assert!(!take_stop(&mut waiting));
    }

    #[test]
    fn impossible_queues_are_refused() {
        let short = SignalQueueEntry { signals: vec![SiginfoEntry { siginfo: vec![0; 3] }] };
        assert!(validate("core-1.img", &short).is_err());
        assert!(validate("core-1.img", &queue(&[(65, 0)])).is_err());
        assert!(validate("core-1.img", &queue(&[(libc::SIGKILL, 0)])).is_err());
        validate("core-1.img", &queue(&[(64, -1)])).unwrap();
    }
}
