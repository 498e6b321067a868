//! Objects that are brought from outside at restore: `--external`, `--inherit-fd`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::common::terminals::Terminal;
use crate::common::{Scene, Task, tree_of};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

/// `speaker` with its output there.
fn speaker<'a>(scene: &'a Scene, output: OwnedFd) -> Task<'a> {
    let mut command = scene.launcher();
    command.arg(scene.program("helpers/speaker")).stdin(Stdio::null()).stderr(Stdio::null());
    let mut task = scene.spawn_command({
        command.stdout(output);
        command
    });
    task.until_ready();
    task
}

/// A pipe to somebody outside is another pipe after the restore.
#[test]
fn a_pipe_to_the_outside() {
    let scene = Scene::new("inherit-pipe");
    let images = scene.path("images");
    let (old_reader, old) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let inode = File::from(old.try_clone().expect("copy")).metadata().expect("stat").ino();
    let dumped = speaker(&scene, old).dump(&images);
    drop(old_reader);
    let (reader, new) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let key = format!("pipe:[{inode}]");
    let call = dumped.restore_call().arg("--inherit-fd").arg(format!("fd[999]:{key}"));
    says(&call.run().refused(), &[&key, "descriptor 999 is not open"]);
    let ran = dumped.restore_call().inherit(&new, &key).run();
    let task = dumped.restored(ran);
    drop(new);
    task.verify();
    let mut heard = String::new();
    File::from(reader).read_to_string(&mut heard).expect("hear");
    assert_eq!(heard, "spoken\n");
}

/// A file is another one after the restore.
#[test]
fn a_file_by_its_path() {
    let scene = Scene::new("inherit-file");
    let images = scene.path("images");
    let (old, new) = (scene.path("old.log"), scene.path("new.log"));
    let open = |path| OwnedFd::from(File::options().append(true).create(true).open(path).unwrap());
    let dumped = speaker(&scene, open(&old)).dump(&images);
    let path = old.display().to_string();
    let ran = dumped.restore_call().inherit(&open(&new), path.trim_start_matches('/')).run();
    dumped.restored(ran).verify();
    assert_eq!(fs::read_to_string(&new).expect("read"), "spoken\n");
    assert_eq!(fs::read_to_string(&old).expect("read"), "");
}

/// A terminal that is brought from outside is the session's own again, and its end is heard of.
#[test]
fn a_terminal_of_the_outside() {
    let scene = Scene::new("inherit-tty");
    let images = scene.path("images");
    let Terminal { master, slave } = Terminal::open();
    let stat = File::from(slave.try_clone().expect("copy")).metadata().expect("stat");
    let name = format!("tty[{:x}:{:x}]", stat.rdev(), stat.dev());
    let end = || Stdio::from(slave.try_clone().expect("copy"));
    let mut command = scene.launcher();
    command.arg("-t").arg(scene.program("helpers/speaker"));
    command.stdin(end()).stdout(end()).stderr(end());
    let mut task = scene.spawn_command(command);
    task.until_ready();
    let pids = tree_of(task.pid());
    let message = task.dump_call(&scene.path("refused")).run().refused();
    says(&message, &["terminal"]);
    task.dump_call(&images).arg("--external").arg(&name).run().ok();
    let dumped = task.gone(&pids, &images);
    drop((master, slave));
    says(&dumped.restore_call().run().refused(), &[&name, "--inherit-fd"]);

    let Terminal { mut master, slave } = Terminal::open();
    let ran = dumped.restore_call().inherit(&slave, &name).run();
    let task = dumped.restored(ran);
    drop(slave);
    // The interrupt key reaches only the foreground group of a controlling terminal.
    master.write_all(&[3]).expect("type");
    assert_eq!(task.exit_code(), 128 + Signal::SIGINT as i32);
}

/// A descriptor that stands for nothing is told of.
#[test]
fn a_key_that_nothing_has() {
    let scene = Scene::new("inherit-nothing");
    let images = scene.path("images");
    let dumped = scene.start("task/busy", &[]).dump(&images);
    let file = File::open("/dev/null").expect("open");
    let ran = dumped.restore_call().inherit(&file, "pipe:[1]").run();
    let task = dumped.restored(ran);
    let log = fs::read_to_string(images.join("restore.log")).expect("read the log");
    says(&log, &["--inherit-fd pipe:[1]: nothing in the images is pipe:[1]"]);
    task.verify();
}

/// A key that nothing in the tree has says nothing.
#[test]
fn other_external_objects() {
    let scene = Scene::new("external");
    let task = scene.start("task/busy", &[]);
    let call = |key: &str| {
        let call = task.dump_call(&scene.path("images")).arg("-R");
        call.arg("--external").arg(key).run()
    };
    for key in ["mnt[]:", "mnt[]:m", "mnt[/x]:y", "dev[8/1]:sda", "unix[5]", "net[1]:n", "file"] {
        call(key).ok();
    }
    let ran = call("mnt[]:x");
    assert_eq!(ran.said().lines().count(), 2, "{}", ran.said());
    says(&ran.refused(), &["invalid argument for --external", "mnt[]:x"]);
    task.verify();
}
