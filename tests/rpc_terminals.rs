//! Terminals over the RPC: descriptors that come with a notification, and objects that the caller
//! names when it is asked.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use crate::common::terminals::{self, Numbers, Terminal};
use crate::common::{
    Note, Reply, Scene, Task, Worker, directory, no_options, request_with, tree_of,
};
use criu::images::proto::{CriuOpts, CriuReqType};
use nix::libc;

/// `job` as the leader of a session on a new terminal, whose master is ours.
fn on_a_terminal<'a>(scene: &'a Scene, numbers: &Numbers) -> (Task<'a>, Terminal) {
    let terminal = numbers.open();
    let end = || terminal.end();
    let mut command = scene.launcher();
    command.arg("-t").arg(scene.program("helpers/job")).stdin(end()).stdout(end()).stderr(end());
    let mut task = scene.spawn_command(command);
    task.until_ready();
    (task, terminal)
}

/// The master of the tree's terminal was outside: the caller gets a new one, and types.
#[test]
fn the_master_of_an_orphaned_terminal_comes_to_the_caller() {
    let numbers = terminals::numbers();
    let scene = Scene::new("rpc-orphan");
    let (task, terminal) = on_a_terminal(&scene, &numbers);
    let (pid, pids) = (task.pid(), tree_of(task.pid()));
    let images = directory(&scene.path("images"));
    let opts = CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        shell_job: Some(true),
        notify_scripts: Some(true),
        ..no_options()
    };
    let dump = CriuOpts { pid: Some(pid), ..opts.clone() };
    let agree = |_: &Note| Reply::default();
    let (answer, _) =
        Worker::start().caller.converse(&request_with(CriuReqType::Dump, dump), agree);
    assert!(answer.success, "{answer:?}");
    let dumped = task.gone(&pids, &scene.path("images"));
    drop(terminal);

    let opts = CriuOpts { orphan_pts_master: Some(true), ..opts };
    let refuse =
        |note: &Note| Reply { refuse: note.stage == "orphan-pts-master", ..Reply::default() };
    let restore = request_with(CriuReqType::Restore, opts);
    let (answer, _) = Worker::start().caller.converse(&restore, refuse);
    assert_eq!(answer.cr_errno(), libc::ECANCELED, "{answer:?}");
    assert!(answer.cr_errmsg().contains("orphan-pts-master"), "{answer:?}");
    scene.until_gone(&pids);

    let worker = Worker::start();
    let (answer, mut notes) = worker.caller.converse(&restore, agree);
    assert!(answer.success, "{answer:?}");
    worker.finish();
    let sent = notes.iter_mut().find(|note| note.stage == "orphan-pts-master");
    let mut fds = std::mem::take(&mut sent.expect("the stage").fds);
    assert_eq!(fds.len(), 1);
    assert!(notes.iter().all(|note| note.fds.is_empty()));
    let mut terminal = File::from(fds.remove(0));
    terminal.write_all(b"typed\n").expect("type");
    dumped.running().ends_well();
}

/// What the caller names when it is asked is left to it.
#[test]
fn external_objects_are_asked_for() {
    let numbers = terminals::numbers();
    let scene = Scene::new("rpc-external");
    let (task, terminal) = on_a_terminal(&scene, &numbers);
    let stat = nix::sys::stat::fstat(&terminal.slave).expect("stat the terminal");
    let key = format!("tty[{:x}:{:x}]", stat.st_rdev, stat.st_dev);
    let images = directory(&scene.path("images"));
    let opts = CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        notify_scripts: Some(true),
        leave_running: Some(true),
        pid: Some(task.pid()),
        ..no_options()
    };
    let dump = request_with(CriuReqType::Dump, opts);
    let say = |external: &str| {
        let external = vec![external.to_owned()];
        move |note: &Note| {
            let asked = note.stage == "query-ext-files";
            Reply { external: if asked { external.clone() } else { Vec::new() }, refuse: false }
        }
    };
    let (answer, _) = Worker::start().caller.converse(&dump, |_| Reply::default());
    assert!(!answer.success && answer.cr_errmsg().contains("from outside"), "{answer:?}");
    let (answer, _) = Worker::start().caller.converse(&dump, say("net[1]:outside"));
    assert!(!answer.success && answer.cr_errmsg().contains("from outside"), "{answer:?}");
    let (answer, _) = Worker::start().caller.converse(&dump, say(&key));
    assert!(answer.success, "{answer:?}");
}
