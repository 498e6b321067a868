//! What the command says: to a person at a terminal, to a script, and to a machine that wants JSON.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::terminals::Terminal;
use crate::common::{Dumped, NOBODY, Scene, Task, peer, tree_of, until};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde_json::Value;

const ESCAPE: char = '\u{1b}';
/// A process takes so long to copy that it is met in the middle of it.
const MIB: &str = "192";

/// A terminal, and all that is written to it.
struct Screen {
    slave: OwnedFd,
    reader: JoinHandle<String>,
}

impl Screen {
    fn new() -> Self {
        let Terminal { mut master, slave } = Terminal::open();
        let reader = std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
            // EIO: nobody has the other end any more.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                all.extend_from_slice(&buffer[..length]);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        Self { slave, reader }
    }

    fn end(&self) -> Stdio {
        self.slave.try_clone().expect("another descriptor").into()
    }

    /// What was written, when all who could write have ended.
    fn text(self) -> String {
        drop(self.slave);
        self.reader.join().expect("read the terminal")
    }
}

fn criu(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criu"));
    command.args(words).stdin(Stdio::null()).env_remove("NO_COLOR").env("TERM", "xterm");
    command.env_remove("CLICOLOR_FORCE").env_remove("CLICOLOR");
    command
}

/// Standard output, standard error and exit code of a run with both piped.
fn piped(mut command: Command) -> (String, String, Option<i32>) {
    let output = command.output().expect("run criu");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// What a person sees of a run.
fn seen(mut command: Command) -> String {
    let terminal = Screen::new();
    command.stdout(terminal.end()).stderr(terminal.end());
    command.status().expect("run criu");
    drop(command);
    terminal.text()
}

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "not one line: {text}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not said:\n{text}");
    }
}

#[test]
fn scripts_get_the_words_they_know() {
    assert_eq!(piped(criu(&["check"])), ("Looks good.\n".into(), String::new(), Some(0)));
    let answer = piped(criu(&["check", "--feature", "openat2"]));
    assert_eq!(answer, ("openat2 is supported\n".into(), String::new(), Some(0)));
    let (output, errors, code) = piped(criu(&["check", "--feature", "nosuch"]));
    assert_eq!((output.as_str(), code), ("", Some(1)));
    says(&errors, &["Error (", "): Unknown feature nosuch"]);
    let (all, _, code) = piped(criu(&["check", "--feature", "list"]));
    assert_eq!(code, Some(0));
    assert!(all.lines().any(|line| line == "mem_dirty_track"), "{all}");
    assert!(all.lines().all(|line| !line.contains(' ')), "{all}");
}

#[test]
fn a_person_sees_what_each_missing_feature_costs() {
    says(&seen(criu(&["check"])), &["yes", "map_files", "Looks good."]);
    let list = seen(criu(&["check", "--feature", "list"]));
    says(&list, &["pagemap_scan", "always needed", "without it, "]);
    let object = json(&piped(criu(&["check", "--all", "--json"])).0);
    let features = object["features"].as_array().expect("a list");
    let table = seen(criu(&["check", "--all"]));
    for feature in features {
        says(&table, &[feature["name"].as_str().expect("a name")]);
        if feature["supported"] == false {
            says(&table, &[feature["cost"].as_str().expect("a text")]);
            assert!(!feature["error"]["message"].as_str().expect("a text").is_empty());
        }
    }
}

/// Nothing is kept from one run to another: runs at the same time find the same.
#[test]
fn checks_at_the_same_time_do_not_disturb_each_other() {
    let run = || piped(criu(&["check", "--all", "--json"])).0;
    let alone = json(&run());
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        for one in runs {
            assert_eq!(json(&one.join().expect("a run")), alone);
        }
    });
}

/// A probe that is forbidden says nothing about the kernel.
#[test]
fn who_may_not_look_is_told_to_be_root() {
    use std::os::unix::process::CommandExt;
    let scene = Scene::new("check-denied");
    // By another process: a file that somebody has open for writing cannot be executed.
    let copied =
        Command::new("cp").arg(env!("CARGO_BIN_EXE_criu")).arg(scene.path("criu")).status();
    assert!(copied.expect("run cp").success());
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new(scene.path("criu"));
        command.args(words).uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).env("TERM", "xterm");
        command.current_dir("/");
        command
    };
    let (output, errors, code) = piped(as_nobody(&["check"]));
    assert_eq!((output.as_str(), code), ("Does not look good.\n", Some(1)));
    says(&errors, &["Error (", "map_files (mapped files cannot be opened): ", "run it as root"]);
    let text = seen(as_nobody(&["check"]));
    says(&text, &["no ", "map_files", "Does not look good.", "What helps:", "run it as root"]);
    assert!(!text.contains("Error ("), "{text}");
}

/// Every feature is answered alike by name, in the table, and as JSON.
#[test]
fn features_are_answered_alike_everywhere() {
    let object = json(&piped(criu(&["check", "--all", "--json"])).0);
    for feature in object["features"].as_array().expect("a list") {
        let name = feature["name"].as_str().expect("a name");
        let (output, _, code) = piped(criu(&["check", "--feature", name]));
        let supported = feature["supported"] == true;
        assert_eq!(code, Some(if supported { 0 } else { 1 }), "{name}");
        assert_eq!(output.contains("is supported"), supported, "{name}: {output}");
    }
}

#[test]
fn a_failure_is_told_in_plain_words_with_the_remedy() {
    let scene = Scene::new("plain-words");
    let dir = scene.dir().to_str().expect("UTF-8");
    let words = ["dump", "-t", "2147483647", "-D", dir];
    let logged: Vec<&str> = words.iter().copied().chain(["-o", "dump.log"]).collect();
    let text = seen(criu(&logged));
    says(&text, &["Error:", "2147483647", "What helps:", "The log:", "/dump.log", "\u{1b}["]);
    says(&fs::read_to_string(scene.path("dump.log")).expect("the log"), &["Error (", "2147483647"]);

    let mut without_colours = criu(&words);
    without_colours.env("NO_COLOR", "1");
    let text = seen(without_colours);
    says(&text, &["Error:", "What helps:"]);
    assert!(!text.contains(ESCAPE) && !text.contains("The log:"), "{text}");

    let (output, errors, code) = piped(criu(&words));
    assert_eq!((output.as_str(), code), ("", Some(1)));
    says(&errors, &["Error (", "2147483647"]);
    assert!(!errors.contains("What helps:") && !errors.contains(ESCAPE), "{errors}");
}

/// Whoever names a directory does not write to the terminal of who dumps or looks at dumps.
#[test]
fn names_do_not_steer_the_terminal() {
    let scene = Scene::new("evil-names");
    let evil = scene.path("evil\u{1b}]0;title\u{7}");
    fs::create_dir(&evil).expect("make a directory");
    let dir = evil.to_str().expect("UTF-8");
    let mut show = criu(&["show", dir]);
    show.env("NO_COLOR", "1");
    let text = seen(show);
    says(&text, &["Error:", "evil", "]0;title"]);
    assert!(!text.contains([ESCAPE, '\u{7}']), "{text:?}");
}

#[test]
fn machines_get_one_object() {
    let scene = Scene::new("json");
    let images = scene.path("images");
    fs::create_dir(&images).expect("make a directory");
    let dir = images.to_str().expect("UTF-8");

    let failed = piped(criu(&["dump", "-t", "2147483647", "-D", dir, "--json"]));
    let object = json(&failed.0);
    assert_eq!((object["command"].as_str(), &object["success"]), (Some("dump"), &false.into()));
    assert_eq!(object["error"]["kind"], "NoSuchTask");

    let task = scene.start("task/busy", &[]);
    let pid = task.pid();
    let mut dump = criu(&["dump", "--json", "-D", dir, "-o", "dump.log", "-t"]);
    dump.arg(pid.to_string());
    let object = json(&piped(dump).0);
    assert_eq!((&object["success"], &object["pid"]), (&true.into(), &pid.into()), "{object}");
    assert_eq!(object["images"], dir);
    assert!(object["stats"]["pages_written"].as_u64() > Some(0), "{object}");
    let dumped = task.gone(&[pid], &images);

    let shown = json(&piped(criu(&["show", "--json", dir])).0);
    let shown_task = &shown["tasks"][0];
    assert_eq!((&shown_task["pid"], &shown_task["name"]), (&pid.into(), &"busy".into()));
    let saved = shown_task["memory"]["saved"].as_u64().expect("a number");
    assert_eq!(saved, object["stats"]["pages_written"].as_u64().expect("a number") * 4096);

    let restored = criu(&["restore", "--json", "-d", "-D", dir, "-o", "restore.log"]);
    let object = json(&to_file(&scene, restored).0);
    assert_eq!((&object["success"], &object["pid"]), (&true.into(), &pid.into()), "{object}");
    assert!(object["stats"]["pages_restored"].as_u64() > Some(0), "{object}");
    dumped.running().verify();
}

#[test]
fn a_line_that_is_not_understood_is_one_object_too() {
    for words in [&["--json"][..], &["nosuch", "--json"], &["dump", "--nosuch", "--json"]] {
        let (output, errors, code) = piped(criu(words));
        let object = json(&output);
        assert_eq!((&object["success"], code), (&false.into(), Some(1)), "{object}");
        assert_eq!(object["error"]["kind"], "BadOptions");
        assert!(!errors.is_empty());
    }
}

/// The same as [`piped`], but a restored task may keep what it got.
fn to_file(scene: &Scene, mut command: Command) -> (String, Option<i32>) {
    let path = scene.path("said");
    let file = File::create(&path).expect("make a file");
    command.stdout(file.try_clone().expect("another descriptor")).stderr(file);
    let status = command.status().expect("run criu");
    (fs::read_to_string(path).expect("read it"), status.code())
}

#[test]
fn a_log_on_standard_output_and_json_exclude_each_other() {
    let (output, _, code) = piped(criu(&["dump", "-t", "1", "--json", "-o", "-"]));
    assert_eq!(code, Some(1));
    says(json(&output)["error"]["message"].as_str().expect("a text"), &["--json", "--log-file"]);
}

#[test]
fn a_dump_is_shown_as_a_tree() {
    let scene = Scene::new("show");
    let task = scene.start("helpers/family", &[]);
    let pids = tree_of(task.pid());
    let dumped = task.dump(&scene.path("images"));
    let dir = dumped.images().to_str().expect("UTF-8").to_owned();
    let (text, errors, code) = piped(criu(&["show", &dir]));
    assert_eq!((errors.as_str(), code), ("", Some(0)));
    let version = env!("CARGO_PKG_VERSION");
    says(
        &text,
        &[&dir, &format!("made by libcriu {version}"), "/dev/null", "[stack]", "stopped for"],
    );
    assert!(!text.contains(ESCAPE), "{text}");
    for pid in &pids {
        assert!(text.lines().any(|line| line.trim_start().starts_with(&pid.to_string())), "{pid}");
    }
    assert!(
        text.lines().any(|line| line.starts_with("    ") && line.contains("session")),
        "{text}"
    );
    says(&seen(criu(&["show", "-D", &dir])), &["\u{1b}[", "[stack]"]);
    says(&piped(criu(&["show", "-v3", &dir])).0, &["-xp ", "rw-p [stack]"]);

    // What is damaged is shown as far as it goes, and said to be damaged.
    let pages = dumped.images().join("pages-1.img");
    let whole = fs::read(&pages).expect("read the pages");
    fs::write(&pages, &whole[1..]).expect("cut the pages");
    says(&piped(criu(&["show", &dir])).0, &["damaged: pages-1.img"]);
    fs::write(&pages, whole).expect("put the pages back");
    dumped.restore().verify();
}

/// A pager that was left, a terminal that is gone.
#[test]
fn it_is_no_failure_that_nobody_listens() {
    for words in [&["check"][..], &["check", "--json"], &["check", "--feature", "list"]] {
        let (nobody, pipe) = pipe2(OFlag::O_CLOEXEC).expect("make a pipe");
        drop(nobody);
        let mut command = criu(words);
        let output = command.stdout(pipe).stderr(Stdio::piped()).output().expect("run criu");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
    }
    let (nobody, pipe) = pipe2(OFlag::O_CLOEXEC).expect("make a pipe");
    drop(nobody);
    let mut command = criu(&["show", "/nowhere"]);
    let status = command.stdout(Stdio::null()).stderr(pipe).status().expect("run criu");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn what_is_no_dump_is_not_shown() {
    let scene = Scene::new("show-none");
    let (output, errors, code) = piped(criu(&["show", scene.dir().to_str().expect("UTF-8")]));
    assert_eq!((output.as_str(), code), ("", Some(1)));
    says(&errors, &["inventory.img is missing"]);
    let (_, errors, code) = piped(criu(&["show", "a", "b"]));
    assert_eq!(code, Some(1));
    says(&errors, &["show takes one directory, and not `b' as well"]);
}

#[test]
fn dumps_of_the_peer_are_shown() {
    let Some(peer) = peer() else { return };
    let scene = Scene::new("show-peer");
    let dumped = scene.start("files/open_file", &[]).dump_with(&peer, &scene.path("images"), &[]);
    let (text, ..) = piped(criu(&["show", dumped.images().to_str().expect("UTF-8")]));
    says(&text, &["made by CRIU,", "open_file (alive)", "/data", "[stack]", "stopped for"]);
    dumped.restore().verify();
}

/// A dump that is halted while it copies memory, for longer than a person's patience.
fn slow_dump(task: &Task<'_>, images: &Path, output: Stdio) {
    let mut dump = task.dump_call(images).quiet().arg("-R").command();
    dump.env("TERM", "xterm").env_remove("NO_COLOR").stdout(Stdio::null()).stderr(output);
    halted(dump, || fs::metadata(images.join("pages-1.img")).is_ok());
}

/// A run of criu, which does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `command`, and halts it once `copying`.
fn halted(mut command: Command, copying: impl Fn() -> bool) {
    let mut running = Running(command.spawn().expect("start criu"));
    drop(command);
    let pid = Pid::from_raw(i32::try_from(running.0.id()).expect("a pid"));
    let mut ended = || running.0.try_wait().expect("wait for criu");
    let over = until(
        || "criu does not copy memory".into(),
        || if ended().is_some() { Some(true) } else { copying().then_some(false) },
    );
    if !over {
        kill(pid, Signal::SIGSTOP).expect("halt criu");
        // Nothing is waited for: time passes, which is what is to be seen.
        std::thread::sleep(Duration::from_millis(1000));
        kill(pid, Signal::SIGCONT).expect("let criu go on");
    }
    let status = until(|| "criu hangs".into(), ended);
    assert!(status.success(), "criu ended with {status}");
}

/// What is drawn while the copying lasts; it may be over too soon, so there are several tries.
fn progress(what: &str, mut run: impl FnMut(Stdio)) {
    for _ in 0..10 {
        let terminal = Screen::new();
        run(terminal.end());
        let text = terminal.text();
        if text.contains(what) {
            says(&text, &["% ", " of 192 MiB, ", " MiB/s, ", " s left, ", " pages"]);
            // The line is gone at the end.
            let last = text.rsplit('\r').next().unwrap_or_default();
            assert!(!last.contains(what), "{text:?}");
            return;
        }
    }
    panic!("no progress of {what} is ever shown");
}

#[test]
fn a_long_dump_shows_its_progress_on_a_terminal_only() {
    let scene = Scene::new("progress-dump");
    let task = scene.start("memory/large", &[MIB]);
    let mut round = 0;
    progress("Dumping", |output| {
        round += 1;
        let images = scene.path(&format!("images-{round}"));
        slow_dump(&task, &images, output);
        fs::remove_dir_all(images).expect("remove the images");
    });
    let file = scene.path("said");
    slow_dump(&task, &scene.path("images"), File::create(&file).expect("make a file").into());
    assert_eq!(fs::read_to_string(file).expect("read it"), "");
    task.verify();
}

/// Who reads the terminal may be in the tree that is dumped, and read nothing until that is over.
#[test]
fn a_terminal_that_nobody_reads_does_not_hold_up_a_dump() {
    use nix::fcntl::{FcntlArg, fcntl};
    let scene = Scene::new("progress-unread");
    let task = scene.start("memory/large", &[MIB]);
    let Terminal { master: _unread, slave } = Terminal::open();
    fcntl(&slave, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("F_SETFL");
    while nix::unistd::write(&slave, &[b'x'; 64]).is_ok() {}
    fcntl(&slave, FcntlArg::F_SETFL(OFlag::empty())).expect("F_SETFL");
    slow_dump(&task, &scene.path("images"), slave.into());
    task.verify();
}

#[test]
fn a_long_restore_shows_its_progress_on_a_terminal() {
    let scene = Scene::new("progress-restore");
    let task = scene.start("memory/large", &[MIB]);
    let mut dumped = Some(task.dump(&scene.path("images")));
    progress("Restoring", |output| {
        let here: Dumped<'_> = dumped.take().expect("one at a time");
        let pid = here.pid();
        let mut restore = here.restore_call().quiet().command();
        restore.env("TERM", "xterm").env_remove("NO_COLOR").stdout(Stdio::null()).stderr(output);
        halted(restore, || resident(pid) > 4096);
        let images = scene.path("images");
        let task = here.running();
        task.signal(Signal::SIGKILL);
        dumped = Some(task.gone(&[pid], &images));
    });
}

/// Pages that a process has in memory.
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0)
}
