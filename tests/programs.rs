//! Real programs, dumped while they are busy and restored: their results are right.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use crate::common::terminals::Terminal;
use crate::common::{Criu, Scene, Task, installed, state_of, ticks_of, tree_of, until};
use nix::sys::signal::Signal;

/// Starts `words` and waits until `busy` holds.
fn busy<'a>(
    scene: &'a Scene,
    words: &[&str],
    what: &str,
    mut probe: impl FnMut(i32) -> bool,
) -> Task<'a> {
    let mut command = scene.launcher();
    command.args(words).current_dir(scene.dir()).stdin(Stdio::null());
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", scene.dir());
    let output = fs::File::create(scene.path("output")).expect("make a log");
    command.stdout(output.try_clone().expect("another descriptor")).stderr(output);
    let task = scene.spawn_command(command);
    let pid = task.pid();
    until(
        || format!("{what} does not get busy: {}", scene.complaints()),
        || {
            assert!(state_of(pid) != Some('Z'), "{what} ended too early: {}", scene.complaints());
            probe(pid).then_some(())
        },
    );
    task
}

/// Dumped and restored several times, each time a bit further on; ends with 0 when it has come
/// through the gate.
fn there_and_back(scene: &Scene, mut task: Task<'_>, times: u32, gate: &Path) {
    for time in 0..times {
        let images = scene.path(&format!("images-{time}"));
        task = task.dump(&images).restore();
        until_further(task.pid());
    }
    let _open = open_gate(gate);
    let code = task.exit_code();
    assert_eq!(code, 0, "{}", scene.complaints());
}

/// Waits until a tree has used the processor again, or waits for something itself.
fn until_further(root: i32) {
    let used = || tree_of(root).into_iter().map(ticks_of).sum::<u64>();
    let begun = used();
    let asleep = || tree_of(root).into_iter().all(|pid| state_of(pid) != Some('R'));
    until(
        || format!("pid {root} does not go on"),
        || (used() > begun + 1 || asleep()).then_some(()),
    );
}

/// What a script opens at its end, so that it is not over before it was dumped often enough.
fn gate(scene: &Scene) -> std::path::PathBuf {
    let path = scene.path("gate");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("make a gate");
    path
}

/// The gate stays open as long as the file.
fn open_gate(path: &Path) -> fs::File {
    fs::File::options().read(true).write(true).open(path).expect("open the gate")
}

fn file_grows_to(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() >= size)
}

/// An interpreter with threads, a generator, an open file and a running hash.
#[test]
fn python() {
    let Some(python) = installed("python3") else { return };
    let scene = Scene::new("python");
    let script = "\
import hashlib, threading, sys
out = open('progress', 'w')
hash = hashlib.sha256()
seen = []
def count():
    for i in range(200000):
        seen.append(i * i)
thread = threading.Thread(target=count)
thread.start()
def primes():
    n, found = 2, []
    while True:
        if all(n % p for p in found if p * p <= n):
            found.append(n)
            yield n
        n += 1
for index, prime in zip(range(3500), primes()):
    hash.update(str(prime).encode())
    if index % 100 == 0:
        print(index, prime, file=out, flush=True)
thread.join()
open('gate')
assert len(seen) == 200000 and seen[-1] == 199999 ** 2
print(prime, hash.hexdigest(), file=open('result', 'w'))
";
    fs::write(scene.path("script.py"), script).expect("write the script");
    let words = [&python.to_string_lossy(), "script.py"];
    let progress = scene.path("progress");
    let gate_at = gate(&scene);
    let task = busy(&scene, &words, "python", |_| file_grows_to(&progress, 20));
    there_and_back(&scene, task, 3, &gate_at);
    let result = fs::read_to_string(scene.path("result")).expect("the result");
    assert!(result.starts_with("32609 "), "the 3500th prime is not {result}");
    // The same without interruption.
    let plain = Scene::new("python-plain");
    fs::write(plain.path("script.py"), script).expect("write the script");
    let _open = open_gate(&gate(&plain));
    let task = busy(&plain, &words, "python", |_| true);
    assert_eq!(task.exit_code(), 0);
    let expected = fs::read_to_string(plain.path("result")).expect("the result");
    assert_eq!(result, expected);
}

/// An interpreter with a child at the other end of a pipe.
#[test]
fn perl() {
    let Some(perl) = installed("perl") else { return };
    let scene = Scene::new("perl");
    let script = r#"
$| = 1;
open(my $progress, '>', 'progress'); $progress->autoflush(1);
my $child = open(my $pipe, '-|');
if (!$child) { for my $i (1 .. 300000) { print $i % 7, "\n"; } exit 3; }
my ($sum, $lines, %count) = (0, 0);
while (<$pipe>) {
    chomp; $sum += $_ * $_; $count{$_}++; $lines++;
    print $progress "$lines\n" if $lines % 10000 == 0;
}
close($pipe);
my $status = $? >> 8;
open(my $gate, '<', 'gate');
open(my $result, '>', 'result');
print $result "$lines $sum $status ", join(',', map { $count{$_} } sort keys %count), "\n";
"#;
    fs::write(scene.path("script.pl"), format!("use IO::Handle;\n{script}")).expect("write it");
    let progress = scene.path("progress");
    let words = [&perl.to_string_lossy(), "script.pl"];
    let gate_at = gate(&scene);
    let task = busy(&scene, &words, "perl", |_| file_grows_to(&progress, 6));
    there_and_back(&scene, task, 2, &gate_at);
    let result = fs::read_to_string(scene.path("result")).expect("the result");
    assert_eq!(result, "300000 3899988 3 42857,42858,42857,42857,42857,42857,42857\n");
}

/// make with two jobs, shells, compilers and assemblers, which come and go.
#[test]
fn gcc_and_make() {
    let (Some(make), Some(_)) = (installed("make"), installed("gcc")) else { return };
    let scene = Scene::new("make");
    let mut objects = String::new();
    let mut sum = String::new();
    for file in 0..12 {
        let functions: String = (0..400)
            .map(|i| format!("int f{file}_{i}(int x) {{ return x * {i} + x / ({i} + 1); }}\n"))
            .collect();
        fs::write(scene.path(&format!("part{file}.c")), functions).expect("write a source");
        objects.push_str(&format!(" part{file}.o"));
        sum.push_str(&format!(" + f{file}_399({file})"));
    }
    let declarations: String = (0..12).map(|file| format!("int f{file}_399(int);")).collect();
    let main = format!(
        "#include <stdio.h>\n{declarations}\nint main(void) {{ printf(\"%d\\n\", 0{sum}); }}\n"
    );
    fs::write(scene.path("main.c"), main).expect("write a source");
    let makefile = format!(
        "program: main.o{objects}\n\tgcc -o $@ $^ && : <gate\n%.o: %.c\n\tgcc -O2 -pipe -c -o $@ $<\n"
    );
    fs::write(scene.path("Makefile"), makefile).expect("write the makefile");
    let first = scene.path("part0.o");
    let gate_at = gate(&scene);
    let words = [&make.to_string_lossy(), "-j2"];
    let task = busy(&scene, &words, "make", |_| first.exists());
    there_and_back(&scene, task, 3, &gate_at);
    let output = std::process::Command::new(scene.path("program")).output().expect("run it");
    let expected: u32 = (0..12).map(|x| x * 399 + x / 400).sum();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected.to_string());
}

/// Bytes that compress neither well nor badly.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 58) as u8 + b' '
    };
    (0..len).map(|_| next()).collect()
}

/// tar, which reads many files and runs gzip at the other end of a pipe.
#[test]
fn tar_and_gzip() {
    let (Some(tar), Some(_)) = (installed("tar"), installed("gzip")) else { return };
    let scene = Scene::new("tar");
    fs::create_dir(scene.path("tree")).expect("make a directory");
    let bytes = sample(64 << 20);
    for (number, part) in bytes.chunks(400_000).enumerate() {
        fs::write(scene.path(&format!("tree/file{number}")), part).expect("write a file");
    }
    let archive = scene.path("archive.tar.gz");
    // Before the end, after 6000 records of 10 KiB, it runs a shell that waits.
    let gate_at = gate(&scene);
    let tar = tar.to_string_lossy();
    let words = |verb| {
        [
            &*tar,
            verb,
            "archive.tar.gz",
            "--checkpoint=6000",
            "--checkpoint-action=exec=: <gate",
            "tree",
        ]
    };
    let task = busy(&scene, &words("-czf"), "tar", |_| file_grows_to(&archive, 1));
    there_and_back(&scene, task, 2, &gate_at);
    fs::rename(scene.path("tree"), scene.path("original")).expect("move the tree away");
    let unpacked = scene.path("tree/file3");
    let task = busy(&scene, &words("-xzf"), "tar", |_| unpacked.exists());
    there_and_back(&scene, task, 2, &gate_at);
    for (number, part) in bytes.chunks(400_000).enumerate() {
        let name = format!("tree/file{number}");
        assert_eq!(fs::read(scene.path(&name)).expect("a file"), part, "{name} differs");
    }
}

/// gzip, from one file to another, run by a shell that waits at its end.
#[test]
fn gzip() {
    let Some(gzip) = installed("gzip") else { return };
    let scene = Scene::new("gzip");
    let bytes = sample(32 << 20);
    fs::write(scene.path("data"), &bytes).expect("write the data");
    let packed = scene.path("data.gz");
    let gate_at = gate(&scene);
    let line = format!("{} -9 data && : <gate", gzip.display());
    let task = busy(&scene, &["sh", "-c", &line], "gzip", |_| file_grows_to(&packed, 1));
    there_and_back(&scene, task, 3, &gate_at);
    let output = std::process::Command::new(gzip)
        .args(["-dc"])
        .arg(&packed)
        .output()
        .expect("unpack the data");
    assert!(output.stdout == bytes, "what was packed differs");
}

/// git, repacking a repository.
#[test]
fn git() {
    let Some(git) = installed("git") else { return };
    let scene = Scene::new("git");
    let run = |words: &[&str]| {
        let output = std::process::Command::new(&git)
            .args(["-c", "user.name=n", "-c", "user.email=e@e", "-c", "gc.auto=0"])
            .args(words)
            .current_dir(scene.dir())
            .env("HOME", scene.dir())
            .output()
            .expect("run git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["init", "-q", "."]);
    let bytes = sample(6 << 20);
    for round in 0..6usize {
        for (number, part) in bytes.chunks(60_000).enumerate() {
            let mut text = part.to_vec();
            text[..9].copy_from_slice(format!("round{round:04}").as_bytes());
            fs::write(scene.path(&format!("file{number}")), text).expect("write a file");
        }
        run(&["add", "--", ":/file*"]);
        run(&["commit", "-q", "-m", "more"]);
    }
    let commit = run(&["rev-parse", "HEAD"]);
    let gate_at = gate(&scene);
    let repack = "repack -a -d -f --depth=50 --window=120";
    let line = format!("{} {repack} && : <gate", git.display());
    // The shell, git, and what that runs.
    let task = busy(&scene, &["sh", "-c", &line], "git", |pid| tree_of(pid).len() > 2);
    there_and_back(&scene, task, 2, &gate_at);
    assert_eq!(run(&["rev-parse", "HEAD"]), commit);
    run(&["fsck", "--full", "--strict"]);
    assert_eq!(run(&["count-objects", "-v"]).lines().next(), Some("count: 0"));
}

/// bash as a job of a shell: it computes, waits for a line from the terminal, runs a pipeline.
#[test]
fn bash() {
    let Some(bash) = installed("bash") else { return };
    let scene = Scene::new("bash");
    let script = "\
trap 'echo trapped >>result' USR2
declare -A table
for ((i = 0; i < 150000; i++)); do
    table[$((i % 10))]=$i
    ((i == 20000)) && echo busy >busy
done
echo \"${table[3]} ${table[9]}\" >result
read -r line
echo \"line: $line\" >>result
seq 1 1000 | while read -r n; do echo $((n * 2)); done | tail -n 1 >>result
kill -USR2 $$
";
    fs::write(scene.path("script"), script).expect("write the script");
    let mut terminal = Terminal::open();
    let job = |words: &[OsString]| {
        let end = || terminal.end();
        let mut command = scene.launcher();
        command.arg("-j").args(words).current_dir(scene.dir());
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("PATH", "/usr/bin:/bin");
        scene.spawn_command(command)
    };
    let shell = job(&[bash.into(), "script".into()]);
    let begun = scene.path("busy");
    until(|| "bash does not get busy".into(), || begun.exists().then_some(()));
    let pid = tree_of(shell.pid())[1];
    let images = scene.path("images");
    Criu::ours().dump(pid, &images).arg("--shell-job").run().ok();
    assert_eq!(shell.exit_code(), 128 + Signal::SIGKILL as i32);
    let words = Criu::ours().call("restore", &images).arg("--shell-job").words();
    let shell = job(&words);
    terminal.master.write_all(b"typed later\n").expect("type");
    let code = shell.exit_code();
    let result = fs::read_to_string(scene.path("result")).unwrap_or_default();
    let mut screen = [0; 4096];
    let shown = if code == 0 { 0 } else { terminal.master.read(&mut screen).unwrap_or(0) };
    assert_eq!(code, 0, "{result}{}", String::from_utf8_lossy(&screen[..shown]));
    assert_eq!(result, "149993 149999\nline: typed later\n2000\ntrapped\n");
}
