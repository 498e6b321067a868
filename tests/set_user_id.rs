//! A criu with the set-user-ID bit of root: it works for the user who started it, with that user's
//! rights, whatever images, options, configuration files and scripts say.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use crate::common::{
    Call, Criu, Dumped, NOBODY, Scene, Task, Worker, alive, ask_as_user, directory, no_options,
    request, request_with, state_of, tree_of, until,
};
use criu::images::codec::{Decoder, Encoder};
use criu::images::proto::{CoreEntry, CredsEntry, CriuOpts, CriuReqType, TimensEntry};
use criu::images::sections::SECTIONS;
use criu_test_support::State;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::pipe2;

/// CAP_CHECKPOINT_RESTORE, in the high word of a set: what the program's file lends to its user.
const LENT: u32 = 1 << 8;

/// A scene of a user without privileges, and the command as that user runs it.
fn scene(name: &str) -> (Scene, Criu) {
    let mut scene = Scene::new(name).owned_by(NOBODY);
    let criu = Criu::run_by(&scene.set_user_id(), NOBODY);
    (scene, criu)
}

/// The user dumps a tree of its own and restores it, twice.
pub fn round_trip(state: &State) {
    let (scene, criu) = scene(state.program);
    let Some(mut task) = scene.start_or_leave_out(state.program, state.args) else { return };
    let before = rights_of(&task);
    for time in 0..2 {
        let images = scene.users_directory(&format!("images-{time}"));
        let dumped = task.dump_with(&criu, &images, state.dump);
        for entry in fs::read_dir(&images).expect("list the images").flatten() {
            let found = entry.metadata().expect("stat an image");
            assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{:?}", entry.path());
        }
        task = dumped.restore_with(&criu, state.restore);
        assert_eq!(rights_of(&task), before);
    }
    task.verify();
}

/// Ids, groups, capabilities and no_new_privs of every thread of a tree, zombies included.
fn rights_of(task: &Task) -> Vec<(i32, Vec<String>)> {
    let threads = |pid: i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("list threads").flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for pid in tree_of(task.pid()) {
        for thread in threads(pid) {
            let tid = thread.file_name().and_then(|name| name.to_str()).expect("a thread id");
            all.push((tid.parse().expect("a thread id"), rights(&thread)));
        }
    }
    all.sort();
    all
}

/// The same of one thread or process, by its place in /proc.
fn rights(place: &Path) -> Vec<String> {
    let status = fs::read_to_string(place.join("status")).expect("read a status");
    let names = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"];
    let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name));
    status.lines().filter(wanted).map(str::to_owned).collect()
}

/// Root's processes, another user's and those that their user may not look into run on untouched.
#[test]
fn users_do_not_dump_others() {
    let (scene, criu) = scene("suid-others");
    let images = scene.users_directory("images");
    let (roots, neighbours) = (Scene::new("suid-roots"), Scene::new("suid-neighbours"));
    let neighbours = neighbours.owned_by(NOBODY + 1);
    let victims = [
        roots.start("files/open_file", &[]),
        neighbours.start("files/open_file", &[]),
        scene.start("helpers/undumpable", &[]),
    ];
    for victim in &victims {
        let said = criu.dump(victim.pid(), &images).run().refused();
        assert!(said.contains("seize thread") && said.contains("EPERM"), "{said}");
        assert!(!images.join("inventory.img").exists());
        assert!(matches!(state_of(victim.pid()), Some('S' | 'R')));
    }
    victims.into_iter().for_each(Task::verify);
}

/// What the kernel does not tell a user is not guessed: the exit status of a zombie that was closed.
#[test]
fn what_is_not_told_is_refused() {
    let (scene, criu) = scene("suid-zombie");
    let task = scene.start("helpers/undumpable", &["zombie"]);
    let said = criu.dump(task.pid(), &scene.users_directory("images")).run().refused();
    assert!(said.contains("zombie: its exit status is only shown"), "{said}");
    task.dump(&scene.path("by-root")).restore().verify();
}

/// A user has images that are well made, by root, and gets nobody else's processes of them.
#[test]
fn users_do_not_restore_others() {
    let (mine, criu) = scene("suid-images");
    for (name, user, words) in [
        ("suid-images-of-root", None, &["permitted capabilities", "restore"][..]),
        ("suid-images-of-other", Some(NOBODY + 1), &["user ids [4243", "CAP_SETUID", "as root"]),
    ] {
        let scene = Scene::new(name);
        let scene = if let Some(user) = user { scene.owned_by(user) } else { scene };
        let task = scene.start("files/open_file", &[]);
        let dumped = task.dump(&scene.users_directory("images"));
        give(dumped.images(), NOBODY);
        let said = restore_by(&criu, &dumped, &mine);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(state_of(dumped.pid()), None);
        dumped.restore().verify();
    }
}

/// A directory and what is in it become the user's.
fn give(images: &Path, user: u32) {
    for entry in fs::read_dir(images).expect("list the images").flatten() {
        chown(entry.path(), Some(user), Some(user)).expect("chown");
    }
    chown(images, Some(user), Some(user)).expect("chown");
}

/// What a restore that has to fail says; its log is elsewhere, as root has left one there.
#[track_caller]
fn restore_by(criu: &Criu, dumped: &Dumped, scene: &Scene) -> String {
    let log = scene.path(&format!("restore-{}.log", dumped.pid()));
    let call = criu.restore(dumped.images()).arg("-o").arg(&log).log_at(&log);
    call.run().refused()
}

/// A user who writes images by hand, of the leader or of another thread, gets nothing of it: neither
/// what root has nor what the program is lent.
#[test]
fn users_do_not_make_rights_of_images() {
    let (scene, criu) = scene("suid-forged");
    let task = scene.start("task/threads", &[]);
    let tids: Vec<i32> = rights_of(&task).into_iter().map(|(tid, _)| tid).collect();
    let dumped = task.dump_with(&criu, &scene.users_directory("images"), &[]);
    fs::remove_file(dumped.images().join("manifest")).expect("remove the checksums");
    type Forgery = fn(&mut CredsEntry);
    let forgeries: [(&str, Forgery); 11] = [
        ("permitted capabilities 0x10000000000", |creds| {
            (creds.cap_prm, creds.cap_eff) = (vec![0, LENT], vec![0, LENT]);
        }),
        ("permitted capabilities", |creds| creds.cap_prm = vec![1, 0]),
        ("inheritable capabilities 0x10000000000", |creds| creds.cap_inh = vec![0, LENT]),
        ("permitted capabilities", |creds| {
            let set = vec![0, LENT];
            (creds.cap_inh, creds.cap_prm) = (set.clone(), set.clone());
            creds.cap_amb = set;
        }),
        ("user ids", |creds| creds.suid = 0),
        ("user ids", |creds| creds.fsuid = 0),
        ("group ids", |creds| creds.egid = 0),
        ("supplementary groups [0]", |creds| creds.groups = vec![0]),
        ("bounding set", |creds| creds.cap_bnd = vec![0, 0]),
        ("securebits", |creds| creds.secbits = 4),
        ("user ids", |creds| (creds.uid, creds.euid, creds.suid, creds.fsuid) = (0, 0, 0, 0)),
    ];
    for tid in [tids[0], tids[tids.len() - 1]] {
        let image = dumped.images().join(format!("core-{tid}.img"));
        let genuine = fs::read(&image).expect("read a core");
        for (words, forge) in forgeries {
            fs::write(&image, forged(&genuine, forge)).expect("write a core");
            let said = criu.restore(dumped.images()).run().refused();
            assert!(said.contains(words) && said.contains(&format!("core-{tid}")), "{said}");
            assert!(tids.iter().all(|tid| state_of(*tid).is_none()), "{words}: something is left");
        }
        fs::write(&image, genuine).expect("write a core");
    }
    dumped.restore_with(&criu, &[]).verify();
}

/// Clocks may jump ahead for a user, never back.
#[test]
fn clocks_do_not_go_back() {
    let (scene, criu) = scene("suid-clocks");
    let task = scene.start("task/timers_posix", &[]);
    let dumped = task.dump_with(&criu, &scene.users_directory("images"), &[]);
    fs::remove_file(dumped.images().join("manifest")).expect("remove the checksums");
    let image = dumped.images().join("timens-0.img");
    let genuine = fs::read(&image).expect("read the clocks");
    let mut decoder = Decoder::new("timens", &genuine, SECTIONS.timens.magic).expect("clocks");
    let mut clocks: TimensEntry = decoder.entry().expect("an entry").expect("an entry");
    clocks.boottime.tv_sec += 100_000;
    let mut encoder = Encoder::new(SECTIONS.timens.magic);
    encoder.entry(&clocks);
    fs::write(&image, encoder.finish()).expect("write the clocks");
    let said = criu.restore(dumped.images()).run().refused();
    assert!(said.contains("would go back by") && said.contains("as root"), "{said}");
    fs::write(&image, genuine).expect("write the clocks");
    dumped.restore_with(&criu, &[]).verify();
}

/// A core with other credentials.
fn forged(bytes: &[u8], forge: fn(&mut CredsEntry)) -> Vec<u8> {
    let mut decoder = Decoder::new("core", bytes, SECTIONS.core.magic).expect("a core");
    let mut core: CoreEntry = decoder.entry().expect("an entry").expect("an entry");
    let creds = core.thread_core.as_mut().and_then(|thread| thread.creds.as_mut());
    forge(creds.expect("credentials"));
    let mut encoder = Encoder::new(SECTIONS.core.magic);
    encoder.entry(&core);
    encoder.finish()
}

/// Configuration files are read, and scripts run, as the user; root's are not for the user.
#[test]
fn configuration_and_scripts_are_the_users() {
    let (scene, criu) = scene("suid-config");
    let (config, seen) = (scene.path("criu.conf"), scene.path("seen"));
    fs::write(&seen, "").expect("make a file");
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o666)).expect("chmod");
    let script = scene.script(
        "script",
        "#!/bin/sh\n[ -d \"$CRTOOLS_IMAGE_DIR/.\" ] && images=images\n\
         echo $CRTOOLS_SCRIPT_ACTION $(id -u) $(id -g) $(id -G) \
         $(sed -n 's/^Cap[IPEA][a-z]*://p' /proc/self/status) $images >>$SEEN\n",
    );
    fs::write(&config, format!("action-script {}\n", script.display())).expect("write");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("chmod");
    let task = scene.start("files/open_file", &[]);
    let images = scene.users_directory("images");
    let configured = |call: Call| {
        let mut command = call.command();
        command.env("CRIU_CONFIG_FILE", &config).env("SEEN", &seen);
        command.output().expect("run criu")
    };
    let refused = configured(criu.dump(task.pid(), &images));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("criu.conf") && said.contains("EACCES"),
        "{said}"
    );
    // But a log that says why.
    assert_eq!(fs::read_dir(&images).expect("list").count(), 1);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).expect("chmod");
    let pids = tree_of(task.pid());
    assert!(configured(criu.dump(task.pid(), &images)).status.success());
    let dumped = task.gone(&pids, &images);
    assert!(configured(criu.restore(&images)).status.success());
    let stages = fs::read_to_string(&seen).expect("read the stages");
    let none = "0000000000000000";
    let rights = format!(" {NOBODY} {NOBODY} {NOBODY} {none} {none} {none} {none} images");
    assert!(stages.lines().all(|line| line.ends_with(&rights)), "{stages}");
    assert!(stages.contains("pre-dump ") && stages.contains("post-restore "), "{stages}");
    dumped.running().verify();
}

/// Neither the engine nor a process that it builds is the user's to get into: they have what the
/// user has not.
#[test]
fn what_has_a_lent_capability_is_closed_to_its_user() {
    let (scene, criu) = scene("suid-intruder");
    let found = scene.path("found");
    fs::write(&found, "").expect("make a file");
    fs::set_permissions(&found, fs::Permissions::from_mode(0o666)).expect("chmod");
    let intruder = scene.program("helpers/intruder");
    let text = format!(
        "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = setup-namespaces ] || exit 0\n\
         for pid in $PPID $CRTOOLS_INIT_PID; do\n\
         {0} $pid >>{1} 2>&1; echo $? $(sed -n 's/^Uid:\\|^CapPrm://p' /proc/$pid/status) >>{1}\n\
         done\n",
        intruder.display(),
        found.display()
    );
    let script = scene.script("script", &text);
    let task = scene.start("task/threads", &[]);
    let dumped = task.dump_with(&criu, &scene.users_directory("images"), &[]);
    let task = dumped.restore_with(&criu, &["--action-script", script.to_str().expect("a path")]);
    let closed = format!("0 {NOBODY} {NOBODY} {NOBODY} {NOBODY} 0000010000000000\n");
    assert_eq!(fs::read_to_string(&found).expect("read"), closed.repeat(2));
    // What is restored is the user's own again.
    let mut command = Command::new(&intruder);
    let pid = task.pid().to_string();
    let output = command.arg(pid).uid(NOBODY).gid(NOBODY).output().expect("run the intruder");
    assert_eq!(output.status.code(), Some(1));
    task.verify();
}

/// A process that has its user's rights already is still closed, as others that share its memory may
/// have more. The restore is held by its log, a pipe that is full: it cannot be more than two pipes
/// ahead of what was read of it, and the crowd's next steps are told in many more bytes.
#[test]
fn what_is_being_built_is_closed_to_its_user() {
    const PIPE: i32 = 4096;
    let (scene, criu) = scene("suid-built");
    let task = scene.start("tree/crowd", &[]);
    let dumped = task.dump_with(&criu, &scene.users_directory("images"), &[]);
    let (log, output) = pipe2(OFlag::O_CLOEXEC).expect("make a pipe");
    fcntl(&log, FcntlArg::F_SETPIPE_SZ(PIPE)).expect("make the pipe small");
    fcntl(&log, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("read without waiting");
    let log = File::from(log);
    let mut command = criu.restore(dumped.images()).args(["-o", "-"]).command();
    let mut child = command.stdout(output).spawn().expect("run criu");
    // It has the other copy of what is written to.
    drop(command);
    let mut said = String::new();
    let mut read_until = |words: &str| {
        until(
            || format!("the log does not say {words}"),
            || {
                let mut bytes = [0; PIPE as usize];
                let got = (&log).read(&mut bytes).unwrap_or(0);
                said.push_str(&String::from_utf8_lossy(&bytes[..got]));
                said.contains(words).then_some(())
            },
        );
    };
    let ended = "shield, confinement, timer numbers, credentials, actions";
    read_until(&format!("pid {}: set up: {ended}", dumped.pid()));
    let status = fs::read_to_string(format!("/proc/{}/status", dumped.pid())).expect("a status");
    let is_built =
        status.contains("CapPrm:\t0000000000000000") && !status.contains("TracerPid:\t0");
    let mut intruder = Command::new(scene.program("helpers/intruder"));
    let pid = dumped.pid().to_string();
    let output = intruder.arg(pid).uid(NOBODY).gid(NOBODY).output().expect("run the intruder");
    read_until("Tasks resumed");
    assert!(child.wait().expect("wait for criu").success());
    assert!(is_built, "{status}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    dumped.running().verify();
}

/// The memory of what is restored has a say in where its threads go on, but not while they have more
/// rights than it: with the user's engine, nor with root's.
#[test]
fn memory_does_not_take_a_process_over_before_it_is_the_users() {
    let (scene, lent) = scene("suid-rseq");
    let script = scene.script(
        "script",
        &format!(
            "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = post-restore ] || exit 0\n\
             cd {}; echo >enough; until [ -e ended ]; do :; done\n",
            scene.dir().display()
        ),
    );
    for (name, criu) in [("lent", lent), ("root", Criu::ours())] {
        let task = scene.start("helpers/rseq_trap", &[]);
        let dumped = task.dump_with(&criu, &scene.users_directory(name), &[]);
        let trap = set_trap(&scene);
        let options = ["--action-script", script.to_str().expect("a path")];
        let task = dumped.restore_with(&criu, &options);
        trap.join().expect("the thread that sets the trap");
        task.verify();
        for name in ["area", "enough", "ended"] {
            fs::remove_file(scene.path(name)).expect("remove a file");
        }
    }
}

/// Makes the sequence of `rseq_trap` active over and over, until there is a file `enough`, or no
/// scene any more.
fn set_trap(scene: &Scene) -> JoinHandle<()> {
    let (area, enough, ended) = (scene.path("area"), scene.path("enough"), scene.path("ended"));
    let file = File::options().read(true).write(true).open(&area).expect("open the area");
    let mut sequence = [0; 8];
    file.read_exact_at(&mut sequence, 64).expect("read where the sequence is");
    std::thread::spawn(move || {
        while area.exists() && !enough.exists() {
            for _ in 0..1000 {
                file.write_all_at(&sequence, 8).expect("set the trap");
            }
        }
        file.write_all_at(&[0; 8], 8).expect("take the trap away");
        let _ = fs::write(ended, "");
    })
}

/// The user may kill the engine: what was to be dumped runs on, of what was to be restored nothing
/// is left.
#[test]
fn a_killed_engine_leaves_things_as_they_were() {
    let (scene, criu) = scene("suid-killed");
    let script = scene.script(
        "script",
        "#!/bin/sh\ncase $CRTOOLS_SCRIPT_ACTION in\n\
         post-dump|setup-namespaces|post-restore) [ -e $SCENE_DIR/spare ] || kill -9 $PPID;;\nesac\n",
    );
    let task = scene.start("task/threads", &[]);
    let images = scene.users_directory("images");
    let killed = |call: Call| {
        let mut command = call.arg("--action-script").arg(&script).command();
        command.env("SCENE_DIR", scene.dir()).status().expect("run criu")
    };
    assert!(!killed(criu.dump(task.pid(), &images)).success());
    until(
        || "the dumpee does not run on".into(),
        || matches!(state_of(task.pid()), Some('S' | 'R')).then_some(()),
    );
    fs::write(scene.path("spare"), "").expect("make a file");
    let dumped = task.dump_with(&criu, &scene.users_directory("again"), &[]);
    fs::remove_file(scene.path("spare")).expect("remove a file");
    assert!(!killed(criu.restore(dumped.images())).success());
    scene.until_gone(&[dumped.pid()]);
    dumped.restore_with(&criu, &[]).verify();
}

/// Images go where the user may write, and nowhere else; the tree runs on.
#[test]
fn a_directory_that_the_user_may_not_write_is_an_error() {
    let (scene, criu) = scene("suid-directory");
    let task = scene.start("files/open_file", &[]);
    let images = scene.path("images");
    fs::create_dir(&images).expect("make a directory");
    let pid = task.pid().to_string();
    for words in [&["dump"][..], &["dump", "-o", "dump.log"]] {
        let call = criu.words(words).args(["-t", &pid, "-D"]).arg(&images);
        let said = call.run().refused();
        assert!(said.contains("EACCES") && said.contains("may write to"), "{said}");
    }
    let pidfile = criu.words(&["check", "--pidfile", "/etc/criu-test.pid", "-o", "/etc/criu.log"]);
    pidfile.run().refused();
    assert!(!Path::new("/etc/criu-test.pid").exists() && !Path::new("/etc/criu.log").exists());
    assert_eq!(fs::read_dir(&images).expect("list").count(), 0);
    task.verify();
}

/// A caller may close the standard files: no file of the work takes their place.
#[test]
fn closed_standard_files_are_no_way_in() {
    let (scene, criu) = scene("suid-closed");
    let task = scene.start("files/open_file", &[]);
    let (pids, images) = (tree_of(task.pid()), scene.users_directory("images"));
    let closed = |call: Call| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).args(call.words());
        command.uid(NOBODY).gid(NOBODY).status().expect("run criu")
    };
    assert!(closed(criu.dump(task.pid(), &images)).success());
    let dumped = task.gone(&pids, &images);
    assert!(closed(criu.restore(&images)).success());
    dumped.running().verify();
}

/// A worker is the user as well, whoever asks it; a service is for root to start.
#[test]
fn workers_and_services() {
    let (scene, criu) = scene("suid-rpc");
    let roots = Scene::new("suid-rpc-root");
    let (own, other) = (scene.start("files/open_file", &[]), roots.start("files/open_file", &[]));
    let work = scene.users_directory("work");
    let start = || {
        Worker::start_binary(criu.binary(), |command| {
            command.uid(NOBODY).gid(NOBODY).stderr(Stdio::null());
        })
    };
    assert!(start().caller.ask(&request(CriuReqType::Version)).success);
    let opts = |pid| CriuOpts {
        images_dir: Some(work.display().to_string().into()),
        pid: Some(pid),
        leave_running: Some(true),
        ..no_options()
    };
    let answer = start().caller.ask(&request_with(CriuReqType::Dump, opts(other.pid())));
    assert!(!answer.success && answer.cr_errno() == libc::EPERM, "{answer:?}");
    let answer = start().caller.ask(&request_with(CriuReqType::Dump, opts(own.pid())));
    assert!(answer.success, "{answer:?}");
    // A caller who is that user has a descriptor taken.
    let user_asks = |pid| {
        let opts = CriuOpts { images_dir: None, images_dir_fd: 10, ..opts(pid) };
        let mut start = OsString::from("exec:");
        start.push(criu.binary());
        ask_as_user(&scene, &start, &work, &request_with(CriuReqType::Dump, opts))
    };
    assert!(user_asks(own.pid()).success);
    assert_eq!(user_asks(other.pid()).cr_errno(), libc::EPERM);
    // A descriptor of root's process is not for a worker of the user.
    let images = directory(&roots.path("images"));
    let taken = CriuOpts { images_dir_fd: images.as_raw_fd(), ..opts(own.pid()) };
    let answer = start().caller.ask(&request_with(CriuReqType::Dump, taken));
    assert!(!answer.success && answer.cr_errmsg().contains("EPERM"), "{answer:?}");

    let service = ["service", "--address", "socket", "-W"];
    let said = criu.words(&service).arg(&work).run().refused();
    assert!(said.contains("run it as root"), "{said}");
    assert!(!work.join("socket").exists());
    assert!(alive(own.pid()));
    own.verify();
    other.verify();
}
