//! Objects that are brought from outside at restore: `--external`, `--inherit-fd`.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Criu, Scene, Task, tree_of};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

/// A descriptor that is handed down must not reach what another test starts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

/// A descriptor that commands started from here get, too.
fn inheritable(fd: OwnedFd) -> OwnedFd {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("hand it down");
    fd
}

/// Master and slave, which no command gets unless it is given to it.
fn terminal() -> (OwnedFd, OwnedFd) {
    let pair = openpty(None, None).expect("open a terminal");
    for end in [&pair.master, &pair.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("keep it");
    }
    (pair.master, pair.slave)
}

fn key_of(fd: &OwnedFd, key: &str) -> String {
    format!("fd[{}]:{key}", fd.as_raw_fd())
}

/// `speaker` with its output there.
fn speaker<'a>(scene: &'a Scene, output: OwnedFd) -> Task<'a> {
    let mut command = scene.launcher();
    command.arg(scene.program("speaker")).stdin(Stdio::null()).stderr(Stdio::null());
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
    let _alone = alone();
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
    let new = inheritable(new);
    let task = dumped.restore_with(&Criu::ours(), &["--inherit-fd", &key_of(&new, &key)]);
    drop(new);
    task.verify();
    let mut heard = String::new();
    File::from(reader).read_to_string(&mut heard).expect("hear");
    assert_eq!(heard, "spoken\n");
}

/// A file is another one after the restore.
#[test]
fn a_file_by_its_path() {
    let _alone = alone();
    let scene = Scene::new("inherit-file");
    let images = scene.path("images");
    let (old, new) = (scene.path("old.log"), scene.path("new.log"));
    let open = |path| OwnedFd::from(File::options().append(true).create(true).open(path).unwrap());
    let dumped = speaker(&scene, open(&old)).dump(&images);
    let file = inheritable(open(&new));
    let path = old.display().to_string();
    let key = key_of(&file, path.trim_start_matches('/'));
    dumped.restore_with(&Criu::ours(), &["--inherit-fd", &key]).verify();
    assert_eq!(fs::read_to_string(&new).expect("read"), "spoken\n");
    assert_eq!(fs::read_to_string(&old).expect("read"), "");
}

/// A terminal that is brought from outside is the session's own again, and its end is heard of.
#[test]
fn a_terminal_of_the_outside() {
    let _alone = alone();
    let scene = Scene::new("inherit-tty");
    let images = scene.path("images");
    let (master, slave) = terminal();
    let stat = File::from(slave.try_clone().expect("copy")).metadata().expect("stat");
    let name = format!("tty[{:x}:{:x}]", stat.rdev(), stat.dev());
    let end = || Stdio::from(slave.try_clone().expect("copy"));
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(scene.program("speaker")).env("SCENE_DIR", scene.dir());
    command.current_dir("/").stdin(end()).stdout(end()).stderr(end());
    let mut task = scene.spawn_command(command);
    task.until_ready();
    let pids = tree_of(task.pid());
    let message = task.dump_call(&scene.path("refused")).run().refused();
    says(&message, &["terminal"]);
    task.dump_call(&images).arg("--external").arg(&name).run().ok();
    let dumped = task.gone(&pids, &images);
    drop((master, slave));
    says(&dumped.restore_call().run().refused(), &[&name, "--inherit-fd"]);

    let (master, slave) = terminal();
    let slave = inheritable(slave);
    let key = key_of(&slave, &name);
    let task = dumped.restore_with(&Criu::ours(), &["--inherit-fd", &key]);
    drop(slave);
    let mut master = File::from(master);
    // The interrupt key reaches only the foreground group of a controlling terminal.
    master.write_all(&[3]).expect("type");
    assert_eq!(task.exit_code(), 128 + Signal::SIGINT as i32);
}

/// A descriptor that stands for nothing is told of.
#[test]
fn a_key_that_nothing_has() {
    let _alone = alone();
    let scene = Scene::new("inherit-nothing");
    let images = scene.path("images");
    let dumped = scene.start("busy", &[]).dump(&images);
    let file = inheritable(File::open("/dev/null").expect("open").into());
    let key = key_of(&file, "pipe:[1]");
    let task = dumped.restore_with(&Criu::ours(), &["--inherit-fd", &key]);
    let log = fs::read_to_string(images.join("restore.log")).expect("read the log");
    says(&log, &["--inherit-fd pipe:[1]: nothing in the images is pipe:[1]"]);
    task.verify();
}

/// A key that nothing in the tree has says nothing.
#[test]
fn other_external_objects() {
    let _alone = alone();
    let scene = Scene::new("external");
    let task = scene.start("busy", &[]);
    let call = |key: &str| {
        let call = task.dump_call(&scene.path("images")).arg("-R");
        call.arg("--external").arg(key).run()
    };
    for key in ["mnt[]:", "mnt[]:m", "mnt[/x]:y", "dev[8/1]:sda", "unix[5]", "net[1]:n", "file"] {
        call(key).ok();
    }
    let message = call("mnt[]:x").refused();
    says(&message, &["invalid argument for --external", "mnt[]:x"]);
    assert_eq!(message.lines().count(), 2, "{message}");
    task.verify();
}
