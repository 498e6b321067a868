//! The command line: verbs beside dump and restore, exit codes, configuration files, and the files
//! that options ask for.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Criu, Scene, state_of, tree_of, until};
use criu::images::codec::Decoder;
use criu::images::names::magic;
use criu::images::proto::{CpuinfoEntry, StatsEntry};
use criu::images::sections::SECTIONS;

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

/// Everything that is not a run of the engine ends as scripts know it.
#[test]
fn exit_codes() {
    let criu = Criu::ours();
    let code = |words: &[&str]| {
        let ran = criu.words(words).run();
        (ran.code(), ran.said().to_owned())
    };
    assert_eq!(code(&[]).0, 1);
    assert_eq!(code(&["--help"]).0, 0);
    assert_eq!(code(&["check", "--hel"]).0, 0);
    assert_eq!(code(&["-V"]).0, 0);
    says(&code(&["--version"]).1, &["Version: 4.2\n"]);
    for words in [
        &["nosuch"][..],
        &["--nosuch", "check"],
        &["check", "--ms"],
        &["check", "more"],
        &["cpuinfo"],
        &["cpuinfo", "show"],
        &["dump"],
        &["restore", "--exec-cmd"],
        &["restore", "-S"],
        &["restore", "-d", "--exec-cmd", "--", "true"],
        &["dump", "--exec-cmd", "--", "true"],
        &["restore", "--inherit-fd", "fd[3"],
        &["page-server"],
        &["lazy-pages"],
        &["pre-dump", "-t", "1"],
    ] {
        let (code, said) = code(words);
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(!said.is_empty(), "{words:?} fails without a word");
    }
    says(&code(&["exec"]).1, &["continue"]);
    assert_eq!(code(&["exec"]).0, 255);
    assert_eq!(code(&["cpuinfo", "dump", "-D", "/proc"]).0, 255);
}

/// What is wrong with a line takes a line, and one more says where to read how it goes.
#[test]
fn a_line_that_is_not_understood() {
    for (words, cause) in [
        (&["dump", "--nosuch"][..], "unrecognized option '--nosuch'"),
        (&["dump", "-t", "abc"], "invalid argument for -t: `abc' is not a whole number"),
        (&["dump", "-t", "0"], "invalid argument for -t: 0 is not the id of a process"),
        (&["dump", "--leave"], "option '--leave' is ambiguous"),
        (
            &["dump", "--ghost-limit", "big"],
            "invalid argument for --ghost-limit: `big' is no number of bytes",
        ),
        (&["dump", "--network-lock=x"], "`x' is not known; give one of: iptables,"),
        (&["dump", "--manage-cgroups=x"], "`x' is not known; give one of: none, props"),
        (&["restore", "--inherit-fd", "x"], "`x' does not have the form fd[NUM]:RES"),
        (&["restore", "-J", "uts"], "`uts' has no `:' between its two parts"),
        (&["restore", "-J", "x:1"], "`x', a namespace to join, is no kind of namespace"),
        (&["nosuch"], "there is no command `nosuch'"),
        (&["-v4"], "the line has no command"),
    ] {
        let said = Criu::ours().words(words).run().refused();
        says(&said, &[cause, "\nTry -h|--help for more info"]);
        assert_eq!(said.lines().count(), 2, "{words:?}: {said}");
    }
}

/// A script that says no to a dump which is whole ends it with another code than one before it.
#[test]
fn exit_codes_of_scripts() {
    let scene = Scene::new("script-codes");
    let task = scene.start("task/busy", &[]);
    for (stage, code) in [("pre-dump", 1), ("post-dump", 255)] {
        let text = format!("#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != {stage} ]\n");
        let script = scene.script(&format!("no-{stage}"), &text);
        let call = task.dump_call(&scene.path("images")).arg("--action-script").arg(script);
        assert_eq!(call.run().code(), code, "{stage}");
    }
    task.verify();
}

/// The log goes to the work directory, the pid file is not replaced, a descriptor is closed.
#[test]
fn work_directory() {
    let scene = Scene::new("work-dir");
    let (images, work) = (scene.path("images"), scene.path("work"));
    fs::create_dir(&work).expect("make a directory");
    let dumped = scene.start("task/busy", &[]).dump(&images);
    let call = |images: &Path| Criu::ours().words(&["restore", "-d", "-D"]).arg(images);
    let call = |images: &Path| {
        call(images).arg("-W").arg(&work).args(["-o", "log", "--pidfile", "pid", "--close", "99"])
    };
    let task = dumped.restored(call(&images).run());
    assert_eq!(text_of(&work.join("pid")), task.pid().to_string());
    assert!(work.join("log").exists() && work.join("stats-restore").exists());
    let dumped = task.dump(&images);
    assert_eq!(call(&images).run().code(), 1);
    says(&text_of(&work.join("log")), &["create pid file pid: File exists"]);
    fs::remove_file(work.join("pid")).expect("remove the pid file");
    dumped.restored(call(&images).run()).verify();
}

/// Facts of the processor are written and compared.
#[test]
fn cpuinfo() {
    let scene = Scene::new("cpuinfo");
    let criu = Criu::ours();
    let call = |action: &str| criu.words(&["cpuinfo", action, "-D"]).arg(scene.dir());
    says(&call("check").run().refused(), &["cpuinfo.img is missing"]);
    call("dump").run().ok();
    for caps in ["--cpu-cap", "--cpu-cap=ins", "--cpu-cap=none", "--cpu-cap=all,^ins"] {
        call("check").arg(caps).run().ok();
    }
    let path = scene.path("cpuinfo.img");
    let bytes = fs::read(&path).expect("read the image");
    let mut decoder =
        Decoder::new("cpuinfo.img", &bytes, SECTIONS.cpuinfo.magic).expect("an image");
    let entry: CpuinfoEntry = decoder.entry().expect("decodes").expect("one entry");
    assert_eq!(entry.x86_entry[0].capability.len(), 19);
    fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut the image");
    says(&call("check").run().refused(), &["cut short"]);
}

/// `--cpu-cap` makes a dump write what a restore compares.
#[test]
fn cpu_capabilities_of_a_dump() {
    let scene = Scene::new("cpu-cap");
    let images = scene.path("images");
    let task = scene.start("task/busy", &[]);
    let dumped = task.dump_with(&Criu::ours(), &images, &["--cpu-cap=ins"]);
    let path = images.join("cpuinfo.img");
    let kept = fs::read(&path).expect("read cpuinfo.img");
    fs::remove_file(&path).expect("remove cpuinfo.img");
    fs::remove_file(images.join("manifest")).expect("remove the manifest");
    says(&dumped.restore_call().arg("--cpu-cap").run().refused(), &["cpuinfo.img is missing"]);
    fs::write(&path, kept).expect("put cpuinfo.img back");
    dumped.restore_with(&Criu::ours(), &["--cpu-cap"]).verify();
}

/// A limit above 4 GiB is not cut off to 32 bits.
#[test]
fn a_large_limit_of_unlinked_files() {
    let scene = Scene::new("ghost-limit");
    let task = scene.start("files/unlinked", &[]);
    let call =
        |limit: &str| task.dump_call(&scene.path("images")).args(["-R", "--ghost-limit", limit]);
    says(&call("1").run().refused(), &["more than the 1 allowed", "--ghost-limit"]);
    for limit in ["4294967297", "5G", "1048576K"] {
        call(limit).run().ok();
    }
    task.verify();
}

/// Pages that a newer dump has are taken out of the older one, which is not whole any more.
#[test]
fn dedup() {
    let scene = Scene::new("dedup");
    let (old, new) = (scene.path("old"), scene.path("new"));
    let task = scene.start("memory/large", &["8"]);
    let pids = tree_of(task.pid());
    task.dump_call(&old).arg("-R").run().ok();
    let dedup = |images: &Path| Criu::ours().call("dedup", images).run();
    dedup(&old).ok();
    let dumped = task.dump(&new);
    std::os::unix::fs::symlink("../old", new.join("parent")).expect("link the parent");
    let blocks = || fs::metadata(old.join("pages-1.img")).expect("pages").blocks();
    let before = blocks();
    dedup(&new).ok();
    assert!(blocks() < before / 4, "{} of {before} blocks are left", blocks());
    let message = scene.on_disk(pids[0], &old).restore_call().run().refused();
    says(&message, &["pages-1.img", "taken out", "newer dump"]);
    dumped.restore().verify();
}

/// `continue` sets a tree going that a dump left stopped.
#[test]
fn continue_after_leave_stopped() {
    let scene = Scene::new("continue");
    let task = scene.start("tree/crowd", &[]);
    let pids = tree_of(task.pid());
    task.dump_call(&scene.path("images")).arg("--leave-stopped").run().ok();
    for pid in &pids {
        until(
            || format!("pid {pid} is {:?}", state_of(*pid)),
            || (state_of(*pid) == Some('T')).then_some(()),
        );
    }
    let root = task.pid().to_string();
    Criu::ours().words(&["continue", "-t", &root]).run().ok();
    task.verify();
    scene.until_gone(&pids);
    says(&Criu::ours().words(&["continue", "-t", &root]).run().refused(), &["no such process"]);
    says(&Criu::ours().words(&["continue"]).run().refused(), &["--tree"]);
}

fn stats(dir: &Path, name: &str) -> StatsEntry {
    let bytes = fs::read(dir.join(name)).expect("read statistics");
    let mut decoder = Decoder::new(name, &bytes, magic::STATS).expect("an image");
    decoder.entry().expect("decodes").expect("one entry")
}

/// Figures are stored in the work directory, and printed where that is asked for.
#[test]
fn statistics() {
    let scene = Scene::new("stats");
    let (images, work) = (scene.path("images"), scene.path("work"));
    fs::create_dir_all(&images).expect("make directories");
    fs::create_dir(&work).expect("make directories");
    let task = scene.start("memory/cow", &[]);
    let pids = tree_of(task.pid());
    let place = |call: crate::common::Call| call.arg("-W").arg(&work).arg("--display-stats");
    let ran = place(task.dump_call(&images)).run();
    says(ran.said(), &["Displaying dump stats:\nFreezing time: ", "\nMemory pages written: "]);
    ran.ok();
    let dump = stats(&work, "stats-dump").dump.expect("of a dump");
    let (frozen, written) = (dump.frozen_time, dump.memwrite_time);
    assert!(frozen >= written, "frozen {frozen} us, writing {written} us");
    let size: u64 = (1..)
        .map_while(|id| fs::metadata(images.join(format!("pages-{id}.img"))).ok())
        .map(|pages| pages.len() / 4096)
        .sum();
    assert_eq!(dump.pages_written + dump.shpages_written(), size);

    let dumped = task.gone(&pids, &images);
    let ran = place(dumped.restore_call()).run();
    says(ran.said(), &["Displaying restore stats:\nPages compared: ", "\nForking time: "]);
    let task = dumped.restored(ran);
    let restore = stats(&work, "stats-restore").restore.expect("of a restore");
    assert!(restore.forking_time < restore.restore_time);
    assert!(restore.pages_skipped_cow > 0, "nothing is shared: {restore:?}");
    assert!(restore.pages_skipped_cow <= restore.pages_compared);
    assert!(restore.pages_restored() > 0, "{restore:?}");
    task.verify();
}

/// A directory of plugins may be named as long as there is none in it.
#[test]
fn plugins() {
    let scene = Scene::new("plugins");
    let task = scene.start("task/busy", &[]);
    let lib = scene.path("lib");
    fs::create_dir(&lib).expect("make a directory");
    task.dump_call(&scene.path("images")).args(["-R", "-L"]).arg(&lib).run().ok();
    fs::write(lib.join("gpu.so"), "").expect("make a plugin");
    let call = task.dump_call(&scene.path("images")).args(["-R", "-L"]).arg(&lib);
    says(&call.run().refused(), &["--libdir"]);
    task.verify();
}

/// Each restored task has its log.
#[test]
fn a_log_for_each_task() {
    let scene = Scene::new("log-pid");
    let images = scene.path("images");
    let dumped = scene.start("helpers/family", &[]).dump(&images);
    let task = dumped.restore_with(&Criu::ours(), &["--log-pid"]);
    let log = text_of(&images.join(format!("restore.log.{}", task.pid())));
    says(&log, &["tables", "credentials"]);
    let logs = fs::read_dir(&images).expect("list").flatten();
    let logs = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("restore.log."));
    let all = text_of(&images.join("restore.log"));
    assert!(logs.count() > 3);
    assert!(!all.contains("credentials"), "what is in the tasks' logs is in the other, too");
    task.verify();
}

/// After the restore, the command takes the place of the engine, as the parent of the root.
#[test]
fn exec_cmd() {
    let scene = Scene::new("exec-cmd");
    let images = scene.path("images");
    let dumped = scene.start("helpers/speaker", &[]).dump(&images);
    let text = "#!/bin/sh\ngrep PPid /proc/$1/status >$0.parent\necho $$ $* >$0.said\n";
    let script = scene.script("command", text);
    let call = Criu::ours().call("restore", &images).arg("--exec-cmd").arg("--");
    let mut call = call.arg(&script).arg(dumped.pid().to_string()).arg("-x").command();
    let mut child = call.spawn().expect("start the restore");
    let task = dumped.running();
    assert!(child.wait().expect("wait").success());
    let said = text_of(&scene.path("command.said"));
    assert_eq!(said, format!("{} {} -x\n", child.id(), task.pid()));
    let parent = text_of(&scene.path("command.parent"));
    assert_eq!(parent, format!("PPid:\t{}\n", child.id()));
    // The command has ended: it is our child now.
    task.verify();
}

/// Names of directories, files and words of commands are bytes, and need not be text.
#[test]
fn names_are_bytes() {
    let scene = Scene::new("bytes");
    let name = |bytes: &[u8]| scene.dir().join(OsStr::from_bytes(bytes));
    let (images, script) = (name(b"im\xffages"), name(b"s\xfecript"));
    let text = "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION >>\"$0.said\"\n";
    fs::rename(scene.script("script", text), &script).expect("rename a script");
    let task = scene.start("task/busy", &[]);
    let pids = tree_of(task.pid());
    let log = OsStr::from_bytes(b"d\xfd.log");
    let call = Criu::ours().dump(task.pid(), &images).arg("-o").arg(log);
    call.arg("--action-script").arg(&script).run().ok();
    let dumped = task.gone(&pids, &images);
    says(&text_of(&images.join(log)), &["Dumping finished"]);
    says(&text_of(&name(b"s\xfecript.said")), &["pre-dump", "post-dump"]);
    Criu::ours().words(&["show"]).arg(&images).run().ok();

    let config = name(b"c\xfconf");
    let line =
        [b"images-dir \"", images.as_os_str().as_bytes(), b"\"\npidfile p\xfb # \xfa\n"].concat();
    fs::write(&config, line).expect("write a file");
    let call = Criu::ours().words(&["restore", "-d", "--config"]).arg(&config);
    let task = dumped.restored(call.run());
    assert_eq!(text_of(&images.join(OsStr::from_bytes(b"p\xfb"))), task.pid().to_string());

    let dumped = task.dump(&images);
    let said = name(b"sa\xfaid");
    let call = Criu::ours().call("restore", &images).arg("--exec-cmd").arg("--").arg("touch");
    call.arg(&said).run().ok();
    assert!(said.exists());
    dumped.running().verify();
    let message =
        Criu::ours().words(&["restore", "-D"]).arg(name(b"no\xff\nwhere")).run().refused();
    says(&message, &[r#"no\xFF\nwhere""#, "No such file"]);
}

/// Where `criu` says its configuration comes from: each source names another log.
struct Sources<'a> {
    scene: &'a Scene,
}

impl Sources<'_> {
    fn new(scene: &Scene) -> Sources<'_> {
        let write = |path: &str, log: &str| {
            let path = scene.path(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
            fs::write(path, format!("log-file {log} # of its own\n")).expect("write a file");
        };
        write("etc/criu/default.conf", "global.log");
        write("home/.criu/default.conf", "user.log");
        write("env.conf", "env.log");
        write("named.conf", "named.log");
        Sources { scene }
    }

    /// The log that a check writes to; `/etc` is another for it.
    fn log(&self, environment: &[(&str, &str)], words: &[&str]) -> String {
        let work = self.scene.path("work");
        fs::create_dir_all(&work).expect("make a directory");
        let mut command = Command::new("unshare");
        let mount = r#"mount --bind "$1" /etc && shift && exec "$@""#;
        command.args(["-m", "sh", "-c", mount, "sh"]).arg(self.scene.path("etc"));
        command.args(Criu::ours().words(&["check", "--feature", "mem_dirty_track", "-W"]).words());
        command.arg(&work).args(words).env_remove("HOME").env_remove("CRIU_CONFIG_FILE");
        for (name, path) in environment {
            command.env(name, self.scene.path(path));
        }
        let output = command.output().expect("run unshare");
        let logs = fs::read_dir(&work).expect("list").flatten();
        let logs: Vec<String> =
            logs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        fs::remove_dir_all(&work).expect("clear");
        assert!(logs.len() < 2, "{logs:?}: {output:?}");
        logs.first().cloned().unwrap_or_else(|| format!("none: {output:?}"))
    }
}

/// A later source overrides: global, of the user, of the environment, named, command line.
#[test]
fn configuration_files() {
    let scene = Scene::new("config");
    let sources = Sources::new(&scene);
    let named = scene.path("named.conf").display().to_string();
    let home = ("HOME", "home");
    let env = ("CRIU_CONFIG_FILE", "env.conf");
    assert_eq!(sources.log(&[], &[]), "global.log");
    assert_eq!(sources.log(&[home], &[]), "user.log");
    assert_eq!(sources.log(&[home, env], &[]), "env.log");
    assert_eq!(sources.log(&[home, env], &["--config", &named]), "named.log");
    assert_eq!(sources.log(&[home, env], &["--conf", &named]), "named.log");
    assert_eq!(sources.log(&[home, env], &["--config", &named, "-o", "own.log"]), "own.log");
    assert_eq!(sources.log(&[home, env], &["--no-default-config"]), "env.log");
    assert_eq!(sources.log(&[("HOME", "nowhere")], &[]), "global.log");
    let none = sources.log(&[home], &["--no-default-config"]);
    assert!(none.starts_with("none"), "{none}");
}

/// What is wrong in a file is said with its place.
#[test]
fn a_wrong_configuration_file() {
    let scene = Scene::new("config-wrong");
    let path = scene.path("wrong.conf");
    fs::write(&path, "tcp-close\n\nnosuch 1\n").expect("write a file");
    let ran = Criu::ours().words(&["check", "--config"]).arg(&path).run();
    assert_eq!(ran.code(), 1);
    says(ran.said(), &["wrong.conf", "line 3", "nosuch"]);
    let words = ["check", "--feature", "list", "--config", "/nowhere.conf"];
    let ran = Criu::ours().words(&words).run();
    says(ran.said(), &["configuration file /nowhere.conf: there is none"]);
    ran.ok();
}
