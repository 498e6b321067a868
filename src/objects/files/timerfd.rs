//! Timers that are read from a file.
//!
//! A periodic timer that has expired and was not read yet is not armed, and the kernel shows no
//! time that is left: stored so, it would never expire again. timerfd_gettime() arms it and counts
//! its expirations, and is called first. The image holds the time that is left also for timers that
//! were set to an absolute time; these are set to the time of the restore plus that.

use std::os::fd::OwnedFd;

use super::context::{DumpCx, RestoreCx};
use super::describe::Description;
use super::fdinfo::{Fdinfo, octal};
use super::kind::{FileId, FileKind, held_as};
use super::opened::{Captured, Opened};
use super::set_status_flags;
use crate::error::{Context, Error, Result};
use crate::images::proto::{FdTypes, FownEntry, TimerfdEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::{clock, timerfd};

const NANOSECONDS: u64 = 1_000_000_000;
const CLOCKS: [i32; 5] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_BOOTTIME,
    libc::CLOCK_REALTIME_ALARM,
    libc::CLOCK_BOOTTIME_ALARM,
];

pub(super) struct Timerfd;

impl FileKind for Timerfd {
    const TYPE: FdTypes = FdTypes::Timerfd;
    const NAME: &'static str = "timerfd";
    type Entry = TimerfdEntry;
    type Met = ();
    type Made = ();
    held_as!(tfd);

    fn claim(file: &Opened, _: &DumpCx<'_>) -> bool {
        file.is_anonymous("timerfd")
    }

    fn capture(
        file: &Opened,
        id: FileId,
        _: &mut (),
        _: &mut DumpCx<'_>,
    ) -> Captured<TimerfdEntry> {
        timerfd::gettime(&file.file).doing(|| format!("{}: timerfd_gettime", file.place))?;
        let Some(state) = state(&Fdinfo::read(file.pid, file.fd)?) else {
            return Err(file.refuse("the kernel does not tell its state", ""));
        };
        Ok(TimerfdEntry { id, flags: file.flags(), fown: file.owner, ..state })
    }

    fn validate(entry: &TimerfdEntry, _: &Snapshot) -> Result<()> {
        let known = CLOCKS.contains(&entry.clockid.cast_signed());
        if !known || entry.vnsec >= NANOSECONDS || entry.insec >= NANOSECONDS {
            let cause = format!("timerfd {}: impossible time", entry.id);
            return Err(Error::image("files.img", cause));
        }
        Ok(())
    }

    fn open(entry: &TimerfdEntry, _: &mut (), _: &RestoreCx<'_>) -> Result<Option<OwnedFd>> {
        let what = || format!("make a timerfd of clock {}", entry.clockid);
        let clock = entry.clockid.cast_signed();
        let made = timerfd::create(clock).doing(what)?;
        set_status_flags(&made, entry.flags).doing(what)?;
        let flags = entry.settime_flags.cast_signed();
        let now = clock::gettime(clock).doing(what)?;
        timerfd::settime(&made, flags, &setting(entry, now)).doing(what)?;
        // The expirations come last, since arming clears them. The kernel does not take a zero.
        if entry.ticks > 0 {
            timerfd::set_ticks(&made, entry.ticks).doing(what)?;
        }
        Ok(Some(made))
    }

    fn owner<'a>(entry: &'a TimerfdEntry, _: &'a Snapshot) -> Option<&'a FownEntry> {
        Some(&entry.fown)
    }

    fn describe(entry: &TimerfdEntry, _: &Snapshot) -> Description {
        let every = if entry.isec | entry.insec == 0 { "" } else { ", repeats" };
        Description::saying(format!("clock {}, {} s left{every}", entry.clockid, entry.vsec))
    }
}

/// What the kernel tells of a timer.
fn state(info: &Fdinfo) -> Option<TimerfdEntry> {
    let (vsec, vnsec) = pair(info.value("it_value")?)?;
    let (isec, insec) = pair(info.value("it_interval")?)?;
    Some(TimerfdEntry {
        clockid: info.value("clockid")?.parse().ok()?,
        ticks: info.value("ticks")?.parse().ok()?,
        settime_flags: octal(info.value("settime flags")?)?,
        vsec,
        vnsec,
        isec,
        insec,
        ..TimerfdEntry::default()
    })
}

/// `(1, 0)`
fn pair(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
}

/// What to arm the timer with, at the time `now` of its clock.
fn setting(entry: &TimerfdEntry, now: libc::timespec) -> libc::itimerspec {
    let spec = |seconds: u64, nanoseconds: u64| libc::timespec {
        tv_sec: seconds.cast_signed(),
        tv_nsec: nanoseconds.cast_signed(),
    };
    let mut left = (entry.vsec, entry.vnsec);
    let never_read = left == (0, 0) && entry.ticks > 0;
    if never_read {
        left = (entry.isec, entry.insec);
    }
    if left != (0, 0) && entry.settime_flags.cast_signed() & libc::TFD_TIMER_ABSTIME != 0 {
        let nanoseconds = left.1 + now.tv_nsec.cast_unsigned();
        left.0 = left.0.saturating_add(now.tv_sec.cast_unsigned()) + nanoseconds / NANOSECONDS;
        left.1 = nanoseconds % NANOSECONDS;
    }
    libc::itimerspec { it_interval: spec(entry.isec, entry.insec), it_value: spec(left.0, left.1) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_kernel_tells_a_timer() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\nclockid: 0\nticks: 2\n\
                    settime flags: 01\nit_value: (737, 13757342)\nit_interval: (1, 0)\n";
        let timer = state(&Fdinfo::parse(text.into()).unwrap()).unwrap();
        assert_eq!((timer.clockid, timer.ticks, timer.settime_flags), (0, 2, 1));
        assert_eq!((timer.vsec, timer.vnsec), (737, 13_757_342));
        assert_eq!((timer.isec, timer.insec), (1, 0));
    }

    const NOW: libc::timespec = libc::timespec { tv_sec: 100, tv_nsec: 900_000_000 };

    fn value(entry: TimerfdEntry) -> (i64, i64) {
        let set = setting(&entry, NOW);
        (set.it_value.tv_sec, set.it_value.tv_nsec)
    }

    #[test]
    fn time_left_is_relative_or_absolute() {
        let entry = TimerfdEntry { vsec: 5, vnsec: 200_000_000, ..Default::default() };
        assert_eq!(value(entry), (5, 200_000_000));
        assert_eq!(value(TimerfdEntry { settime_flags: 1, ..entry }), (106, 100_000_000));
    }

    #[test]
    fn an_expired_periodic_timer_goes_on() {
        let entry = TimerfdEntry { isec: 3, ticks: 1, ..Default::default() };
        assert_eq!(value(entry), (3, 0));
        assert_eq!(value(TimerfdEntry { ticks: 0, ..entry }), (0, 0), "this one is not armed");
    }

    fn armed(clock: i32, flags: i32, value: (i64, i64), interval: i64) -> OwnedFd {
        let timer = timerfd::create(clock).unwrap();
        let time = libc::itimerspec {
            it_value: libc::timespec { tv_sec: value.0, tv_nsec: value.1 },
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: interval },
        };
        timerfd::settime(&timer, flags, &time).unwrap();
        timer
    }

    #[test]
    fn timers_go_on() {
        let periodic = armed(libc::CLOCK_MONOTONIC, 0, (0, 1_000_000), 20_000_000);
        let now = clock::gettime(libc::CLOCK_REALTIME).unwrap();
        let absolute = armed(libc::CLOCK_REALTIME, 1, (now.tv_sec + 500, 0), 0);
        let idle = timerfd::create(libc::CLOCK_BOOTTIME).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let (snapshot, restored) = round_trip(vec![(3, periodic), (4, absolute), (5, idle)]);
        let ticks = entry_of(&snapshot, 3).tfd.as_ref().unwrap().ticks;
        assert!(ticks >= 3, "{ticks}");
        let mut read = [0u8; 8];
        let periodic = copy_of(&restored, 3);
        nix::unistd::read(&periodic, &mut read).unwrap();
        assert!(u64::from_ne_bytes(read) >= ticks);
        nix::unistd::read(&periodic, &mut read).unwrap();
        assert_eq!(u64::from_ne_bytes(read), 1, "it fires on");
        let left = timerfd::gettime(copy_of(&restored, 4)).unwrap().it_value.tv_sec;
        assert!((490..=500).contains(&left), "{left}");
        let left = timerfd::gettime(copy_of(&restored, 5)).unwrap().it_value;
        assert_eq!((left.tv_sec, left.tv_nsec), (0, 0));
    }
}
