//! When something fails, the dumpee runs on as it was, or the restore leaves no trace; the message
//! says what happened to which object.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Criu, Dumped, Scene, Task, alive, tree_of, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[track_caller]
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "the message does not say {word:?}:\n{message}");
    }
}

/// The tree is all there, and finds nothing wrong with itself.
#[track_caller]
fn unharmed(task: Task<'_>, pids: &[i32]) {
    for pid in pids {
        assert!(alive(*pid), "pid {pid} is gone");
    }
    task.verify();
}

/// A restore that has to fail, and must leave no process behind.
#[track_caller]
fn no_trace(dumped: &Dumped<'_>) -> String {
    let message = dumped.restore_call().run().refused();
    assert!(!alive(dumped.pid()), "a process is left over after a failed restore:\n{message}");
    message
}

/// The disk is full before the dump is complete.
#[test]
fn disk_full() {
    let mut scene = Scene::new("disk-full");
    let small = scene.small_disk("small", "4m");
    let task = scene.start("memory/large", &["64"]);
    let pids = tree_of(task.pid());
    let images = small.join("images");
    let message = task.dump_call(&images).run().refused();
    says(&message, &["No space left on device"]);
    assert!(!images.join("inventory.img").exists(), "half a dump looks like a whole one");
    unharmed(task, &pids);
}

/// The image directory cannot be written.
#[test]
fn images_directory_read_only() {
    use nix::mount::{MsFlags, mount};
    let mut scene = Scene::new("read-only");
    let disk = scene.small_disk("disk", "1m");
    let none: Option<&str> = None;
    mount(none, &disk, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).expect("remount");
    let task = scene.start("tree/crowd", &[]);
    let pids = tree_of(task.pid());
    let log = scene.path("dump.log");
    let call = Criu::ours().dump(task.pid(), &disk).arg("-W").arg(scene.dir());
    let ran = call.log_at(&log).run();
    says(&ran.refused(), &["Read-only file system"]);
    unharmed(task, &pids);
}

/// There is no image directory.
#[test]
fn images_directory_missing() {
    let scene = Scene::new("no-images");
    let task = scene.start("task/busy", &[]);
    let images = scene.path("nowhere");
    let call = Criu::ours().call("dump", &images).arg("-t").arg(task.pid().to_string());
    says(&call.run().refused(), &["nowhere", "No such file or directory"]);
    task.verify();
}

/// A process to dump that does not exist.
#[test]
fn no_such_process() {
    let scene = Scene::new("no-process");
    let mut gone = Command::new("true").spawn().expect("run true");
    let pid = i32::try_from(gone.id()).expect("a pid");
    gone.wait().expect("wait for true");
    let message = Criu::ours().dump(pid, &scene.path("images")).run().refused();
    says(&message, &[&pid.to_string()]);
}

/// The dumpee is killed while its memory is being written.
#[test]
fn dumpee_dies_half_way() {
    let scene = Scene::new("dies");
    for round in 0..8u64 {
        let task = scene.start("memory/large", &["300"]);
        let pid = task.pid();
        let images = scene.path(&format!("images-{round}"));
        let mut dump = task.dump_call(&images).command();
        dump.stdout(Stdio::null()).stderr(Stdio::null());
        let mut dump = dump.spawn().expect("start a dump");
        // At another place each time: from its beginning to nearly its end.
        let written = || fs::metadata(images.join("pages-1.img")).map_or(0, |pages| pages.len());
        until(
            || "the dump does not get so far".into(),
            || {
                let begun = images.join("dump.log").exists() && written() >= round * (40 << 20);
                (begun || dump.try_wait().ok()??.code().is_some()).then_some(())
            },
        );
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let status =
            until(|| "the dump hangs".into(), || dump.try_wait().expect("wait for the dump"));
        assert_eq!(task.exit_code(), 128 + Signal::SIGKILL as i32);
        assert!(
            status.success() || !images.join("inventory.img").exists(),
            "the dump failed, and yet looks complete"
        );
    }
}

/// One of the pids belongs to somebody else by now.
#[test]
fn pid_taken() {
    let scene = Scene::new("pid-taken");
    let task = scene.start("task/busy", &[]);
    let dumped = scene.on_disk(task.pid(), &scene.path("images"));
    task.dump_call(dumped.images()).arg("--leave-running").run().ok();
    let message = dumped.restore_call().run().refused();
    says(&message, &[&task.pid().to_string()]);
    // Who has the pid is not touched.
    task.verify();
}

/// A thread's number is taken: by another process, before the restore.
#[test]
fn images_of_a_living_tree() {
    let scene = Scene::new("living-tree");
    let task = scene.start("tree/crowd", &[]);
    let pids = tree_of(task.pid());
    let dumped = scene.on_disk(task.pid(), &scene.path("images"));
    task.dump_call(dumped.images()).arg("--leave-running").run().ok();
    dumped.restore_call().run().refused();
    unharmed(task, &pids);
}

fn dumped_file_user(scene: &Scene) -> Dumped<'_> {
    scene.start("files/open_file", &[]).dump(&scene.path("images"))
}

/// A file that was open is gone.
#[test]
fn file_gone() {
    let scene = Scene::new("file-gone");
    let dumped = dumped_file_user(&scene);
    fs::remove_file(scene.path("data")).expect("remove the file");
    says(&no_trace(&dumped), &["/data"]);
}

/// A file that was open has another size.
#[test]
fn file_changed() {
    let scene = Scene::new("file-changed");
    let dumped = dumped_file_user(&scene);
    let file = OpenOptions::new().write(true).open(scene.path("data")).expect("open the file");
    file.set_len(5).expect("cut the file");
    says(&no_trace(&dumped), &["/data"]);
    // Put right again, it is restored.
    file.set_len(4096).expect("lengthen the file");
    dumped.restore().verify();
}

/// A file that was open for writing has other permissions.
#[test]
fn file_mode_changed() {
    let scene = Scene::new("file-mode");
    let dumped = dumped_file_user(&scene);
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scene.path("data"), all).expect("change the mode");
    says(&no_trace(&dumped), &["/data"]);
}

/// The program itself is gone.
#[test]
fn executable_gone() {
    let scene = Scene::new("exe-gone");
    let dumped = scene.start("task/busy", &[]).dump(&scene.path("images"));
    fs::remove_file(scene.program("task/busy")).expect("remove the program");
    says(&no_trace(&dumped), &["/busy"]);
}

/// An action script that says no at this stage.
fn refusing_script(scene: &Scene, stage: &str) -> std::path::PathBuf {
    let text = format!("#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" != {stage} ]\n");
    scene.script("script", &text)
}

/// An action script refuses the dump, before it and when it is nearly over.
#[test]
fn script_refuses_the_dump() {
    for stage in ["pre-dump", "post-dump"] {
        let scene = Scene::new("script-dump");
        let task = scene.start("tree/crowd", &[]);
        let pids = tree_of(task.pid());
        let script = refusing_script(&scene, stage);
        let call = task.dump_call(&scene.path("images")).arg("--action-script").arg(script);
        says(&call.run().refused(), &["script"]);
        unharmed(task, &pids);
    }
}

/// An action script refuses the restore.
#[test]
fn script_refuses_the_restore() {
    for stage in ["pre-restore", "post-restore"] {
        let scene = Scene::new("script-restore");
        let task = scene.start("tree/crowd", &[]);
        let pids = tree_of(task.pid());
        let dumped = task.dump(&scene.path("images"));
        let script = refusing_script(&scene, stage);
        let call = dumped.restore_call().arg("--action-script").arg(script);
        says(&call.run().refused(), &["script"]);
        scene.until_gone(&pids);
        dumped.restore().verify();
    }
}

/// Every image of the directory, cut short or altered, one at a time.
#[test]
fn damaged_images() {
    let scene = Scene::new("damaged");
    let dumped = scene.start("files/open_file", &[]).dump(&scene.path("images"));
    let names: Vec<_> = fs::read_dir(dumped.images())
        .expect("list the images")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect();
    for path in &names {
        let whole = fs::read(path).expect("read an image");
        if whole.is_empty() {
            continue;
        }
        damage(&dumped, path, &whole[..whole.len() - 1]);
        damage(&dumped, path, &whole[..whole.len() / 2]);
        let mut altered = whole.clone();
        altered[0] ^= 0x40;
        damage(&dumped, path, &altered);
        let mut altered = whole.clone();
        let last = altered.len() - 1;
        altered[last] ^= 0x01;
        damage(&dumped, path, &altered);
        fs::write(path, &whole).expect("put an image back");
    }
    // The directory is as it was.
    dumped.restore().verify();
}

/// One bit of many pages is not what was dumped. So much is not read before the restore begins; it is
/// noticed while it is copied, and nothing has run then.
#[test]
fn one_bit_of_many_pages() {
    let scene = Scene::new("one-bit");
    let dumped = scene.start("memory/large", &["80"]).dump(&scene.path("images"));
    let path = dumped.images().join("pages-1.img");
    let pages = OpenOptions::new().read(true).write(true).open(&path).expect("open the pages");
    let size = pages.metadata().expect("stat").len();
    for at in [0, size / 2, size - 1] {
        let flip = || {
            let mut byte = [0];
            pages.read_exact_at(&mut byte, at).expect("read a byte");
            pages.write_all_at(&[byte[0] ^ 0x10], at).expect("write a byte");
        };
        flip();
        says(&no_trace(&dumped), &["pages-1.img", "altered"]);
        flip();
    }
    dumped.restore().verify();
}

fn damage(dumped: &Dumped<'_>, path: &Path, contents: &[u8]) {
    fs::write(path, contents).expect("write a damaged image");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let ran = dumped.restore_call().run();
    assert!(!ran.succeeded(), "{name} is damaged, and the restore does not notice");
    says(&ran.message(), &[&name]);
    assert!(!alive(dumped.pid()), "a process is left over");
}

/// A directory without a dump, and one whose dump was not finished.
#[test]
fn no_dump_at_all() {
    let scene = Scene::new("no-dump");
    let empty = scene.path("empty");
    fs::create_dir(&empty).expect("make a directory");
    says(&Criu::ours().restore(&empty).run().refused(), &["inventory"]);
    let dumped = scene.start("task/busy", &[]).dump(&scene.path("images"));
    let inventory = dumped.images().join("inventory.img");
    let away = scene.path("inventory");
    fs::rename(&inventory, &away).expect("move the inventory");
    says(&no_trace(&dumped), &["inventory"]);
    fs::rename(&away, &inventory).expect("move it back");
    dumped.restore().verify();
}

/// A task cannot be stopped in time.
#[test]
fn timeout() {
    let scene = Scene::new("timeout");
    let task = scene.start("helpers/vforked", &[]);
    let call = task.dump_call(&scene.path("images")).args(["--timeout", "1"]);
    says(&call.run().refused(), &["timeout", &task.pid().to_string()]);
    task.signal_group(Signal::SIGUSR1);
    task.ends_well();
}
