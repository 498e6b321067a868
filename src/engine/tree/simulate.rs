//! The kernel's rules about processes, sessions and groups, for tests without a kernel.

use std::collections::BTreeMap;

/// A process as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub parent: i32,
    pub pgid: i32,
    pub sid: i32,
    pub zombie: bool,
    pub subreaper: bool,
}

/// All processes that matter, by pid.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub processes: BTreeMap<i32, Process>,
}

/// Why a call failed.
pub type Outcome = Result<(), String>;

impl Kernel {
    /// A kernel with one process, whose parent, session and group lie outside.
    pub fn new(root: i32, sid: i32, pgid: i32) -> Self {
        let process = Process { parent: 0, pgid, sid, zombie: false, subreaper: false };
        Self { processes: BTreeMap::from([(root, process)]) }
    }

    fn live(&self, pid: i32) -> Result<&Process, String> {
        let process = self.processes.get(&pid).filter(|process| !process.zombie);
        process.ok_or_else(|| format!("{pid} is not alive"))
    }

    /// A number stays taken while it is anybody's pid, group or session.
    pub fn is_taken(&self, number: i32) -> bool {
        self.processes.contains_key(&number)
            || self.processes.values().any(|p| p.pgid == number || p.sid == number)
    }

    pub fn fork(&mut self, by: i32, pid: i32, sibling: bool) -> Outcome {
        if self.is_taken(pid) {
            return Err(format!("EEXIST: {pid}"));
        }
        let creator = self.live(by)?;
        let parent = if sibling { creator.parent } else { by };
        let child = Process { parent, subreaper: false, zombie: false, ..creator.clone() };
        self.processes.insert(pid, child);
        Ok(())
    }

    pub fn setsid(&mut self, pid: i32) -> Outcome {
        self.live(pid)?;
        if self.processes.values().any(|p| p.pgid == pid) {
            return Err(format!("EPERM: setsid by {pid}, whose group exists"));
        }
        let process = self.processes.get_mut(&pid).unwrap();
        (process.sid, process.pgid) = (pid, pid);
        Ok(())
    }

    pub fn setpgid(&mut self, pid: i32, group: i32, outer: (i32, i32)) -> Outcome {
        let group = if group == 0 { pid } else { group };
        let sid = self.live(pid)?.sid;
        if sid == pid {
            return Err(format!("EPERM: session leader {pid}"));
        }
        let in_group = |p: &&Process| p.pgid == group;
        let joins = self.processes.values().filter(in_group).any(|p| p.sid == sid);
        if group != pid && !joins && outer != (sid, group) {
            return Err(format!("EPERM: no group {group} for {pid} in session {sid}"));
        }
        self.processes.get_mut(&pid).unwrap().pgid = group;
        Ok(())
    }

    pub fn set_subreaper(&mut self, pid: i32, on: bool) -> Outcome {
        self.live(pid)?;
        self.processes.get_mut(&pid).unwrap().subreaper = on;
        Ok(())
    }

    /// The process dies; its children go to the nearest living subreaper above, else to `init`.
    pub fn exit(&mut self, pid: i32, init: i32) -> Outcome {
        let mut heir = self.live(pid)?.parent;
        while let Some(process) = self.processes.get(&heir) {
            if process.subreaper && !process.zombie {
                break;
            }
            heir = process.parent;
        }
        if !self.processes.contains_key(&heir) {
            heir = init;
        }
        for process in self.processes.values_mut().filter(|process| process.parent == pid) {
            process.parent = heir;
        }
        self.processes.get_mut(&pid).unwrap().zombie = true;
        Ok(())
    }

    pub fn reap(&mut self, by: i32, pid: i32) -> Outcome {
        self.live(by)?;
        match self.processes.get(&pid) {
            Some(process) if process.zombie && process.parent == by => {
                self.processes.remove(&pid);
                Ok(())
            }
            _ => Err(format!("{by} has no zombie {pid}")),
        }
    }
}
