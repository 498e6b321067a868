//! Who holds a pid number that a restore needs.
//!
//! A number is taken by a process or thread with that id, even if it is dead and has not been
//! waited for, and by a process group or session that still has members after its leader has gone.

use std::fs;

use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, Stat};

/// A sentence about who holds the number, or `None` if nobody seems to.
pub fn holder_of(pid: HostPid) -> Option<String> {
    if let Ok(stat) = proc::stat(pid) {
        return Some(describe(pid, &stat));
    }
    processes().find_map(|member| membership(pid, member))
}

/// The ids of all processes that exist.
pub fn processes() -> impl Iterator<Item = HostPid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn membership(pid: HostPid, member: HostPid) -> Option<String> {
    let stat = proc::stat(member).ok()?;
    let what = match pid {
        pid if pid == stat.pgrp => "process group",
        pid if pid == stat.session => "session",
        _ => return None,
    };
    Some(format!("{what} {pid} still has {}", describe(member, &stat)))
}

fn describe(pid: HostPid, stat: &Stat) -> String {
    match stat.state {
        'Z' => format!("the zombie {pid} ({}), not waited for yet", stat.comm),
        _ => format!("process {pid} ({})", stat.comm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_named() {
        let text = holder_of(HostPid::INIT).unwrap();
        assert!(text.starts_with("process 1 ("), "{text}");
        let stat = proc::stat(HostPid::INIT).unwrap();
        let zombie = Stat { comm: "a) (b".into(), state: 'Z', ..stat };
        assert_eq!(
            describe(HostPid::new(12), &zombie),
            "the zombie 12 (a) (b), not waited for yet"
        );
    }
}
