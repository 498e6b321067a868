//! The numbers of the tree have to be free: its pids and thread ids.
//!
//! Whoever restores right after a dump meets the dumped processes as they die, which takes as long
//! as their memory is large, then as zombies: they are gone when their parent has waited for them.
//! A parent does that when it likes, and gets but a moment; orphans belong to init, which waits for
//! everything in its time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::images::snapshot::Snapshot;
use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, Stat};
use crate::objects::pids;
use crate::tracee::blank::holder_of;

/// How long init may take to reap a zombie: some inits do so only every other second.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long any other holder may keep a number: a parent may be about to wait for its child, and a
/// process that has taken SIGKILL does not look as if it were exiting at once.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_millis(50);
/// How long a process may take to die: some GiB of memory are given back in a second.
const PATIENCE_WITH_THE_DYING: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_micros(500);

/// Waits for processes that are dying and zombies that init is about to reap; any other holder of
/// a number is an error.
///
/// A number outlives its last process by a moment; whoever makes a process with that number waits
/// for the end of this moment too.
pub fn wait_until_free(snapshot: &Snapshot) -> Result<()> {
    let mut waiting = Waiting { begun: Instant::now(), kept: None };
    let mut taken: Vec<String> =
        of(snapshot).filter_map(|number| waiting.wait_for(number)).collect();
    taken.dedup();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::PidTaken, taken.join("\n"))
        .remedy("let these processes end (and their parents wait for them), or restore in another pid namespace"))
}

/// The numbers of the tree.
pub fn of(snapshot: &Snapshot) -> impl Iterator<Item = HostPid> {
    snapshot.tree.iter().flat_map(|entry| {
        let tids = entry.tree_tids().filter(|tid| tid.number() != 0);
        tids.chain([entry.tree_pid()]).map(pids::host)
    })
}

/// The bounds of the wait, across all numbers.
struct Waiting {
    begun: Instant,
    /// Since when a number has been kept by a process that may never give it back.
    kept: Option<Instant>,
}

impl Waiting {
    /// Who has the number, if somebody keeps it.
    fn wait_for(&mut self, number: HostPid) -> Option<String> {
        let mut kept = self.kept;
        loop {
            let Ok(holder) = proc::stat(number) else { return None };
            let zombie = matches!(holder.state, 'Z' | 'X');
            let (since, patience) = if zombie && holder.ppid == HostPid::INIT {
                (self.begun, PATIENCE)
            } else if !zombie && is_dying(number, &holder) {
                // It may not have looked as if it were dying at first. The time that it takes to die
                // is not taken from the moment that its parent gets to reap it.
                kept = self.kept;
                (self.begun, PATIENCE_WITH_THE_DYING)
            } else {
                (*kept.get_or_insert_with(Instant::now), PATIENCE_WITH_OTHERS)
            };
            if since.elapsed() >= patience {
                self.kept = kept;
                return Some(format!("pid {number} is taken: {}", holder_of(number)?));
            }
            sleep(PAUSE);
        }
    }
}

/// Killed or exiting, and not a zombie yet.
fn is_dying(number: HostPid, holder: &Stat) -> bool {
    const PF_EXITING: u32 = 4;
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let killed = || proc::status(number, number).is_ok_and(|status| status.pending & KILL != 0);
    holder.flags & PF_EXITING != 0 || killed()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::images::proto::PstreeEntry;

    fn tree_of(pid: u32) -> Snapshot {
        let root = PstreeEntry { pid, threads: vec![pid], ..PstreeEntry::default() };
        Snapshot { tree: vec![root], ..Snapshot::default() }
    }

    #[test]
    fn who_lives_keeps_its_number() {
        let own = std::process::id();
        let error = wait_until_free(&tree_of(own)).unwrap_err();
        assert_eq!(error.kind(), Kind::PidTaken);
        assert!(error.to_string().contains(&format!("pid {own} is taken")), "{error}");
    }

    #[test]
    fn who_is_not_waited_for_keeps_its_number() {
        let mut dead = Command::new("true").spawn().unwrap();
        while proc::stat(HostPid::new(dead.id().cast_signed())).unwrap().state != 'Z' {
            std::thread::yield_now();
        }
        let error = wait_until_free(&tree_of(dead.id())).unwrap_err().to_string();
        assert!(error.contains("not waited for yet"), "{error}");
        dead.wait().unwrap();
        wait_until_free(&tree_of(dead.id())).unwrap();
    }

    /// Its memory takes milliseconds to be given back.
    #[test]
    fn who_is_dying_is_waited_for() {
        let perl = "$x = 'x' x (256 << 20); $| = 1; print \"r\"; <STDIN>";
        let mut large = Command::new("perl")
            .args(["-e", perl])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        large.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let tree = tree_of(large.id());
        large.kill().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || large.wait().unwrap());
            wait_until_free(&tree).unwrap();
        });
    }
}
