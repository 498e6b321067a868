//! The numbers of the tree have to be free: its pids and thread ids.
//!
//! Whoever restores right after a dump meets the dumped processes as zombies: they are gone when
//! their parent has waited for them. A parent that is the reason for the dump does that when it
//! likes, but orphans belong to init, which waits for everything and only needs a moment.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::images::snapshot::Snapshot;
use crate::kernel::blank::holder_of;
use crate::kernel::proc;

/// How long init is given. Some look at their zombies only every other second.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_micros(500);
const INIT: i32 = 1;

/// Waits for zombies that init is about to reap; any other holder of a number is an error.
pub fn wait_until_free(snapshot: &Snapshot) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut taken = Vec::new();
    for entry in &snapshot.tree {
        for tid in entry.threads.iter().filter(|tid| **tid != 0).chain([&entry.pid]) {
            taken.extend(wait_for(tid.cast_signed(), deadline));
        }
    }
    taken.dedup();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::PidTaken, taken.join("\n"))
        .remedy("let these processes end (and their parents wait for them), or restore in another pid namespace"))
}

/// Who has the number, if somebody keeps it.
fn wait_for(number: i32, deadline: Instant) -> Option<String> {
    loop {
        let holder = proc::stat(number).ok()?;
        let orphaned_zombie = matches!(holder.state, 'Z' | 'X') && holder.ppid == INIT;
        if !orphaned_zombie || Instant::now() > deadline {
            return Some(format!("pid {number} is taken: {}", holder_of(number)?));
        }
        sleep(PAUSE);
    }
}
