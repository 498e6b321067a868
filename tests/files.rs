//! Links to files that have lost the name by which they were opened.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Criu, Scene, Worker, directory, no_options, request_with, tree_of};
use criu::images::proto::{CriuOpts, CriuReqType};

/// Names that begin so in a directory.
fn links(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    names.map(|name| name.expect("UTF-8")).filter(|name| name.starts_with("link_remap")).collect()
}

/// The link is made where it is asked for only, by a configuration file as well, and the restore
/// removes it.
#[test]
fn the_link_of_a_lost_name() {
    let scene = Scene::new("link-remap");
    let task = scene.start("files/lost_name", &[]);
    let images = scene.path("images");
    let message = task.dump_call(&images).run().refused();
    assert!(message.contains("--link-remap"), "{message}");
    assert!(links(scene.dir()).is_empty());
    let config = scene.path("criu.conf");
    fs::write(&config, "link-remap\n").expect("write a file");
    let pids = tree_of(task.pid());
    task.dump_call(&images).arg("--config").arg(&config).run().ok();
    assert_eq!(links(scene.dir()).len(), 1);
    let task = task.gone(&pids, &images).restore();
    assert!(links(scene.dir()).is_empty());
    task.verify();
}

/// A dump that is not kept leaves no link.
#[test]
fn no_link_of_a_failed_dump() {
    let scene = Scene::new("link-remap-failed");
    let task = scene.start("files/lost_name", &[]);
    let text = "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-dump ] || { ls $SCENE_DIR >$0.seen; exit 1; }\n";
    let script = scene.script("no", text);
    let call = task.dump_call(&scene.path("images")).arg("--link-remap").arg("--action-script");
    let mut command = call.arg(&script).command();
    let status = command.env("SCENE_DIR", scene.dir()).status().expect("run criu");
    assert_eq!(status.code(), Some(255));
    let seen = fs::read_to_string(scene.path("no.seen")).expect("the script has run");
    assert!(seen.contains("link_remap."), "there was no link when the dump was whole: {seen}");
    assert!(links(scene.dir()).is_empty(), "{:?}", links(scene.dir()));
    task.verify();
}

/// Dumps of a tree that runs on have links of their own, so that each can be restored.
#[test]
fn links_of_a_tree_that_runs_on() {
    let scene = Scene::new("link-remap-running");
    let task = scene.start("files/lost_name", &[]);
    task.dump_call(&scene.path("first")).args(["--link-remap", "-R"]).run().ok();
    let second = scene.path("second");
    let dumped = task.dump_with(&Criu::ours(), &second, &["--link-remap"]);
    assert_eq!(links(scene.dir()).len(), 2);
    let task = dumped.restore();
    let left = links(scene.dir());
    assert_eq!(left.len(), 1, "{left:?}");
    fs::remove_file(scene.path(&left[0])).expect("remove the link of the other dump");
    task.verify();
}

/// The same by the RPC.
#[test]
fn a_lost_name_by_rpc() {
    let scene = Scene::new("link-remap-rpc");
    let task = scene.start("files/lost_name", &[]);
    let pids = tree_of(task.pid());
    let images = directory(&scene.path("images"));
    let opts = CriuOpts { images_dir_fd: images.as_raw_fd(), ..no_options() };
    let dump = CriuOpts { pid: Some(task.pid()), link_remap: Some(true), ..opts };
    let answer = Worker::start().caller.ask(&request_with(CriuReqType::Dump, dump));
    assert!(answer.success, "{answer:?}");
    assert_eq!(links(scene.dir()).len(), 1);
    task.gone(&pids, &scene.path("images")).restore().verify();
}

/// Runs `criu` with bounds for what it may have in memory (KiB), and for its open files until it
/// raises them.
fn within(memory: &str, open: &str, call: &crate::common::Call) {
    let set = "ulimit -S -d $1 && ulimit -S -n $2 && shift 2 && exec \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", set, "limits", memory, open]).args(call.words()).stdin(Stdio::null());
    let done = command.output().expect("run a shell");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {}: {said}", done.status);
}

/// Files without a name go into the image and out of it in pieces, however large they are; more of
/// them than the engine may have open at first are carried as well.
#[test]
fn what_has_no_name_need_not_fit_into_memory() {
    let (memory, open) = ("49152", "128");
    let scene = Scene::new("ghosts");
    let task = scene.start("helpers/ghosts", &[]);
    let pids = tree_of(task.pid());
    let images = scene.path("images");
    within(memory, open, &task.dump_call(&images).arg("--ghost-limit").arg("100M"));
    let dumped = task.gone(&pids, &images);
    within(memory, open, &dumped.restore_call());
    dumped.running().verify();
}
