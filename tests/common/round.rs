//! The usual course of a test: start, dump, restore, dump, restore, verify.

use std::fs;

use criu_test_support::{Lack, needs};

use super::criu::Criu;
use super::processes::tree_of;
use super::scene::Scene;

/// Who dumps and who restores, how often, and with which options.
pub struct Round<'a> {
    pub program: &'a str,
    pub args: &'a [&'a str],
    pub user: Option<u32>,
    /// Options of every dump.
    pub dump: &'a [&'a str],
    /// Options of every restore.
    pub restore: &'a [&'a str],
    pub dumper: Criu,
    pub restorer: Criu,
    pub times: u32,
}

impl<'a> Round<'a> {
    pub fn of(program: &'a str) -> Self {
        Self {
            program,
            args: &[],
            user: None,
            dump: &[],
            restore: &[],
            dumper: Criu::ours(),
            restorer: Criu::ours(),
            // The second dump sees what the first restore has built.
            times: 2,
        }
    }

    #[track_caller]
    pub fn run(self) {
        let mut scene = Scene::new(self.program);
        if let Some(user) = self.user {
            scene = scene.owned_by(user);
        }
        let Some(mut task) = scene.start_or_leave_out(self.program, self.args) else { return };
        if self.dumper.is_peer() && needs(peer_may_dump(task.pid())).is_none() {
            return;
        }
        for time in 0..self.times {
            let images = scene.path(&format!("images-{time}"));
            let dumped = task.dump_with(&self.dumper, &images, self.dump);
            task = dumped.restore_with(&self.restorer, self.restore);
        }
        task.verify();
    }
}

/// CRIU reads limits with a call that takes CAP_SYS_RESOURCE for tasks of other users.
fn peer_may_dump(root: i32) -> Result<(), Lack> {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = |pid: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read a status");
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("no {field} of {pid}")).to_owned()
    };
    let effective = u64::from_str_radix(&status("self", "CapEff"), 16).expect("a hexadecimal set");
    let is_roots = |pid: &i32| status(&pid.to_string(), "Uid").split('\t').all(|id| id == "0");
    if effective & 1 << CAP_SYS_RESOURCE != 0 || tree_of(root).iter().all(is_roots) {
        return Ok(());
    }
    let why = "without CAP_SYS_RESOURCE CRIU cannot dump tasks of other users";
    Err(Lack::OfMachine(why.into()))
}
