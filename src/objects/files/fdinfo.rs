//! `/proc/PID/fdinfo/N`: what the kernel tells about an open file.

use crate::error::{Error, Kind, Result};
use crate::kernel::proc;

/// What stands in one file of `/proc/PID/fdinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fdinfo {
    pub pos: u64,
    /// Status flags; O_CLOEXEC is that of the descriptor.
    pub flags: u32,
    pub mnt_id: i32,
    pub ino: u64,
    pub eventfd: Option<Counter>,
    pub sigmask: Option<u64>,
    pub timer: Option<Timer>,
    pub targets: Vec<Target>,
    pub locks: Vec<Lock>,
}

/// State of an eventfd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub count: u64,
    pub semaphore: bool,
}

/// State of a timerfd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    pub clock: u32,
    pub ticks: u64,
    pub settime_flags: u32,
    /// Seconds and nanoseconds that remain.
    pub value: (u64, u64),
    pub interval: (u64, u64),
}

/// A file watched by an epoll file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The number it was added under; it may have been closed or reused since.
    pub number: u32,
    pub events: u32,
    pub data: u64,
    pub pos: u64,
    pub ino: u64,
    /// The file system's device as the kernel encodes it: major << 20 | minor.
    pub dev: u32,
}

/// A lock or lease held through an open file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// `POSIX`, `FLOCK`, `OFDLCK`, `LEASE`, `DELEG`.
    pub class: String,
    /// `READ`, `WRITE`, `UNLCK`.
    pub access: String,
    pub start: u64,
    /// Last byte; none: to the end of the file.
    pub end: Option<u64>,
}

impl Fdinfo {
    /// Reads that of descriptor `fd` of `pid`.
    pub fn read(pid: i32, fd: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/fdinfo/{fd}");
        let text = proc::text(&path).map_err(|error| Error::io(format!("read {path}"), &error))?;
        Self::parse(&text).ok_or_else(|| {
            Error::new(Kind::System, format!("{path}: the kernel wrote what is not understood"))
        })
    }

    /// The whole text of such a file.
    pub fn parse(text: &str) -> Option<Self> {
        let mut info = Self::default();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once(':') {
                info.line(key, value.trim())?;
            }
        }
        Some(info)
    }

    fn line(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "pos" => self.pos = value.parse::<i64>().ok()?.cast_unsigned(),
            "flags" => self.flags = octal(value)?,
            "mnt_id" => self.mnt_id = value.parse().ok()?,
            "ino" => self.ino = value.parse().ok()?,
            "eventfd-count" => self.counter().count = hex(value)?,
            "eventfd-semaphore" => self.counter().semaphore = value != "0",
            "sigmask" => self.sigmask = Some(hex(value)?),
            "clockid" => self.timer().clock = value.parse().ok()?,
            "ticks" => self.timer().ticks = value.parse().ok()?,
            "settime flags" => self.timer().settime_flags = octal(value)?,
            "it_value" => self.timer().value = pair(value)?,
            "it_interval" => self.timer().interval = pair(value)?,
            "tfd" => self.targets.push(Target::parse(value)?),
            "lock" => self.locks.push(Lock::parse(value)?),
            _ => {}
        }
        Some(())
    }

    fn counter(&mut self) -> &mut Counter {
        self.eventfd.get_or_insert_default()
    }

    fn timer(&mut self) -> &mut Timer {
        self.timer.get_or_insert_default()
    }
}

impl Target {
    /// `16 events: 80000019 data: 10  pos:0 ino:555d sdev:f`
    fn parse(text: &str) -> Option<Self> {
        let spaced = text.replace(':', ": ");
        let mut words = spaced.split_whitespace();
        let mut target = Self { number: words.next()?.parse().ok()?, ..Self::default() };
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "events:" => target.events = hex(value)?.try_into().ok()?,
                "data:" => target.data = hex(value)?,
                "pos:" => target.pos = value.parse::<i64>().ok()?.cast_unsigned(),
                "ino:" => target.ino = hex(value)?,
                "sdev:" => target.dev = hex(value)?.try_into().ok()?,
                _ => {}
            }
        }
        Some(target)
    }
}

impl Lock {
    /// `1: POSIX  ADVISORY  WRITE 14591 fe:00:5342173 20 29`
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [_, class, _, access, _, _, start, end] = words[..] else { return None };
        let end = if end == "EOF" { None } else { Some(end.parse().ok()?) };
        Some(Self {
            class: class.to_string(),
            access: access.to_string(),
            start: start.parse().ok()?,
            end,
        })
    }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok()
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// `(1, 0)`
fn pair(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_with_a_lock() {
        let text = "pos:\t5\nflags:\t03102002\nmnt_id:\t27\nino:\t5342173\n\
                    lock:\t1: POSIX  ADVISORY  WRITE 14591 fe:00:5342173 20 29\n\
                    lock:\t2: FLOCK  ADVISORY  READ 14591 fe:00:5342173 0 EOF\n";
        let info = Fdinfo::parse(text).unwrap();
        assert_eq!((info.pos, info.flags, info.mnt_id, info.ino), (5, 0o3102002, 27, 5342173));
        let lock = |class: &str, access: &str, start, end| Lock {
            class: class.into(),
            access: access.into(),
            start,
            end,
        };
        let locks = [lock("POSIX", "WRITE", 20, Some(29)), lock("FLOCK", "READ", 0, None)];
        assert_eq!(info.locks, locks);
    }

    #[test]
    fn an_epoll_file() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n\
            tfd:       16 events: 80000019 data:               10  pos:0 ino:555d sdev:f\n\
            tfd:       23 events:       19 data:     7f2600000017  pos:7 ino:518406 sdev:fe00000\n";
        let targets = Fdinfo::parse(text).unwrap().targets;
        let first =
            Target { number: 16, events: 0x8000_0019, data: 0x10, pos: 0, ino: 0x555d, dev: 15 };
        assert_eq!(targets[0], first);
        assert_eq!((targets[1].data, targets[1].pos), (0x7f26_0000_0017, 7));
    }

    #[test]
    fn counters_and_timers() {
        let text = "pos:\t0\nflags:\t04002\nmnt_id:\t17\nino:\t1038\n\
                    eventfd-count:                a\neventfd-id: 3\neventfd-semaphore: 1\n";
        let counter = Fdinfo::parse(text).unwrap().eventfd.unwrap();
        assert_eq!(counter, Counter { count: 10, semaphore: true });
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\nclockid: 0\nticks: 2\n\
                    settime flags: 01\nit_value: (737, 13757342)\nit_interval: (1, 0)\n";
        let timer = Fdinfo::parse(text).unwrap().timer.unwrap();
        assert_eq!((timer.clock, timer.ticks, timer.settime_flags), (0, 2, 1));
        assert_eq!((timer.value, timer.interval), ((737, 13_757_342), (1, 0)));
        let text = "pos:\t0\nflags:\t02\nsigmask:\t0000000000000500\n";
        assert_eq!(Fdinfo::parse(text).unwrap().sigmask, Some(0x500));
    }

    #[test]
    fn nonsense_is_no_fdinfo() {
        assert_eq!(Fdinfo::parse("pos:\tx\n"), None);
        assert_eq!(Fdinfo::parse("flags:\t9\n"), None);
        assert_eq!(Fdinfo::parse("lock:\t1: POSIX\n"), None);
    }
}
