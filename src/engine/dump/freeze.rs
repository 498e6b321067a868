//! Stops a whole tree.
//!
//! A task is stopped before its children are listed, so it cannot fork unseen. A child that dies hands
//! its own children to another process of the tree, so the lists are read again until nothing new
//! turns up. A stopped task is released when it is dropped, so that no path leaves one behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Refusals, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::proc::{self, Stat};
use crate::tracee::dumpee::FrozenTask;

/// One process of the tree.
#[derive(Debug)]
pub struct Member {
    pub pid: HostPid,
    /// 0 for the root of the tree.
    pub ppid: HostPid,
    pub pgid: HostPid,
    pub sid: HostPid,
    pub comm: String,
    pub state: State,
}

/// Whether a process lives.
#[derive(Debug)]
pub enum State {
    /// It does, and is stopped.
    Alive(Box<FrozenTask>),
    /// It has ended, and its parent will be told this wait status.
    Zombie { exit_status: i32 },
}

impl Member {
    /// The stopped task, unless it is a zombie.
    pub fn frozen(&self) -> Option<&FrozenTask> {
        match &self.state {
            State::Alive(task) => Some(task),
            State::Zombie { .. } => None,
        }
    }
}

/// What helps when the time is up.
const LONGER: &str = "raise --timeout; the tree runs on";

/// Stops the tree below `root`; a `timeout` of zero is no limit. Parents stand before children in the
/// result. `stopped` is called as soon as the root itself is stopped.
pub fn freeze<T>(
    root: HostPid,
    timeout: Duration,
    stopped: impl FnOnce() -> T,
) -> Result<(Vec<Member>, T)> {
    let mut freezing = Freezing { deadline: deadline(timeout), members: BTreeMap::new() };
    freezing.add(root, HostPid::NONE)?;
    let told = stopped();
    while freezing.add_new_children()? {}
    match freezing.into_order(root) {
        members if members.first().is_some_and(|root| root.frozen().is_some()) => {
            Ok((members, told))
        }
        _ => Err(no_such_task(root).context("it has ended, at most a zombie is left")),
    }
}

fn deadline(timeout: Duration) -> Option<(Instant, Duration)> {
    (!timeout.is_zero()).then(|| (Instant::now() + timeout, timeout))
}

struct Freezing {
    deadline: Option<(Instant, Duration)>,
    members: BTreeMap<HostPid, Member>,
}

impl Freezing {
    fn add(&mut self, pid: HostPid, ppid: HostPid) -> Result<()> {
        self.check_deadline()?;
        if pid == HostPid::own() {
            let cause = format!("pid {pid}: The criu itself is within dumped tree");
            return Err(Error::new(Kind::Refused, cause).remedy(
                "start criu outside of the tree, for example with setsid or from another shell",
            ));
        }
        let Some(state) = stop(pid, self.patience())? else {
            return if ppid == HostPid::NONE { Err(no_such_task(pid)) } else { Ok(()) };
        };
        let stat = match &state {
            State::Alive(task) => found(task.stat().and_then(Stat::of))?,
            State::Zombie { .. } => stat(pid)?,
        };
        let Some(stat) = stat else { return Ok(()) };
        let member =
            Member { pid, ppid, pgid: stat.pgrp, sid: stat.session, comm: stat.comm, state };
        self.members.insert(pid, member);
        Ok(())
    }

    /// The time that is left; where there is no limit, it is longer than anybody waits.
    fn patience(&self) -> Duration {
        let endless = Duration::from_secs(u32::MAX.into());
        self.deadline.map_or(endless, |(deadline, _)| deadline.duration_since(Instant::now()))
    }

    fn check_deadline(&self) -> Result<()> {
        match self.deadline {
            Some((deadline, timeout)) if Instant::now() > deadline => Err(Error::new(
                Kind::TimedOut,
                format!("the tree could not be stopped within {} s", timeout.as_secs()),
            )
            .remedy(LONGER)),
            _ => Ok(()),
        }
    }

    fn children(&self, parent: HostPid) -> Vec<HostPid> {
        let task = self.members.get(&parent).and_then(Member::frozen);
        let threads = task.into_iter().flat_map(|task| &task.threads);
        threads.flat_map(|thread| proc::children_of(parent, thread.tid)).collect()
    }

    /// Stops the children of all stopped tasks; whether any of them is new.
    fn add_new_children(&mut self) -> Result<bool> {
        let known: BTreeSet<HostPid> = self.members.keys().copied().collect();
        let alive: Vec<HostPid> =
            self.members.values().filter(|m| m.frozen().is_some()).map(|m| m.pid).collect();
        for parent in alive {
            for child in self.children(parent) {
                match self.members.get_mut(&child) {
                    Some(member) if member.ppid != HostPid::NONE => member.ppid = parent,
                    Some(_) => {}
                    None => self.add(child, parent)?,
                }
            }
        }
        Ok(self.members.keys().any(|pid| !known.contains(pid)))
    }

    fn into_order(mut self, root: HostPid) -> Vec<Member> {
        let mut ordered: Vec<Member> = self.members.remove(&root).into_iter().collect();
        let mut next = 0;
        while next < ordered.len() {
            let parent = ordered[next].pid;
            let children: Vec<HostPid> =
                self.members.values().filter(|m| m.ppid == parent).map(|m| m.pid).collect();
            ordered.extend(children.iter().filter_map(|pid| self.members.remove(pid)));
            next += 1;
        }
        ordered
    }
}

/// Stops a process; none if it is gone. A zombie cannot be stopped, nor can a process that is about to
/// exit (EPERM, ESRCH), so the state that it is in afterwards decides what it is, and not the error.
fn stop(pid: HostPid, patience: Duration) -> Result<Option<State>> {
    match FrozenTask::seize_within(pid, patience) {
        Ok(task) => Ok(Some(State::Alive(Box::new(task)))),
        Err(error) => match stat(pid)? {
            None => Ok(None),
            Some(now) => zombie(&now).map(Some).ok_or_else(|| match error.kind() {
                Kind::TimedOut => error.remedy(LONGER),
                _ => error,
            }),
        },
    }
}

fn zombie(stat: &Stat) -> Option<State> {
    let dead = matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1;
    dead.then(|| State::Zombie { exit_status: stat.exit_code })
}

/// Refuses zombies whose exit status the kernel hides from the user of the engine.
pub fn check_zombies(members: &[Member], refusals: &mut Refusals) {
    for member in members {
        let hidden = matches!(member.state, State::Zombie { exit_status: 0 })
            && !proc::tells_exit_code(member.pid);
        if hidden {
            refusals.refuse(
                format!("pid {}", member.pid),
                "zombie",
                "its exit status is only shown to who has CAP_SYS_PTRACE",
                "let its parent wait for it, or dump as root",
            );
        }
    }
}

/// Refuses a tree whose session is outside of it, unless the option `shell_job` allows that.
pub fn check_session(root: &Member, shell_job: bool, refusals: &mut Refusals) {
    if shell_job || root.sid == root.pid {
        return;
    }
    refusals.refuse(
        format!("pid {}", root.pid),
        format!("session {}", root.sid),
        "the root of the tree is not the leader of its session, so its session is outside the tree",
        "use --shell-job (criu_set_shell_job) or start it with setsid",
    );
}

fn no_such_task(pid: HostPid) -> Error {
    Error::new(Kind::NoSuchTask, format!("pid {pid}: no such process"))
        .remedy("give the pid of a running process")
}

/// None if the process is gone.
fn stat(pid: HostPid) -> Result<Option<Stat>> {
    found(proc::stat(pid))
}

fn found(stat: Result<Stat>) -> Result<Option<Stat>> {
    match stat {
        Err(error) if error.kind() == Kind::NoSuchTask => Ok(None),
        other => other.map(Some),
    }
}
