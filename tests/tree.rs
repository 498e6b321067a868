//! Trees that are stopped: before the dump, by it, and by the restore.

use crate::common::{Criu, Scene, state_of, tree_of, until};
use nix::sys::signal::Signal;

/// The stop is on its way when `criu` ends: the task still has to be given a processor to take it.
pub fn until_stopped(pid: i32) {
    until(
        || format!("pid {pid} is {:?}", state_of(pid)),
        || (state_of(pid) == Some('T')).then_some(()),
    );
}

/// A stopped root with threads stays stopped, and goes on when it is continued.
#[test]
fn stopped() {
    let scene = Scene::new("stopped");
    let task = scene.start("helpers/stopped", &[]);
    let task = task.dump(&scene.path("first")).restore();
    let task = task.dump(&scene.path("second")).restore();
    until_stopped(task.pid());
    task.signal_group(Signal::SIGUSR1);
    task.ends_well();
}

/// With `--leave-stopped` a dumped tree is stopped, and goes on when it is continued.
#[test]
fn leave_stopped_at_the_dump() {
    let scene = Scene::new("leave-stopped-dump");
    let task = scene.start("tree/crowd", &[]);
    let pids = tree_of(task.pid());
    task.dump_call(&scene.path("images")).arg("--leave-stopped").run().ok();
    for pid in &pids {
        until_stopped(*pid);
    }
    task.signal_group(Signal::SIGCONT);
    task.verify();
}

/// With `--leave-stopped` a restored tree is stopped, and goes on when it is continued.
#[test]
fn leave_stopped_at_the_restore() {
    let scene = Scene::new("leave-stopped-restore");
    let dumped = scene.start("tree/crowd", &[]).dump(&scene.path("images"));
    let task = dumped.restore_with(&Criu::ours(), &["--leave-stopped"]);
    for pid in tree_of(task.pid()) {
        until_stopped(pid);
    }
    task.signal_group(Signal::SIGCONT);
    task.verify();
}
