//! What is told of each task: in the log, or with `--log-pid` in a log of its own.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::images::pid::TreePid;
use crate::images::proto::PstreeEntry;
use crate::images::snapshot::Snapshot;
use crate::log::Log;
use crate::options::Request;

/// The log, and those of tasks.
#[derive(Debug)]
pub struct TaskLogs<'a> {
    log: &'a Log,
    own: BTreeMap<TreePid, Log>,
}

impl<'a> TaskLogs<'a> {
    /// Creates the logs that `request` asks for.
    pub fn new(request: &Request, snapshot: &Snapshot, log: &'a Log) -> Result<Self> {
        let mut own = BTreeMap::new();
        if request.options.log_pid() {
            for pid in snapshot.tree.iter().map(PstreeEntry::tree_pid) {
                if let Some(one) = log.of_task(request.work()?, pid.number())? {
                    own.insert(pid, one);
                }
            }
        }
        Ok(Self { log, own })
    }

    /// A step was done for a task.
    pub fn done(&self, pid: TreePid, what: &str) {
        match self.own.get(&pid) {
            Some(own) => own.info(what),
            None => self.log.debug(format_args!("pid {pid}: {what}")),
        }
    }

    /// A step failed; the error reaches the log by itself.
    pub fn failed(&self, pid: TreePid, error: &Error) {
        if let Some(own) = self.own.get(&pid) {
            own.error(error);
        }
    }
}
