//! Processes as they stand to each other, and what becomes of a tree after its dump.

mod common;

use common::{Criu, Scene, alive, state_of, tree_of, until};
use nix::sys::signal::Signal;

round_trips! { anybody:
    /// Parents, sessions, groups, zombies, stopped tasks, orphans, dead group leaders.
    tree,
    /// A hundred processes.
    crowd,
}

/// The stop is on its way when `criu` ends: the task still has to be given a processor to take it.
fn until_stopped(pid: i32) {
    until(
        || format!("pid {pid} is {:?}", state_of(pid)),
        || (state_of(pid) == Some('T')).then_some(()),
    );
}

/// A stopped root with threads stays stopped, and goes on when it is continued.
#[test]
fn stopped() {
    let scene = Scene::new("stopped");
    let task = scene.start("stopped", &[]);
    let task = task.dump(&scene.path("first")).restore();
    let task = task.dump(&scene.path("second")).restore();
    until_stopped(task.pid());
    task.signal_group(Signal::SIGUSR1);
    task.ends_well();
}

/// With `--leave-running` the tree goes on, and the images are whole all the same.
#[test]
fn leave_running() {
    let scene = Scene::new("leave-running");
    let images = scene.path("images");
    for program in ["busy", "crowd", "syscalls"] {
        let task = scene.start(program, &[]);
        let pids = tree_of(task.pid());
        task.dump_call(&images.join(program)).arg("--leave-running").run().ok();
        assert!(pids.iter().all(|pid| alive(*pid)), "a process of {program} ended");
        task.dump_call(&images.join(format!("{program}-2"))).arg("--leave-running").run().ok();
        task.verify();
        scene.until_gone(&pids);
        let restored = scene.on_disk(pids[0], &images.join(program)).restore();
        restored.verify();
    }
}

/// With `--leave-stopped` a dumped tree is stopped, and goes on when it is continued.
#[test]
fn leave_stopped_at_the_dump() {
    let scene = Scene::new("leave-stopped-dump");
    let task = scene.start("crowd", &[]);
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
    let dumped = scene.start("crowd", &[]).dump(&scene.path("images"));
    let task = dumped.restore_with(&Criu::ours(), &["--leave-stopped"]);
    for pid in tree_of(task.pid()) {
        until_stopped(pid);
    }
    task.signal_group(Signal::SIGCONT);
    task.verify();
}
