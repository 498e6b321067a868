//! The end of a restore: from blanks to running processes.
//!
//! There are two steps, so that a whole tree can be made ready before any process of it runs:
//! [`Blank::arm`] takes the helper area away and sets the final registers, [`Armed::launch`] lets
//! the process go. Processes that are to be stopped are stopped as the last thing, children before
//! their parents.

use std::rc::Rc;

use libc::user_regs_struct;

use super::run::lost;
use super::stub::SYSCALL_AT;
use super::{Blank, HelperArea, amx, bit, holder};
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, Stat};
use crate::kernel::ptrace::{self, Stop};
use crate::kernel::sys;

/// The state in which a thread goes on.
#[derive(Clone, Debug)]
pub struct FinalState {
    /// General registers, which also say whether a system call has to be restarted.
    pub regs: user_regs_struct,
    /// Extended processor state (XSAVE layout). If it is empty, the state of a new program stays.
    pub xstate: Vec<u8>,
    /// Mask of blocked signals.
    pub sigmask: u64,
}

/// A finished process that has only to be let go. Dropping it kills it.
#[derive(Debug)]
pub struct Armed {
    blank: Blank,
    stop: Option<i32>,
}

impl Blank {
    /// [`arm`](Self::arm)s and [`launch`](Armed::launch)es a process that stands alone.
    pub fn launch(self, finals: &[FinalState], stop: Option<i32>) -> Result<()> {
        self.arm(finals, stop)?.launch()
    }

    /// Sets the final registers and masks of all threads, in the order of their creation.
    ///
    /// The service socket is closed. The helper area is unmapped, unless it is shared with a
    /// process that is still under construction: the last one takes it away. `stop` is the signal
    /// of a job-control stop in which the process is to stay.
    pub fn arm(mut self, finals: &[FinalState], stop: Option<i32>) -> Result<Armed> {
        if finals.len() != self.threads.len() {
            let (have, want) = (self.threads.len(), finals.len());
            let text = format!("pid {}: {want} final states for {have} threads", self.pid());
            return Err(Error::new(Kind::Internal, text));
        }
        self.close_service_fd()?;
        let tiled = (0..finals.len()).filter(|index| amx::has_tiles(&finals[*index].xstate));
        self.make_room_for_tiles(&tiled.collect::<Vec<_>>())?;
        if Rc::strong_count(&self.helper) == 1 {
            self.unmap_helper()?;
        }
        // An armed process does not need the area any more, so it gives up its share: the last
        // blank that has one unmaps the area.
        self.helper = Rc::new(HelperArea { start: self.helper.start, len: 0 });
        for (thread, state) in self.threads.iter().zip(finals) {
            set_final(thread.tid, state).doing(|| format!("pid {}", self.pid()))?;
        }
        let stop = stop.map(|signal| self.stop_signal(signal, finals));
        Ok(Armed { blank: self, stop })
    }

    /// The last system call unmaps the memory that the thread executes. The thread is held at the
    /// exit stop of the call, where its registers are replaced before it could execute anything.
    ///
    /// Syscall stops are used, not single steps: the kernel forces the SIGTRAP of a step, which
    /// resets the action of that signal.
    fn unmap_helper(&mut self) -> Result<()> {
        let leader = self.pid();
        let mut regs = *self.registers;
        regs.rip = self.helper.start.0 + SYSCALL_AT;
        regs.rax = libc::SYS_munmap.cast_unsigned();
        (regs.rdi, regs.rsi) = (self.helper.start.0, self.helper.len as u64);
        ptrace::set_sigmask(leader, u64::MAX)
            .and_then(|()| ptrace::setregs(leader, &regs))
            .map_err(|errno| lost(leader, "prepare the last call", errno))?;
        self.to_syscall_stop()?;
        self.to_syscall_stop()?;
        let rax = ptrace::getregs(leader).map_err(|errno| lost(leader, "read registers", errno))?;
        match rax.rax {
            0 => Ok(()),
            ret => {
                let text = format!("pid {leader}: unmapping the helper area gave {ret:#x}");
                Err(Error::new(Kind::Internal, text))
            }
        }
    }

    fn to_syscall_stop(&self) -> Result<()> {
        let leader = &self.threads[0];
        loop {
            ptrace::cont_to_syscall(leader.tid, 0)
                .map_err(|errno| lost(leader.tid, "continue", errno))?;
            match self.wait_stop(leader)? {
                Stop::Syscall => return Ok(()),
                stop => self.pass(leader, stop)?,
            }
        }
    }

    /// The signal that is to stop the process as `wanted` did.
    ///
    /// SIGSTOP always stops it. The other three stop signals are what the parent should be told,
    /// but they do nothing if they are blocked or have an action, or if nobody could continue the
    /// process group.
    fn stop_signal(&self, wanted: i32, finals: &[FinalState]) -> i32 {
        let blocked = finals.iter().any(|state| state.sigmask & bit(wanted) != 0);
        let keyboard = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&wanted);
        if keyboard && !blocked && has_default_action(self.pid(), wanted) && is_job(self.pid()) {
            wanted
        } else {
            libc::SIGSTOP
        }
    }
}

impl Armed {
    /// The pid.
    pub fn pid(&self) -> HostPid {
        self.blank.pid()
    }

    /// The ids of all threads, the leader's first.
    pub fn thread_ids(&self) -> impl Iterator<Item = HostPid> + '_ {
        self.blank.thread_ids()
    }

    /// Lets the process go. It runs, or it is stopped before it has executed an instruction.
    pub fn launch(mut self) -> Result<()> {
        let pid = self.pid();
        let outside = self.blank.stopped_from_outside.get().then_some(libc::SIGSTOP);
        // The signal is sent before any thread is let go, otherwise the first thread would run
        // until the last one is let go.
        if let Some(signal) = self.stop.or(outside) {
            sys::kill(pid, signal).doing(|| format!("stop pid {pid}"))?;
        }
        for thread in &self.blank.threads {
            ptrace::detach(thread.tid, 0)
                .map_err(|errno| lost(thread.tid, "let go", errno).context(format!("pid {pid}")))?;
        }
        self.blank.alive = false;
        Ok(())
    }
}

fn set_final(tid: HostPid, state: &FinalState) -> Result<()> {
    if !state.xstate.is_empty() {
        ptrace::set_xstate(tid, &state.xstate)
            .doing(|| format!("set the processor state of thread {tid}"))?;
    }
    ptrace::setregs(tid, &state.regs)
        .and_then(|()| ptrace::set_sigmask(tid, state.sigmask))
        .map_err(|errno| lost(tid, "set registers and mask", errno))
}

/// Whether there is neither a handler nor SIG_IGN for the signal.
fn has_default_action(pid: HostPid, signal: i32) -> bool {
    proc::status(pid, pid).is_ok_and(|status| (status.ignored | status.caught) & bit(signal) == 0)
}

/// Whether the process group of `pid` is not orphaned: the parent of one of its living members is
/// in the same session and another group. The machine's init continues nobody.
fn is_job(pid: HostPid) -> bool {
    let Ok(process) = proc::stat(pid) else { return false };
    let is_init = |pid| pid == HostPid::INIT && proc::in_first_pid_namespace();
    let continues = |member: &Stat| {
        let lives = member.pgrp == process.pgrp && !matches!(member.state, 'Z' | 'X');
        lives
            && !is_init(member.ppid)
            && proc::stat(member.ppid)
                .is_ok_and(|parent| parent.pgrp != member.pgrp && parent.session == member.session)
    };
    let others = || holder::processes().filter_map(|pid| proc::stat(pid).ok());
    continues(&process) || others().any(|stat| continues(&stat))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::kernel::pidfd;

    /// The inner shell is a job of the outer one. The outer one leads a session of its own, so that
    /// wherever the tests are run the process that adopts the orphan belongs to another session.
    #[test]
    fn a_group_is_a_job_by_any_of_its_members() {
        let mut outer = Command::new("setsid");
        outer.args([
            "-w",
            "bash",
            "-c",
            "set -m; sh -c 'sleep 600 & echo $$ $!; wait' & wait; cat",
        ]);
        let mut outer = outer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut pids = line.split_whitespace().map(|pid| pid.parse::<HostPid>().unwrap());
        let (shell, sleeper) = (pids.next().unwrap(), pids.next().unwrap());
        let before = (is_job(shell), is_job(sleeper));
        let gone = pidfd::open(shell).unwrap();
        sys::kill(shell, libc::SIGKILL).unwrap();
        let mut waited = [PollFd::new(gone.as_fd(), PollFlags::POLLIN)];
        poll(&mut waited, PollTimeout::NONE).unwrap();
        let orphaned = !is_job(sleeper);
        sys::kill(sleeper, libc::SIGKILL).unwrap();
        drop(outer.stdin.take());
        outer.wait().unwrap();
        // The shell has a parent in another group; the sleeper has not.
        assert_eq!(before, (true, true));
        assert!(orphaned, "nobody is left to continue it");
        assert!(!is_job(HostPid::new(i32::MAX)));
    }
}
