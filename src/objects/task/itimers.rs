//! The three interval timers of a process.
//!
//! They are stored as time left and restored as time left. A real-time timer whose SIGALRM is
//! still pending is not armed (no time left, but an interval): the kernel arms it again when the
//! signal is taken. Setting it like that would stop it for good, so it is set to expire at once,
//! and queues that SIGALRM itself.

use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use super::{Rebuild, Recorded, pending};
use crate::args;
use crate::error::{Error, Result};
use crate::images::proto::{ItimerEntry, TaskCoreEntry};
use crate::objects::phases::Phase;
use crate::tracee::batch::{Batch, DataRef, Outcome};

/// Bytes of `struct itimerval`: interval and time left, each in seconds and microseconds.
const SIZE: usize = 32;
const MICROS: u64 = 1_000_000;
const NAMES: [&str; 3] = ["real", "virtual", "profiling"];

pub struct Itimers;

impl Attribute for Itimers {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let places = ask(batch);
        Some(Box::new(move |outcome, draft, _| {
            let timers = draft.timers();
            [timers.real, timers.virt, timers.prof] = to_image(outcome, places);
            Ok(())
        }))
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        let timers =
            task.entry.timers.as_ref().ok_or_else(|| task.missing("the list of timers"))?;
        validate(&task.file(), &[&timers.real, &timers.virt, &timers.prof])
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Timers, Step::Leader(rebuild))]
    }
}

/// Asks for the three timers: real, virtual, profiling.
pub(super) fn ask(batch: &mut Batch) -> [DataRef; 3] {
    std::array::from_fn(|which| {
        let place = batch.space(SIZE);
        let what = format!("get the {} interval timer", NAMES[which]);
        batch.must(what, libc::SYS_getitimer, args![which, place]);
        place
    })
}

pub(super) fn to_image(outcome: &Outcome, places: [DataRef; 3]) -> [ItimerEntry; 3] {
    places.map(|place| ItimerEntry {
        isec: outcome.u64(place),
        iusec: outcome.u64(place.skip(8)),
        vsec: outcome.u64(place.skip(16)),
        vusec: outcome.u64(place.skip(24)),
    })
}

/// Checks that the times are times.
fn validate(file: &str, timers: &[&ItimerEntry; 3]) -> Result<()> {
    for (name, timer) in NAMES.iter().zip(timers) {
        let seconds = i64::try_from(timer.isec).is_ok() && i64::try_from(timer.vsec).is_ok();
        if !seconds || timer.iusec >= MICROS || timer.vusec >= MICROS {
            return Err(Error::image(file, format!("the {name} interval timer is impossible")));
        }
    }
    Ok(())
}

/// Whether the real-time timer is to expire at once and queue its SIGALRM itself.
pub fn queues_alarm(entry: &TaskCoreEntry) -> bool {
    let expired = entry.timers.as_ref().is_some_and(|all| has_expired(&all.real));
    expired && entry.signals_s.as_ref().is_some_and(pending::holds_alarm)
}

/// Whether the real-time timer has expired and its signal has not been taken.
fn has_expired(real: &ItimerEntry) -> bool {
    !has_time_left(real) && (real.isec, real.iusec) != (0, 0)
}

fn has_time_left(timer: &ItimerEntry) -> bool {
    (timer.vsec, timer.vusec) != (0, 0)
}

fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    let entry = process.task.entry;
    if let Some(timers) = &entry.timers {
        set(batch, &[&timers.real, &timers.virt, &timers.prof], queues_alarm(entry));
    }
}

/// Sets the timers; `alarm_pending` says whether SIGALRM of the real-time one waits in the image.
pub(super) fn set(batch: &mut Batch, timers: &[&ItimerEntry; 3], alarm_pending: bool) {
    for (which, timer) in timers.iter().enumerate() {
        let value = match (has_time_left(timer), alarm_pending) {
            (true, _) => (timer.vsec, timer.vusec),
            (false, _) if (timer.isec, timer.iusec) == (0, 0) => continue,
            (false, true) if which == 0 => (0, 1),
            // The time left was too short to be told: one interval, as CRIU does.
            (false, _) => (timer.isec, timer.iusec),
        };
        let raw: Vec<u8> = [timer.isec, timer.iusec, value.0, value.1]
            .iter()
            .flat_map(|long| long.to_le_bytes())
            .collect();
        let place = batch.bytes(&raw);
        let what = format!("set the {} interval timer", NAMES[which]);
        batch.must(what, libc::SYS_setitimer, args![which, place, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::remote::RemoteAddr;
    use crate::tracee::batch::ENTRY_SIZE;

    fn timer(interval: (u64, u64), left: (u64, u64)) -> ItimerEntry {
        ItimerEntry { isec: interval.0, iusec: interval.1, vsec: left.0, vusec: left.1 }
    }

    fn calls(timers: [&ItimerEntry; 3], alarm_pending: bool) -> Vec<Vec<u64>> {
        let mut batch = Batch::new();
        set(&mut batch, &timers, alarm_pending);
        let raw = batch.encode(RemoteAddr(0));
        let long = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap());
        (0..batch.len())
            .map(|call| {
                let data = batch.len() * ENTRY_SIZE + call * 64;
                let which = long(call * ENTRY_SIZE + 8);
                [which].into_iter().chain((0..4).map(|word| long(data + word * 8))).collect()
            })
            .collect()
    }

    #[test]
    fn armed_timers_are_set_and_others_left_alone() {
        let (off, on) = (ItimerEntry::default(), timer((0, 0), (4, 5)));
        assert_eq!(calls([&off, &on, &off], false), [[1, 0, 0, 4, 5]]);
    }

    #[test]
    fn an_expired_timer_is_made_to_expire_again() {
        let off = ItimerEntry::default();
        let expired = timer((7, 250), (0, 0));
        assert!(has_expired(&expired));
        assert_eq!(calls([&expired, &off, &off], true), [[0, 7, 250, 0, 1]]);
        assert_eq!(calls([&expired, &off, &off], false), [[0, 7, 250, 7, 250]]);
    }

    #[test]
    fn impossible_times_are_refused() {
        let (off, bad) = (ItimerEntry::default(), timer((0, MICROS), (1, 0)));
        let text = validate("core-1.img", &[&off, &bad, &off]).unwrap_err().to_string();
        assert_eq!(text, "core-1.img: the virtual interval timer is impossible");
    }
}
