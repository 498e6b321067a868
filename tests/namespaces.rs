//! Namespaces that a tree joins at its restore.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::common::Scene;
use nix::sched::{CloneFlags, unshare};

fn link(path: &str) -> PathBuf {
    fs::read_link(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `--join-ns` puts the tree into namespaces that exist.
#[test]
fn joined() {
    let scene = Scene::new("joined");
    let dumped = scene.start("files/open_file", &[]).dump(&scene.path("images"));
    let other = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC).expect("unshare");
        ["uts", "ipc"]
            .map(|name| fs::File::open(format!("/proc/thread-self/ns/{name}")).expect(name))
    });
    let files = other.join().expect("a thread that only unshares");
    let own = std::process::id();
    let paths = files.each_ref().map(|file| format!("/proc/{own}/fd/{}", file.as_raw_fd()));
    let options = [format!("uts:{}", paths[0]), format!("ipc:{}", paths[1])];
    let ran =
        dumped.restore_call().arg("--join-ns").arg(&options[0]).arg("--join-ns").arg(&options[1]);
    let task = dumped.restored(ran.run());
    for (name, path) in ["uts", "ipc"].iter().zip(&paths) {
        assert_eq!(link(&format!("/proc/{}/ns/{name}", task.pid())), link(path));
    }
    task.verify();
}

/// Other namespaces cannot be joined: refused by name, nothing is started.
#[test]
fn others_are_refused() {
    let scene = Scene::new("not-joined");
    let dumped = scene.start("files/open_file", &[]).dump(&scene.path("images"));
    let text = dumped.restore_call().arg("--join-ns").arg("net:/proc/self/ns/net").run().refused();
    assert!(text.contains("--join-ns") && text.contains("can be joined"), "{text}");
    dumped.restore().verify();
}
