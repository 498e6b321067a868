//! Timers read from a file.
//!
//! A periodic timer that has expired and was not read is not armed, and the kernel shows no time
//! left: stored like that it would never fire again. Asking for the time arms it and counts its
//! expirations, so that is done first. The image holds the time left also of timers set to an
//! absolute time; these get the restorer's time plus what was left.

use std::os::fd::OwnedFd;

use super::fdinfo::Fdinfo;
use super::opened::{Captured, Opened};
use super::{Collector, set_status_flags};
use crate::error::{Context, Error, Result};
use crate::images::proto::{FdTypes, FileEntry, TimerfdEntry};
use crate::kernel::{clock, timerfd};

const NANOSECONDS: u64 = 1_000_000_000;
const CLOCKS: [i32; 5] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_BOOTTIME,
    libc::CLOCK_REALTIME_ALARM,
    libc::CLOCK_BOOTTIME_ALARM,
];

pub(super) fn claim(_: &Collector, file: &Opened) -> bool {
    file.is_anonymous("timerfd")
}

pub(super) fn capture(file: &Opened, id: u32, collector: &mut Collector) -> Captured<FdTypes> {
    timerfd::gettime(&file.file).doing(|| format!("{}: timerfd_gettime", file.place))?;
    let Some(timer) = Fdinfo::read(file.pid, file.fd)?.timer else {
        return Err(file.refuse("the kernel does not tell its state", ""));
    };
    let tfd = TimerfdEntry {
        id,
        flags: file.flags(),
        fown: file.owner,
        clockid: timer.clock,
        ticks: timer.ticks,
        settime_flags: timer.settime_flags,
        vsec: timer.value.0,
        vnsec: timer.value.1,
        isec: timer.interval.0,
        insec: timer.interval.1,
    };
    collector.put(FileEntry {
        r#type: FdTypes::Timerfd as i32,
        id,
        tfd: Some(tfd),
        ..Default::default()
    });
    Ok(FdTypes::Timerfd)
}

pub(super) fn validate(entry: &TimerfdEntry) -> Result<()> {
    let known = CLOCKS.contains(&entry.clockid.cast_signed());
    if !known || entry.vnsec >= NANOSECONDS || entry.insec >= NANOSECONDS {
        return Err(Error::image("files.img", format!("timerfd {}: impossible time", entry.id)));
    }
    Ok(())
}

pub(super) fn open(entry: &TimerfdEntry) -> Result<OwnedFd> {
    let what = || format!("make a timerfd of clock {}", entry.clockid);
    let clock = entry.clockid.cast_signed();
    let made = timerfd::create(clock).doing(what)?;
    set_status_flags(&made, entry.flags).doing(what)?;
    let flags = entry.settime_flags.cast_signed();
    let now = clock::gettime(clock).doing(what)?;
    timerfd::settime(&made, flags, &setting(entry, now)).doing(what)?;
    // Arming clears the expirations, so that these come last. Zero cannot be set and is there.
    if entry.ticks > 0 {
        timerfd::set_ticks(&made, entry.ticks).doing(what)?;
    }
    Ok(made)
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
