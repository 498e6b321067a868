//! Timers made by `timer_create`.
//!
//! `/proc/PID/timers` tells what they are, only the process itself can tell how much time is left.
//! A program knows a timer by its number, so it has to get the same one again: newer kernels take
//! it as a wish, older ones count up and are made to count as far. The count of lost expirations
//! cannot be set; a waiting signal of a timer is in the queue of pending signals.
//!
//! A timer may be for a thread that has ended. The kernel keeps it running and finds nobody to signal,
//! whoever gets the number of that thread later. No such timer can be made, so a restore makes one that
//! signals nobody: it tells the same times.

use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::PosixTimerEntry;
use crate::kernel::pid::HostPid;
use crate::kernel::proc;
use crate::objects::phases::{Phase, Turn};
use crate::tracee::batch::{Batch, CallId, DataRef, Outcome};
use crate::tracee::dumpee::FrozenTask;

/// Bytes of `struct itimerspec`: interval and time left, each in seconds and nanoseconds.
const SPEC_SIZE: usize = 32;
/// Bytes of `struct sigevent`.
const EVENT_SIZE: usize = 64;
const NANOS: u64 = 1_000_000_000;
const SIGNALS: u32 = 64;
const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
/// How far an older kernel is made to count.
const COUNT_LIMIT: u32 = 1 << 16;
/// Calls of a batch while counting: two per number.
const COUNT_STEP: u32 = 256;

pub struct PosixTimers;

impl Attribute for PosixTimers {
    fn look(&self, task: &FrozenTask, draft: &mut Draft, refusals: &mut Refusals) -> Result<()> {
        let path = format!("/proc/{}/timers", task.pid);
        let timers = parse(&proc::text(&path).doing(|| format!("read {path}"))?)?;
        refuse(task.pid, &timers, refusals);
        draft.timers().posix = timers;
        Ok(())
    }

    fn ask(&self, batch: &mut Batch, draft: &Draft) -> Option<Reply> {
        let timers = &draft.entry.timers.as_ref()?.posix;
        let answer = ask(batch, timers);
        Some(Box::new(move |outcome, draft, _| answer.complete(outcome, &mut draft.timers().posix)))
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        let timers =
            task.entry.timers.as_ref().ok_or_else(|| task.missing("the list of timers"))?;
        validate(&task.file(), &timers.posix)
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[
            (Phase::TimerNumbers, Step::Act(make)),
            (Phase::Timers, Step::Leader(|process, batch| start(batch, of(process)))),
        ]
    }
}

/// The timers that a process is to have.
fn of<'p>(process: &'p Rebuild<'_>) -> &'p [PosixTimerEntry] {
    process.task.entry.timers.as_ref().map_or(&[], |timers| &timers.posix)
}

/// Reads `/proc/PID/timers` into entries without times, in CRIU's order: reversed.
pub(super) fn parse(text: &str) -> Result<Vec<PosixTimerEntry>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut timers: Vec<PosixTimerEntry> = lines
        .chunks(4)
        .map(|chunk| {
            parse_one(chunk).ok_or_else(|| {
                Error::new(Kind::System, format!("/proc/PID/timers is not understood: {chunk:?}"))
            })
        })
        .collect::<Result<_>>()?;
    timers.reverse();
    Ok(timers)
}

fn parse_one(lines: &[&str]) -> Option<PosixTimerEntry> {
    let [id, signal, notify, clock] = lines else { return None };
    let (signo, value) = signal.strip_prefix("signal: ")?.split_once('/')?;
    let (kind, target) = notify.strip_prefix("notify: ")?.split_once('/')?;
    let (target, tid) = target.split_once('.')?;
    let (it_sigev_notify, notify_thread_id) = match (target, kind) {
        ("tid", _) => (libc::SIGEV_THREAD_ID, Some(tid.parse().ok()?)),
        (_, "signal") => (libc::SIGEV_SIGNAL, None),
        (_, "thread") => (libc::SIGEV_THREAD, None),
        _ => (libc::SIGEV_NONE, None),
    };
    let clock: i32 = clock.strip_prefix("ClockID: ")?.trim().parse().ok()?;
    Some(PosixTimerEntry {
        it_id: id.strip_prefix("ID: ")?.parse().ok()?,
        clock_id: clock.cast_unsigned(),
        si_signo: signo.parse().ok()?,
        it_sigev_notify: it_sigev_notify.cast_unsigned(),
        sival_ptr: parse_pointer(value)?,
        notify_thread_id,
        ..PosixTimerEntry::default()
    })
}

fn parse_pointer(text: &str) -> Option<u64> {
    match text.trim() {
        "(null)" => Some(0),
        text => u64::from_str_radix(text.trim_start_matches("0x"), 16).ok(),
    }
}

/// The question to the process: the time left on each of its timers.
struct Answer(Vec<(DataRef, CallId)>);

/// Asks for the time left on each timer.
fn ask(batch: &mut Batch, timers: &[PosixTimerEntry]) -> Answer {
    let calls = timers.iter().map(|timer| {
        let (id, place) = (timer.it_id, batch.space(SPEC_SIZE));
        let what = format!("get the time left on timer {id}");
        batch.must(what, libc::SYS_timer_gettime, args![id, place]);
        (place, batch.call(libc::SYS_timer_getoverrun, args![id]))
    });
    Answer(calls.collect())
}

impl Answer {
    /// Completes the entries that [`ask`] was given.
    fn complete(&self, outcome: &Outcome, timers: &mut [PosixTimerEntry]) -> Result<()> {
        for (timer, (place, overrun)) in timers.iter_mut().zip(&self.0) {
            timer.isec = outcome.u64(*place);
            timer.insec = outcome.u64(place.skip(8));
            timer.vsec = outcome.u64(place.skip(16));
            timer.vnsec = outcome.u64(place.skip(24));
            let overrun = outcome
                .ret(*overrun)
                .doing(|| format!("get the overrun of timer {}", timer.it_id))?;
            timer.overrun = overrun as u32;
        }
        Ok(())
    }
}

/// Checks numbers, times and signals.
fn validate(file: &str, timers: &[PosixTimerEntry]) -> Result<()> {
    let mut ids: Vec<u32> = timers.iter().map(|timer| timer.it_id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) || ids.iter().any(|id| *id > i32::MAX as u32) {
        return Err(Error::image(file, "the numbers of the timers are impossible"));
    }
    for timer in timers {
        if let Some(problem) = problem(timer) {
            return Err(Error::image(file, format!("timer {}: {problem}", timer.it_id)));
        }
    }
    Ok(())
}

fn problem(timer: &PosixTimerEntry) -> Option<&'static str> {
    let seconds = i64::try_from(timer.isec).is_ok() && i64::try_from(timer.vsec).is_ok();
    if !seconds || timer.insec >= NANOS || timer.vnsec >= NANOS {
        return Some("its times are impossible");
    }
    let silent = timer.it_sigev_notify == libc::SIGEV_NONE as u32;
    let signals = silent || (1..=SIGNALS).contains(&timer.si_signo);
    (!signals).then_some("it sends no signal")
}

/// Refuses clocks that would not exist at the restore.
fn refuse(pid: HostPid, timers: &[PosixTimerEntry], refusals: &mut Refusals) {
    /// Clocks with descriptors behind them end in these bits.
    const CLOCKFD: i32 = 3;
    for timer in timers {
        let clock = timer.clock_id.cast_signed();
        if clock < 0 && clock & 7 == CLOCKFD {
            let object = format!("timer {} on clock {clock}", timer.it_id);
            let reason = "a clock device is not carried";
            refusals.refuse(format!("pid {pid}"), object, reason, "");
        }
    }
}

/// Makes the timers under their own numbers.
fn make(process: &Rebuild<'_>, turn: &mut Turn<'_>) -> Result<()> {
    let tids: Vec<TreePid> = process.task.threads.iter().map(|thread| thread.tid).collect();
    let timers = silenced(of(process), &tids);
    if timers.is_empty() {
        return Ok(());
    }
    let (blank, mut wish) = (turn.blank()?, Batch::new());
    let wished = wish_numbers(&mut wish);
    if blank.run(wish)?.ret(wished).is_err() {
        return rebuild_counting(&timers, |batch| blank.run(batch));
    }
    let mut make = Batch::new();
    rebuild_wished(&mut make, &timers);
    blank.run(make).map(drop)
}

/// The timers, of which those for threads that are not among `tids` signal nobody.
fn silenced(timers: &[PosixTimerEntry], tids: &[TreePid]) -> Vec<PosixTimerEntry> {
    let ended = |tid: i32| !tids.contains(&TreePid::new(tid.cast_unsigned()));
    let one = |timer: &PosixTimerEntry| match timer.notify_thread_id {
        Some(tid) if ended(tid) => PosixTimerEntry {
            it_sigev_notify: libc::SIGEV_NONE.cast_unsigned(),
            notify_thread_id: None,
            ..*timer
        },
        _ => *timer,
    };
    timers.iter().map(one).collect()
}

/// Asks the kernel to take the numbers of new timers as wishes; the call fails where it cannot.
fn wish_numbers(batch: &mut Batch) -> CallId {
    batch.call(libc::SYS_prctl, args![PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0])
}

/// Makes the timers under their own numbers, then returns to numbers as they come.
fn rebuild_wished(batch: &mut Batch, timers: &[PosixTimerEntry]) {
    for timer in timers {
        let (event, id) = (event(batch, timer), batch.bytes(&timer.it_id.to_le_bytes()));
        let what = format!("make timer {}", timer.it_id);
        let call = args![timer.clock_id.cast_signed(), event, id];
        batch.must(what, libc::SYS_timer_create, call);
    }
    let call = args![PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0];
    batch.must("let timers be numbered as they come", libc::SYS_prctl, call);
}

/// Makes the timers on a kernel that numbers them upwards: in between, timers are made and
/// deleted. `run` runs one batch in the process.
pub(super) fn rebuild_counting(
    timers: &[PosixTimerEntry],
    mut run: impl FnMut(Batch) -> Result<Outcome>,
) -> Result<()> {
    let Some(last) = timers.iter().map(|timer| timer.it_id).max() else { return Ok(()) };
    if last >= COUNT_LIMIT {
        let cause = format!("timer number {last} is too high to be counted up to");
        return Err(Error::new(Kind::Refused, cause)
            .remedy("restore on Linux 6.16 or newer, where timers get the number they ask for"));
    }
    for first in (0..=last).step_by(COUNT_STEP as usize) {
        let mut batch = Batch::new();
        let numbers = first..=last.min(first + COUNT_STEP - 1);
        let made: Vec<(u32, DataRef)> =
            numbers.map(|number| (number, count_one(&mut batch, timers, number))).collect();
        let outcome = run(batch)?;
        if let Some((number, _)) = made.iter().find(|(number, id)| outcome.u32(*id) != *number) {
            let cause = format!("the kernel would not number a timer {number}");
            return Err(Error::new(Kind::System, cause));
        }
    }
    Ok(())
}

fn count_one(batch: &mut Batch, timers: &[PosixTimerEntry], number: u32) -> DataRef {
    let wanted = timers.iter().find(|timer| timer.it_id == number);
    let passing = PosixTimerEntry {
        it_sigev_notify: libc::SIGEV_NONE as u32,
        clock_id: libc::CLOCK_MONOTONIC as u32,
        ..PosixTimerEntry::default()
    };
    let timer = wanted.unwrap_or(&passing);
    let (event, id) = (event(batch, timer), batch.space(4));
    let call = args![timer.clock_id.cast_signed(), event, id];
    batch.must(format!("make timer {number}"), libc::SYS_timer_create, call);
    if wanted.is_none() {
        batch.must(format!("delete timer {number}"), libc::SYS_timer_delete, args![number]);
    }
    id
}

fn event(batch: &mut Batch, timer: &PosixTimerEntry) -> DataRef {
    let mut raw = [0u8; EVENT_SIZE];
    raw[..8].copy_from_slice(&timer.sival_ptr.to_le_bytes());
    raw[8..12].copy_from_slice(&timer.si_signo.to_le_bytes());
    raw[12..16].copy_from_slice(&timer.it_sigev_notify.to_le_bytes());
    raw[16..20].copy_from_slice(&timer.notify_thread_id.unwrap_or(0).to_le_bytes());
    batch.bytes(&raw)
}

/// Starts the timers that were running.
pub(super) fn start(batch: &mut Batch, timers: &[PosixTimerEntry]) {
    for timer in timers {
        let left = match (timer.vsec, timer.vnsec) {
            (0, 0) if (timer.isec, timer.insec) == (0, 0) => continue,
            // The time left was too short to be told: one interval, as CRIU does.
            (0, 0) => (timer.isec, timer.insec),
            left => left,
        };
        let raw: Vec<u8> = [timer.isec, timer.insec, left.0, left.1]
            .iter()
            .flat_map(|long| long.to_le_bytes())
            .collect();
        let place = batch.bytes(&raw);
        let what = format!("start timer {}", timer.it_id);
        batch.must(what, libc::SYS_timer_settime, args![timer.it_id, 0, place, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::remote::RemoteAddr;

    const SAVED: &str = "\
ID: 3
signal: 10/0000000000001234
notify: signal/tid.14768
ClockID: 0
ID: 2
signal: 39/00007ffc327b61f8
notify: none/pid.14768
ClockID: 7
ID: 1
signal: 39/0000000000000000
notify: thread/pid.14768
ClockID: -6
";

    #[test]
    fn the_saved_list_is_read_in_reverse() {
        let timers = parse(SAVED).unwrap();
        let ids: Vec<u32> = timers.iter().map(|timer| timer.it_id).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(timers[0].clock_id.cast_signed(), -6);
        assert_eq!(timers[0].it_sigev_notify, libc::SIGEV_THREAD as u32);
        assert_eq!((timers[1].sival_ptr, timers[1].it_sigev_notify), (0x7ffc_327b_61f8, 1));
        assert_eq!((timers[2].notify_thread_id, timers[2].it_sigev_notify), (Some(14768), 4));
        assert_eq!((timers[2].si_signo, timers[2].sival_ptr), (10, 0x1234));
        validate("core-1.img", &timers).unwrap();
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_list_that_is_cut_short_is_an_error() {
        assert!(parse("ID: 3\nsignal: 10/0\n").is_err());
    }

    #[test]
    fn impossible_timers_are_refused() {
        let timers = parse(SAVED).unwrap();
        let cause = |timer| validate("core-1.img", &[timer]).unwrap_err().to_string();
        let mute = PosixTimerEntry { si_signo: 0, ..timers[0] };
        assert_eq!(cause(mute), "core-1.img: timer 1: it sends no signal");
        let late = PosixTimerEntry { vnsec: NANOS, ..timers[0] };
        assert_eq!(cause(late), "core-1.img: timer 1: its times are impossible");
        let twice = validate("core-1.img", &[timers[0], timers[0]]).unwrap_err().to_string();
        assert_eq!(twice, "core-1.img: the numbers of the timers are impossible");
    }

    #[test]
    fn a_timer_for_a_thread_that_has_ended_signals_nobody() {
        let timers = parse(SAVED).unwrap();
        assert_eq!(silenced(&timers, &[TreePid::new(14768)]), timers);
        let silenced = silenced(&timers, &[TreePid::new(1)]);
        assert_eq!(silenced[..2], timers[..2]);
        let expected = PosixTimerEntry {
            it_sigev_notify: libc::SIGEV_NONE.cast_unsigned(),
            notify_thread_id: None,
            ..timers[2]
        };
        assert_eq!(silenced[2], expected);
    }

    #[test]
    fn counting_makes_and_deletes_up_to_the_number() {
        let timers = [PosixTimerEntry { it_id: 2, ..PosixTimerEntry::default() }];
        let mut lens = Vec::new();
        let error = rebuild_counting(&timers, |batch| {
            lens.push(batch.len());
            let image = batch.encode(RemoteAddr(0));
            batch.outcome(&image)
        });
        // Two passing timers are made and deleted, the third is the wanted one.
        assert_eq!(lens, [5]);
        assert!(error.unwrap_err().to_string().contains("would not number a timer 1"));
    }

    #[test]
    fn stopped_timers_are_not_started() {
        let mut batch = Batch::new();
        let stopped = PosixTimerEntry::default();
        let running = PosixTimerEntry { vsec: 4, ..stopped };
        start(&mut batch, &[stopped, running]);
        assert_eq!(batch.len(), 1);
    }
}
