//! What the engine writes is made anew, whatever somebody has put in its place: a link is not
//! followed, nor is what has another name cut off, and nothing waits at a FIFO.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use crate::common::{Criu, Scene, Worker, directory, no_options, request_with};
use criu::images::proto::{CriuOpts, CriuReqType};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const PRECIOUS: &str = "root's own";

/// What may stand in the place of a file, and what must be left of it.
#[derive(Clone, Copy, Debug)]
enum Trap {
    Symlink,
    HardLink,
    Fifo,
}

const TRAPS: [Trap; 3] = [Trap::Symlink, Trap::HardLink, Trap::Fifo];

impl Trap {
    /// Puts it in the place of every name in `dir`.
    fn set(self, scene: &Scene, dir: &Path, names: &[&str]) -> PathBuf {
        let precious = scene.path(&format!("precious-{self:?}"));
        fs::write(&precious, PRECIOUS).expect("write a file");
        for path in names.iter().map(|name| dir.join(name)) {
            match self {
                Self::Symlink => symlink(&precious, path).expect("make a link"),
                Self::HardLink => fs::hard_link(&precious, path).expect("make a link"),
                Self::Fifo => mkfifo(&path, Mode::from_bits_truncate(0o666)).expect("make a FIFO"),
            }
        }
        precious
    }
}

#[track_caller]
fn made_anew(trap: Trap, precious: &Path, dir: &Path, names: &[&str]) {
    assert_eq!(fs::read_to_string(precious).expect("read"), PRECIOUS, "{trap:?}");
    for path in names.iter().map(|name| dir.join(name)) {
        let found = fs::symlink_metadata(&path).expect("stat a file");
        assert!(found.is_file() && found.len() > 0, "{trap:?} {}: {found:?}", path.display());
    }
}

/// Log, statistics, images, their partial forms and the logs of tasks, by the command.
#[test]
fn by_the_command() {
    for trap in TRAPS {
        let scene = Scene::new("writes-command");
        let task = scene.start("tree/crowd", &[]);
        let (pid, images) = (task.pid(), scene.users_directory("images"));
        let names = ["dump.log", "stats-dump", "inventory.img", "manifest", "pages-1.img"];
        let precious = trap.set(&scene, &images, &names);
        trap.set(&scene, &images, &[".inventory.img.partial", ".stats-dump.partial"]);
        let dumped = task.dump(&images);
        made_anew(trap, &precious, &images, &names);
        let task_log = format!("restore.log.{pid}");
        let names = ["restore.log", task_log.as_str(), "stats-restore"];
        let precious = trap.set(&scene, &images, &names);
        dumped.restore_with(&Criu::ours(), &["--log-pid"]).verify();
        made_anew(trap, &precious, &images, &names);
        let names = ["cpuinfo.img"];
        let precious = trap.set(&scene, &images, &names);
        Criu::ours().words(&["cpuinfo", "dump", "-D", &images.display().to_string()]).run().ok();
        made_anew(trap, &precious, &images, &names);
    }
}

/// The same by a request; its log has a name of its own accord.
#[test]
fn by_a_request() {
    for trap in TRAPS {
        let scene = Scene::new("writes-request");
        let task = scene.start("tree/crowd", &[]);
        let images = directory(&scene.path("images"));
        let names = ["criu.log", "stats-dump"];
        let precious = trap.set(&scene, &scene.path("images"), &names);
        let opts = CriuOpts {
            images_dir_fd: images.as_raw_fd(),
            pid: Some(task.pid()),
            leave_running: Some(true),
            log_level: Some(4),
            ..no_options()
        };
        let worker = Worker::start();
        let answer = worker.caller.ask(&request_with(CriuReqType::Dump, opts));
        assert!(answer.success, "{trap:?}: {answer:?}");
        made_anew(trap, &precious, &scene.path("images"), &names);
        task.verify();
    }
}

/// A log that is named by a path may be an old one, or a device; a link or FIFO there is somebody's
/// and stays, and so does what it stands for.
#[test]
fn a_log_elsewhere() {
    let scene = Scene::new("writes-elsewhere");
    let task = scene.start("task/busy", &[]);
    let images = scene.path("images");
    let dump = |log: &Path| {
        Criu::ours().dump(task.pid(), &images).arg("--leave-running").arg("-o").arg(log).run()
    };
    let other = scene.users_directory("other");
    fs::write(other.join("old"), "old").expect("write");
    dump(&other.join("old")).ok();
    assert!(fs::read_to_string(other.join("old")).expect("a log").contains("Dumping finished"));
    for trap in [Trap::Symlink, Trap::Fifo] {
        let name = format!("{trap:?}");
        let precious = trap.set(&scene, &other, &[&name]);
        let before = fs::symlink_metadata(other.join(&name)).expect("stat").file_type();
        let said = dump(&other.join(&name)).refused();
        assert!(said.contains("create log file") && said.contains(&name), "{said}");
        let after = fs::symlink_metadata(other.join(&name)).expect("stat").file_type();
        assert_eq!(before, after);
        assert_eq!(fs::read_to_string(precious).expect("read"), PRECIOUS);
    }
    dump(Path::new("/dev/null")).ok();
    assert!(fs::metadata("/dev/null").expect("stat").file_type().is_char_device());
    task.verify();
}

/// A pid file is never written over anything.
#[test]
fn a_pid_file() {
    for trap in TRAPS {
        let scene = Scene::new("writes-pid");
        let task = scene.start("task/busy", &[]);
        let images = scene.path("images");
        let dumped = task.dump(&images);
        let precious = trap.set(&scene, &images, &["pid"]);
        let said = dumped.restore_call().args(["--pidfile", "pid"]).run().refused();
        assert!(said.contains("create pid file pid: File exists"), "{said}");
        assert_eq!(fs::read_to_string(precious).expect("read"), PRECIOUS);
    }
}
