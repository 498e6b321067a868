//! Wall times of dump and restore, in pairs with CRIU where `CRIU_PEER` names its binary, and of the
//! C calls where `CRIU_PEER_LIB` names its library. Ours and theirs take turns, so that what else
//! goes on strikes both; what counts is the ratio of the medians.
//!
//! `BENCH_ROUNDS` is the number of pairs, `cargo bench --bench paired -- WORD` picks rows.
//!
//! On a disk, what was written before is on it when a measurement begins, and no file is removed
//! before the end: ext4 looks at every inode that was freed in the last minutes before it makes a
//! new one, which strikes whoever makes many files, for as many as others have removed.

#[path = "../tests/common/mod.rs"]
mod common;

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Criu, Scene, peer, tree_of};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::syncfs;

/// A program to measure, and the shares of CRIU's time that are the goal.
struct Load {
    name: &'static str,
    args: [&'static str; 3],
    rounds: usize,
    goals: (f64, f64),
    /// The goal is for the C calls, which have no start of a program in their time.
    calls_only: bool,
}

const LOADS: [Load; 4] = [
    Load {
        name: "small process (1 MiB, 3 threads)",
        args: ["1", "3", "1"],
        rounds: 31,
        goals: (0.25, 0.25),
        calls_only: true,
    },
    Load {
        name: "1 GiB of anonymous memory",
        args: ["1024", "1", "1"],
        rounds: 7,
        goals: (0.65, 0.40),
        calls_only: false,
    },
    Load {
        name: "200 threads",
        args: ["1", "200", "1"],
        rounds: 11,
        goals: (0.5, 0.5),
        calls_only: false,
    },
    Load {
        name: "tree of 100 processes",
        args: ["0", "1", "100"],
        rounds: 11,
        goals: (0.5, 0.5),
        calls_only: false,
    },
];

/// Times of the dump and of the restore, in milliseconds.
#[derive(Default)]
struct Times {
    dump: Vec<f64>,
    restore: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One of the two command line programs.
struct Side {
    criu: Criu,
    times: Times,
}

/// The two numbers that a helper program has written.
fn numbers(text: &str) -> (f64, f64) {
    let mut words = text.split_whitespace().filter_map(|word| word.parse().ok());
    (words.next().unwrap_or(f64::NAN), words.next().unwrap_or(f64::NAN))
}

/// Runs `words` under `measure`: milliseconds, and the most memory in KiB if it is asked for.
fn measured(scene: &Scene, words: &[OsString], memory: bool) -> (f64, f64) {
    let out = scene.path("measured");
    let mut command = Command::new(scene.program("helpers/measure"));
    command.args(memory.then_some("-m")).arg(&out).args(words).stdin(Stdio::null());
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let status = command.status().expect("run measure");
    assert!(status.success(), "{words:?}: {status}; the log is beside the images");
    let (nanoseconds, kib) = numbers(&fs::read_to_string(&out).expect("the measurement"));
    (nanoseconds / 1e6, kib)
}

/// Where image directories are made, and removed in the end.
struct Place {
    medium: &'static str,
    dir: PathBuf,
    made: Cell<u32>,
}

impl Place {
    fn new(medium: &'static str, parent: &Path) -> Self {
        let dir = parent.join("criu-bench-images");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("make a directory for images");
        Self { medium, dir, made: Cell::new(0) }
    }

    fn new_directory(&self) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let dir = self.dir.join(self.made.get().to_string());
        fs::create_dir(&dir).expect("make an image directory");
        dir
    }

    /// Writes back what is in memory only, and makes sure of the memory that will be used: that of
    /// a virtual machine may have been taken back by its host.
    fn settle(&self, load: &Load) {
        let mebibytes: usize = load.args[0].parse().expect("a number");
        drop(black_box(vec![1u8; mebibytes << 21]));
        syncfs(File::open(&self.dir).expect("open the directory")).expect("syncfs");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Gives back what the files of a directory hold, but not the files.
fn empty(images: &Path) {
    const SMALL: u64 = 1 << 20;
    for entry in fs::read_dir(images).expect("list images").flatten() {
        if entry.metadata().is_ok_and(|file| file.len() > SMALL) {
            File::create(entry.path()).expect("empty an image");
        }
    }
}

/// Dumps and restores once: the times, or, with `memory`, the most memory of both in KiB.
fn once(criu: &Criu, load: &Load, place: &Place, memory: bool) -> (f64, f64) {
    let scene = Scene::new("bench");
    let images = place.new_directory();
    let task = scene.start("helpers/load", &load.args);
    let pids = tree_of(task.pid());
    let words = criu.dump(task.pid(), &images).quiet().words();
    place.settle(load);
    let dump = measured(&scene, &words, memory);
    let dumped = task.gone(&pids, &images);
    place.settle(load);
    let restore = measured(&scene, &criu.restore(&images).quiet().words(), memory);
    scene.on_disk(dumped.pid(), &images).running().signal(Signal::SIGKILL);
    drop(scene);
    empty(&images);
    if memory { (dump.1, restore.1) } else { (dump.0, restore.0) }
}

fn row(what: &str, goal: Option<f64>, ours: &[f64], theirs: Option<&[f64]>) {
    let own = median(ours);
    let Some(theirs) = theirs.map(median) else {
        println!("  {what:<32}{own:9.2} ms");
        return;
    };
    let ratio = own / theirs;
    let verdict = match goal {
        Some(goal) if ratio <= goal => format!("  at most {goal:.2}: met"),
        Some(goal) => format!("  at most {goal:.2}: missed"),
        None => String::new(),
    };
    println!("  {what:<32}{own:9.2} ms  CRIU {theirs:9.2} ms  ratio {ratio:.2}{verdict}");
}

fn rounds(load: &Load) -> usize {
    let asked = std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(load.rounds)
}

fn command_line(load: &Load, place: &Place) {
    let mut sides = vec![Side { criu: Criu::ours(), times: Times::default() }];
    sides.extend(peer().map(|criu| Side { criu, times: Times::default() }));
    // The first round of each warms caches and is not counted.
    for round in 0..=rounds(load) {
        for side in &mut sides {
            let (dump, restore) = once(&side.criu, load, place, false);
            if round > 0 {
                side.times.dump.push(dump);
                side.times.restore.push(restore);
            }
        }
    }
    let theirs = sides.get(1).map(|side| &side.times);
    let (dump_goal, restore_goal) = load.goals;
    let goal = |goal| (!load.calls_only).then_some(goal);
    let ours = &sides[0].times;
    row("dump", goal(dump_goal), &ours.dump, theirs.map(|times| &times.dump[..]));
    row("restore", goal(restore_goal), &ours.restore, theirs.map(|times| &times.restore[..]));
    let (dump, restore) = once(&sides[0].criu, load, place, true);
    println!("  own memory: dump {:.1} MiB, restore {:.1} MiB", dump / 1024.0, restore / 1024.0);
}

/// A library and the worker that it is told to start: none, a binary, or `-` for the engine in the
/// caller.
struct Library {
    what: &'static str,
    path: PathBuf,
    binary: OsString,
    times: Times,
}

const THEIRS: &str = ", CRIU";

fn libraries() -> Vec<Library> {
    let binary = std::env::var_os("CRIU_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_criu")), PathBuf::from);
    // Installed, put in place by `cargo build`, or as it was linked for this benchmark.
    let built = ["../lib/libcriu.so", "libcriu.so", "deps/libcriu.so"];
    let mut built = built.into_iter().map(|name| binary.with_file_name(name));
    let path = built.find(|path| path.exists()).expect("libcriu.so is built");
    let library = |what, path: &Path, binary| {
        let path = path.to_path_buf();
        Library { what, path, binary, times: Times::default() }
    };
    let ours = [library("", &path, "".into()), library(", in process", &path, "-".into())];
    let theirs = std::env::var_os("CRIU_PEER_LIB").zip(std::env::var_os("CRIU_PEER"));
    let theirs = theirs.map(|(path, binary)| library(THEIRS, Path::new(&path), binary));
    ours.into_iter().chain(theirs).collect()
}

/// Dumps and restores once by the C calls.
fn call_once(library: &Library, load: &Load, place: &Place) -> (f64, f64) {
    let scene = Scene::new("bench-calls");
    let images = place.new_directory();
    let mut command = Command::new(scene.program("helpers/calls"));
    command.arg(&library.path).arg(&library.binary).arg(&images);
    command.arg(scene.program("helpers/load")).args(load.args).env("SCENE_DIR", scene.dir());
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output().expect("run calls");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    drop(scene);
    empty(&images);
    let (dump, restore) = numbers(&String::from_utf8_lossy(&output.stdout));
    (dump / 1e6, restore / 1e6)
}

fn c_calls(load: &Load, place: &Place) {
    let mut libraries = libraries();
    for round in 0..=rounds(load) {
        for library in &mut libraries {
            let (dump, restore) = call_once(library, load, place);
            if round > 0 {
                library.times.dump.push(dump);
                library.times.restore.push(restore);
            }
        }
    }
    let (ours, theirs): (Vec<Library>, Vec<Library>) =
        libraries.into_iter().partition(|library| library.what != THEIRS);
    let theirs = theirs.first().map(|library| &library.times);
    let (dump, restore) = load.goals;
    for Library { what, times, .. } in &ours {
        let call = |name| format!("{name}{what}");
        let theirs = (theirs.map(|times| &times.dump[..]), theirs.map(|times| &times.restore[..]));
        row(&call("criu_dump"), Some(dump), &times.dump, theirs.0);
        row(&call("criu_restore_child"), Some(restore), &times.restore, theirs.1);
    }
}

/// CRIU keeps what it knows of the kernel in /run, if that is a tmpfs. Ours alone: a mount
/// namespace of our own.
fn warm_cache() {
    if peer().is_none() {
        return;
    }
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of our own");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make it private");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs on /run");
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    warm_cache();
    let disk = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let places = [Place::new("tmpfs", Path::new("/dev/shm")), Place::new("disk", &disk)];
    for load in &LOADS {
        for place in &places {
            let title = format!("{}, {}", load.name, place.medium);
            if !wanted.iter().all(|word| title.contains(word.as_str())) {
                continue;
            }
            println!("{title}");
            command_line(load, place);
            c_calls(load, place);
        }
    }
}
