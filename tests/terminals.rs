//! Terminals of the tree, and a job of a shell: session and terminal outside the tree.

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Criu, NOBODY, Round, Scene, Task, tree_of};
use nix::pty::openpty;
use nix::sys::signal::Signal;

/// A restore needs the old numbers of terminals: no test may take one that another has had.
static NUMBERS: Mutex<()> = Mutex::new(());

fn numbers() -> MutexGuard<'static, ()> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both ends of pseudoterminals, with their settings and queues, and a session on one.
#[test]
fn ptys() {
    let _numbers = numbers();
    for user in [None, Some(NOBODY)] {
        Round { user, ..Round::of("ptys") }.run();
    }
}

/// A terminal of our own, which stands for the user's.
struct Terminal {
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let pair = openpty(None, None).expect("open a pseudoterminal");
        Self { master: pair.master.into(), slave: pair.slave }
    }

    /// Runs `command` as a foreground job of a shell on this terminal.
    fn job(&self, scene: &Scene, words: &[std::ffi::OsString]) -> Command {
        let mut command = scene.launcher();
        command.arg("-j").args(words).stdin(self.end()).stdout(self.end()).stderr(self.end());
        command
    }

    fn end(&self) -> Stdio {
        self.slave.try_clone().expect("another descriptor").into()
    }
}

/// The job below the shell.
fn job_of(shell: &Task<'_>) -> i32 {
    tree_of(shell.pid())[1]
}

/// A job is dumped from one terminal and restored as a job of another.
#[test]
fn shell_job() {
    let _numbers = numbers();
    let scene = Scene::new("shell-job");
    let images = scene.path("images");
    let first = Terminal::new();
    let program = scene.program("job").into_os_string();
    let mut shell = scene.spawn_command(first.job(&scene, &[program]));
    shell.until_ready();
    let job = job_of(&shell);

    // Without the option it is refused, by name, and runs on.
    let message = Criu::ours().dump(job, &scene.path("refused")).run().refused();
    assert!(message.contains("shell-job"), "the message does not name the option:\n{message}");
    Criu::ours().dump(job, &images).arg("--shell-job").run().ok();
    assert_eq!(shell.exit_code(), 128 + Signal::SIGKILL as i32);
    drop(first);

    let mut second = Terminal::new();
    let call = Criu::ours().call("restore", &images).arg("--shell-job");
    let words = call.words();
    let shell = scene.spawn_command(second.job(&scene, &words));
    second.master.write_all(b"typed\n").expect("type");
    shell.ends_well();
}
