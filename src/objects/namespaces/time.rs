//! The time namespace: offsets of the monotonic and the boot clock.
//!
//! Kernel facts: /proc/PID/timens_offsets shows both offsets from the host's clocks; a new
//! namespace takes them until its first task is inside (EACCES afterwards); a clock may not become
//! negative (ERANGE); `/proc/PID` of a thread has the file, `/proc/PID/task/TID` has not.
//!
//! A tree is restored into a time namespace whose clocks go on from the dump, as CRIU does: a
//! monotonic clock never jumps, and absolute deadlines in the program's memory stay right. That
//! takes CAP_SYS_ADMIN: for a user the clocks jump ahead, as if the tree had been stopped, but they
//! never go back.
//! Image: timens-ID.img, timens-0.img for a tree dumped in the engine's own namespace.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{Carried, Maker, NamespaceKind, Recipe, Space};
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::{TimensEntry, Timespec};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::{capability, namespace, proc, sys};
use crate::objects::pids;

pub const KIND: NamespaceKind = NamespaceKind {
    name: "time",
    flag: namespace::NEWTIME,
    has_for_children: true,
    nests: false,
    id: |ids| &mut ids.time_ns_id,
    can_be_joined: true,
    carried: Some(Carried {
        engines_too: true,
        capture,
        // Without an image the clocks jump.
        validate: |_, _| Ok(()),
        recipe,
        missing,
    }),
};

/// Signed nanoseconds: offsets go both ways.
type Nanos = i128;
const SECOND: Nanos = 1_000_000_000;

/// The number of the image, in which the engine's own has none.
fn image_id(space: &Space) -> u32 {
    if space.is_engines { 0 } else { space.id }
}

fn capture(space: &Space, snapshot: &mut Snapshot, _: &mut Refusals) -> Result<()> {
    let clocks = clocks_of(pids::host(space.members[0]))?;
    snapshot.timens.insert(image_id(space), clocks);
    Ok(())
}

fn recipe(space: &Space, snapshot: &Snapshot) -> Option<Recipe> {
    let entry = *snapshot.timens.get(&image_id(space)).filter(|_| can_be_made())?;
    let make = move |maker| match maker {
        Maker::Process => namespace::elsewhere(|| rebuild_here(&entry)),
        Maker::Thread => rebuild_here(&entry),
    };
    Some(Recipe { needs_process: false, make: Box::new(make) })
}

fn missing(space: &Space, snapshot: &Snapshot) -> Result<Option<String>> {
    let entry = snapshot.timens.get(&image_id(space)).filter(|_| !can_be_made());
    let why = "a time namespace, in which they would go on, takes CAP_SYS_ADMIN";
    let note = entry
        .map(|entry| Ok(format!("monotonic clocks jump ahead by {:.1?}: {why}", jump(entry)?)));
    note.transpose()
}

/// What the clocks in the namespace of `pid` show now.
fn clocks_of(pid: HostPid) -> Result<TimensEntry> {
    let theirs = offsets(pid)?;
    let host = host_clocks()?;
    Ok(TimensEntry {
        monotonic: timespec(host.monotonic + theirs.monotonic),
        boottime: timespec(host.boottime + theirs.boottime),
    })
}

/// Makes a namespace whose clocks go on from `entry`. Later children of the caller would be in it.
fn rebuild_here(entry: &TimensEntry) -> Result<OwnedFd> {
    let host = host_clocks()?;
    let wanted = Clocks {
        monotonic: nanos(&entry.monotonic) - host.monotonic,
        boottime: nanos(&entry.boottime) - host.boottime,
    };
    namespace::leave(KIND.flag)?;
    let path = format!("/proc/{}/timens_offsets", sys::gettid());
    let line = |name, nanos: Nanos| {
        format!("{name} {} {}\n", nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND))
    };
    let text = line("monotonic", wanted.monotonic) + &line("boottime", wanted.boottime);
    std::fs::write(&path, text).doing(|| format!("write {path}"))?;
    namespace::of_thread("time_for_children")
}

/// Whether this process may make a time namespace. Root is told by the kernel.
fn can_be_made() -> bool {
    let admin = capability::only(capability::SYS_ADMIN);
    nix::unistd::geteuid().is_root() || capability::permitted().is_ok_and(|set| set & admin != 0)
}

/// How far the clocks of this process are ahead of those of `entry`.
fn jump(entry: &TimensEntry) -> Result<Duration> {
    let monotonic = now(ClockId::CLOCK_MONOTONIC)? - nanos(&entry.monotonic);
    let boottime = now(ClockId::CLOCK_BOOTTIME)? - nanos(&entry.boottime);
    let least = monotonic.min(boottime);
    if least < 0 {
        let seconds = least.div_euclid(SECOND).abs();
        let cause = format!("the tree's monotonic clocks would go back by {seconds} s");
        return Err(Error::new(Kind::Denied, cause)
            .remedy("restore as root, for whom they go on in a time namespace"));
    }
    Ok(Duration::from_nanos(monotonic.max(boottime).try_into().unwrap_or(u64::MAX)))
}

fn now(clock: ClockId) -> Result<Nanos> {
    let now = clock_gettime(clock).doing(|| "clock_gettime")?;
    Ok(Duration::from(now).as_nanos().cast_signed())
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Clocks {
    monotonic: Nanos,
    boottime: Nanos,
}

/// The clocks of the host's root time namespace.
fn host_clocks() -> Result<Clocks> {
    let own = offsets(HostPid::own())?;
    Ok(Clocks {
        monotonic: now(ClockId::CLOCK_MONOTONIC)? - own.monotonic,
        boottime: now(ClockId::CLOCK_BOOTTIME)? - own.boottime,
    })
}

fn offsets(pid: HostPid) -> Result<Clocks> {
    let path = format!("/proc/{pid}/timens_offsets");
    let text = match proc::text(&path) {
        Ok(text) => text,
        // Kernels without time namespaces have no offsets.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Clocks::default()),
        Err(error) => return Err(Error::io(format!("read {path}"), &error)),
    };
    parse_offsets(&text).ok_or_else(|| Error::new(Kind::System, format!("{path}: {text:?}")))
}

fn parse_offsets(text: &str) -> Option<Clocks> {
    let mut clocks = Clocks::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let place = match words.next()? {
            "monotonic" => &mut clocks.monotonic,
            "boottime" => &mut clocks.boottime,
            _ => return None,
        };
        let (sec, nsec): (Nanos, Nanos) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        *place = sec * SECOND + nsec;
    }
    Some(clocks)
}

fn nanos(time: &Timespec) -> Nanos {
    Nanos::from(time.tv_sec) * SECOND + Nanos::from(time.tv_nsec)
}

fn timespec(nanos: Nanos) -> Timespec {
    let nanos = nanos.max(0);
    Timespec { tv_sec: (nanos / SECOND) as u64, tv_nsec: (nanos % SECOND) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_parsed() {
        let text = "monotonic           -5         7\nboottime            10         0\n";
        let clocks = parse_offsets(text).unwrap();
        assert_eq!(clocks.monotonic, -5 * SECOND + 7);
        assert_eq!(clocks.boottime, 10 * SECOND);
        assert!(parse_offsets("nonsense 1 2").is_none());
    }

    #[test]
    fn clocks_jump_ahead_but_never_back() {
        let mut entry = clocks_of(HostPid::own()).unwrap();
        entry.monotonic.tv_sec -= 2;
        assert!(jump(&entry).unwrap() >= Duration::from_secs(2));
        entry.boottime.tv_sec += 5000;
        let text = jump(&entry).unwrap_err().to_string();
        assert!(text.contains("would go back by") && text.contains("as root"), "{text}");
    }

    #[test]
    fn a_namespace_can_be_made_ahead_of_the_host() {
        let mut entry = clocks_of(HostPid::own()).unwrap();
        entry.monotonic.tv_sec += 5000;
        assert!(namespace::elsewhere(|| rebuild_here(&entry)).is_ok());
    }
}
