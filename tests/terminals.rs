//! A job of a shell: its session and its terminal are outside the tree.

use std::io::Write;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::terminals::{self, Terminal};
use crate::common::{Criu, Scene, Task, tree_of};

/// Runs words as a foreground job of a shell on a terminal.
fn job_on(terminal: &Terminal, scene: &Scene, words: &[std::ffi::OsString]) -> Command {
    let mut command = scene.launcher();
    command.arg("-j").args(words).stdin(terminal.end()).stdout(terminal.end());
    command.stderr(terminal.end());
    command
}

/// The job below the shell.
fn job_of(shell: &Task<'_>) -> i32 {
    tree_of(shell.pid())[1]
}

/// A job is dumped from one terminal and restored as a job of another.
#[test]
fn shell_job() {
    let numbers = terminals::numbers();
    let scene = Scene::new("shell-job");
    let images = scene.path("images");
    let first = numbers.open();
    let program = scene.program("helpers/job").into_os_string();
    let mut shell = scene.spawn_command(job_on(&first, &scene, &[program]));
    shell.until_ready();
    let job = job_of(&shell);

    // Without the option it is refused, by name, and runs on.
    let message = Criu::ours().dump(job, &scene.path("refused")).run().refused();
    assert!(message.contains("shell-job"), "the message does not name the option:\n{message}");
    Criu::ours().dump(job, &images).arg("--shell-job").run().ok();
    assert_eq!(shell.exit_code(), 128 + Signal::SIGKILL as i32);
    drop(first);

    let mut second = numbers.open();
    let call = Criu::ours().call("restore", &images).arg("--shell-job");
    let words = call.words();
    let shell = scene.spawn_command(job_on(&second, &scene, &words));
    second.master.write_all(b"typed\n").expect("type");
    shell.ends_well();
}
