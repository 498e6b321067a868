//! Images go both ways between us and CRIU, where `CRIU_PEER` names its binary: what takes more than
//! the axes of `states.rs`.

use nix::sys::signal::Signal;

use crate::common::{Scene, peer};
use crate::tree::until_stopped;

/// A stopped root with threads stays stopped.
#[test]
fn stopped() {
    let Some(peer) = peer() else { return };
    let scene = Scene::new("stopped");
    let task = scene.start("helpers/stopped", &[]);
    let task = task.dump(&scene.path("ours")).restore_with(&peer, &[]);
    until_stopped(task.pid());
    let task = task.dump_with(&peer, &scene.path("theirs"), &[]).restore();
    until_stopped(task.pid());
    task.signal_group(Signal::SIGUSR1);
    task.ends_well();
}

/// A stop that is still pending when the dump begins is the state of the task in its image.
#[test]
fn stopped_twice() {
    let Some(peer) = peer() else { return };
    let scene = Scene::new("stopped-twice");
    let task = scene.start("task/busy", &[]);
    task.signal(Signal::SIGSTOP);
    until_stopped(task.pid());
    task.signal(Signal::SIGSTOP);
    let task = task.dump(&scene.path("images")).restore_with(&peer, &[]);
    until_stopped(task.pid());
    task.signal(Signal::SIGCONT);
    task.verify();
}
