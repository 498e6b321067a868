//! The worker `criu swrk FD`, driven as go-criu and runc drive it: every request, the answers'
//! shapes, notifications, descriptors.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::common::{
    Note, Reply, Scene, Worker, alive, directory, no_options, request, request_with, state_of,
    tree_of, until,
};
use criu::images::proto::{CriuFeatures, CriuOpts, CriuReq, CriuReqType, CriuResp};
use nix::libc;

/// Stages of a dump and of a restore, in the order in which callers are asked.
const DUMP: [&str; 3] = ["pre-dump", "query-ext-files", "post-dump"];
const RESTORE: [&str; 6] = [
    "pre-restore",
    "setup-namespaces",
    "post-setup-namespaces",
    "post-restore",
    "pre-resume",
    "post-resume",
];

fn stages(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| note.stage.as_str()).collect()
}

#[track_caller]
fn good(response: &CriuResp, kind: CriuReqType) {
    assert!(response.success, "{response:?}");
    assert_eq!(response.r#type(), kind);
    assert_eq!((response.cr_errno, &response.cr_errmsg), (None, &None));
}

#[track_caller]
fn bad(response: &CriuResp, kind: CriuReqType, errno: i32, words: &[&str]) {
    assert!(!response.success, "{response:?}");
    assert_eq!(response.r#type(), kind);
    assert_eq!(response.cr_errno(), errno, "{response:?}");
    for word in words {
        assert!(response.cr_errmsg().contains(word), "{word}: {}", response.cr_errmsg());
    }
}

/// Requests that leave the connection open, one after the other, on one connection.
#[test]
fn requests_that_keep_the_connection() {
    let scene = Scene::new("rpc-open");
    let images = directory(&scene.path("images"));
    let opts = CriuOpts { images_dir_fd: images.as_raw_fd(), ..no_options() };
    let worker = Worker::start();
    let keep = |request: CriuReq| CriuReq { keep_open: Some(true), ..request };
    let version = worker.caller.ask(&keep(request(CriuReqType::Version)));
    good(&version, CriuReqType::Version);
    let version = version.version.expect("a version");
    assert_eq!((version.major_number, version.minor_number), (4, 2));

    let features = CriuFeatures { mem_track: Some(true), ..CriuFeatures::default() };
    let asked = CriuReq { features: Some(features), ..request(CriuReqType::FeatureCheck) };
    let features = worker.caller.ask(&keep(asked));
    good(&features, CriuReqType::FeatureCheck);
    assert_eq!(features.features.expect("features").pidfd_store, Some(false), "not asked for");

    for kind in [CriuReqType::CpuinfoDump, CriuReqType::CpuinfoCheck] {
        good(&worker.caller.ask(&keep(request_with(kind, opts.clone()))), kind);
    }
    assert!(scene.path("images/cpuinfo.img").exists());

    let check = worker.caller.ask(&request_with(CriuReqType::Check, no_options()));
    good(&check, CriuReqType::Check);
    assert!(worker.caller.receive().is_none(), "without keep_open the connection ends");
    assert_eq!(worker.finish().code(), Some(0));
}

/// Requests that are none, or come where they may not.
#[test]
fn requests_that_cannot_be() {
    for kind in [CriuReqType::Empty as i32, CriuReqType::Notify as i32, 99] {
        let worker = Worker::start();
        let answer = worker.caller.ask(&CriuReq { r#type: kind, ..CriuReq::default() });
        bad(&answer, CriuReqType::Empty, 0, &["Invalid req"]);
        assert!(worker.caller.receive().is_none());
        assert_eq!(worker.finish().code(), Some(1));
    }
    let worker = Worker::start();
    let kept = CriuReq { keep_open: Some(true), ..request(CriuReqType::Restore) };
    bad(&worker.caller.ask(&kept), CriuReqType::Restore, libc::EBADRQC, &["keep_open"]);
    assert!(worker.caller.receive().is_none());
    let wait = CriuReq { pid: Some(1), ..request(CriuReqType::WaitPid) };
    let answer = Worker::start().caller.ask(&wait);
    bad(&answer, CriuReqType::WaitPid, libc::ECHILD, &["pid 1"]);
}

/// What is not carried out says so, whoever asks.
#[test]
fn requests_of_later_versions() {
    use criu::options::{Verb, table};
    for (kind, verb, answered) in [
        (CriuReqType::PreDump, Verb::PreDump, CriuReqType::PreDump),
        (CriuReqType::SinglePreDump, Verb::PreDump, CriuReqType::SinglePreDump),
        (CriuReqType::PageServer, Verb::PageServer, CriuReqType::PageServer),
        (CriuReqType::PageServerChld, Verb::PageServer, CriuReqType::PageServer),
    ] {
        if !table::VERBS.contains(&verb) {
            let answer = Worker::start().caller.ask(&request_with(kind, no_options()));
            bad(&answer, answered, libc::ENOSYS, &[verb.name(), "not carried out"]);
        }
    }
}

/// A dump and a restore with notifications, which come in order and with the pid where CRIU tells it.
#[test]
fn notified_of_every_stage() {
    let scene = Scene::new("rpc-notify");
    let task = scene.start("tree/crowd", &[]);
    let (pid, pids) = (task.pid(), tree_of(task.pid()));
    let images = directory(&scene.path("images"));
    let opts = CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        notify_scripts: Some(true),
        log_level: Some(4),
        ..no_options()
    };
    let dump = CriuOpts { pid: Some(pid), ..opts.clone() };
    let worker = Worker::start();
    let agree = |_: &Note| Reply::default();
    let (answer, notes) =
        worker.caller.converse(&request_with(CriuReqType::Dump, dump.clone()), agree);
    good(&answer, CriuReqType::Dump);
    assert_eq!(answer.dump.expect("a dump").restored, Some(false));
    assert_eq!(stages(&notes), DUMP);
    assert!(notes.iter().all(|note| note.pid.is_none() && note.fds.is_empty()));
    assert!(worker.finish().success());
    let dumped = task.gone(&pids, &scene.path("images"));

    let worker = Worker::start();
    let (answer, notes) = worker.caller.converse(&request_with(CriuReqType::Restore, opts), agree);
    good(&answer, CriuReqType::Restore);
    assert_eq!(answer.restore.expect("a restore").pid, pid);
    assert_eq!(stages(&notes), RESTORE);
    let told: Vec<&str> =
        notes.iter().filter(|note| note.pid == Some(pid)).map(|note| note.stage.as_str()).collect();
    assert_eq!(told, ["setup-namespaces", "post-restore"]);
    assert!(worker.finish().success());
    dumped.running().verify();
}

/// A no at any stage ends the work, says at which, and leaves things as they were.
#[test]
fn a_no_at_any_stage() {
    let scene = Scene::new("rpc-no");
    let task = scene.start("files/open_file", &[]);
    let pids = tree_of(task.pid());
    let images = directory(&scene.path("images"));
    let opts =
        CriuOpts { images_dir_fd: images.as_raw_fd(), notify_scripts: Some(true), ..no_options() };
    let refuse_at = |stage: &'static str| {
        move |note: &Note| Reply { refuse: note.stage == stage, ..Reply::default() }
    };
    let dump = CriuOpts { pid: Some(task.pid()), ..opts.clone() };
    for stage in DUMP {
        let request = request_with(CriuReqType::Dump, dump.clone());
        let (answer, notes) = Worker::start().caller.converse(&request, refuse_at(stage));
        bad(&answer, CriuReqType::Dump, libc::ECANCELED, &[stage]);
        assert_eq!(stages(&notes).last(), Some(&stage));
        assert!(alive(pids[0]) && !scene.path("images/inventory.img").exists());
    }
    let dumped = task.dump(&scene.path("images"));
    // When the tree runs it is too late for a no.
    for stage in &RESTORE[..5] {
        let request = request_with(CriuReqType::Restore, opts.clone());
        let (answer, notes) = Worker::start().caller.converse(&request, refuse_at(stage));
        bad(&answer, CriuReqType::Restore, libc::ECANCELED, &[stage]);
        assert_eq!(answer.restore.expect("a restore").pid, -1);
        assert_eq!(stages(&notes).last(), Some(stage));
        scene.until_gone(&pids);
    }
    dumped.restore().verify();
}

/// Options with a configuration file that names an action script.
fn with_script(scene: &Scene, script: &Path, images: &impl AsRawFd) -> CriuOpts {
    let config = scene.path("criu.conf");
    fs::write(&config, format!("action-script {}\n", script.display())).expect("write a file");
    CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        config_file: Some(config.display().to_string().into()),
        ..no_options()
    }
}

/// Action scripts of a configuration file run at every stage, after the caller was asked.
#[test]
fn scripts_of_a_configuration_file() {
    let scene = Scene::new("rpc-scripts");
    let task = scene.start("files/open_file", &[]);
    let pid = task.pid();
    let out = scene.path("stages");
    let text = format!(
        "#!/bin/sh\nimages=no\n[ -d \"$CRTOOLS_IMAGE_DIR/.\" ] && images=images\n\
         echo $CRTOOLS_SCRIPT_ACTION $images $CRTOOLS_INIT_PID >>{}\n",
        out.display()
    );
    let script = scene.script("script", &text);
    let images = directory(&scene.path("images"));
    let opts = with_script(&scene, &script, &images);
    let dump = CriuOpts { pid: Some(pid), ..opts.clone() };
    let pids = tree_of(pid);
    good(&Worker::start().caller.ask(&request_with(CriuReqType::Dump, dump)), CriuReqType::Dump);
    let dumped = task.gone(&pids, &scene.path("images"));
    let worker = Worker::start();
    good(&worker.caller.ask(&request_with(CriuReqType::Restore, opts)), CriuReqType::Restore);
    worker.finish();
    dumped.running().verify();
    let expected: Vec<String> = ["pre-dump", "post-dump"]
        .iter()
        .chain(&RESTORE)
        .map(|stage| match *stage {
            // There is no process yet.
            "pre-restore" => "pre-restore images".to_owned(),
            stage => format!("{stage} images {pid}"),
        })
        .collect();
    let seen = fs::read_to_string(out).expect("what the script wrote");
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
}

/// A script that fails at any stage ends the work, is named with its stage, and leaves things as
/// they were; after the resume it is only noted.
#[test]
fn a_script_that_fails_at_any_stage() {
    let scene = Scene::new("rpc-script-fails");
    let task = scene.start("files/open_file", &[]);
    let pids = tree_of(task.pid());
    let text = "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != \"$(cat \"$0.stage\")\" ]\n";
    let script = scene.script("script", text);
    let images = directory(&scene.path("images"));
    let opts = with_script(&scene, &script, &images);
    let ask = |stage: &str, kind, opts: CriuOpts| {
        fs::write(scene.path("script.stage"), stage).expect("write a file");
        let worker = Worker::start();
        let answer = worker.caller.ask(&request_with(kind, opts));
        worker.finish();
        answer
    };
    let dump = CriuOpts { pid: Some(task.pid()), ..opts.clone() };
    for stage in ["pre-dump", "post-dump"] {
        let answer = ask(stage, CriuReqType::Dump, dump.clone());
        bad(&answer, CriuReqType::Dump, libc::ECANCELED, &["/script refused", stage]);
        assert!(alive(pids[0]) && !scene.path("images/inventory.img").exists());
    }
    let dumped = task.dump(&scene.path("images"));
    for stage in &RESTORE[..5] {
        let answer = ask(stage, CriuReqType::Restore, opts.clone());
        bad(&answer, CriuReqType::Restore, libc::ECANCELED, &["/script refused", stage]);
        scene.until_gone(&pids);
    }
    good(&ask("post-resume", CriuReqType::Restore, opts), CriuReqType::Restore);
    let log = fs::read_to_string(scene.path("images/criu.log")).expect("read the log");
    assert!(log.contains("refused post-resume"), "{log}");
    dumped.running().verify();
}

/// Failures carry CRIU's numbers, and the cause in words.
#[test]
fn causes_of_failures() {
    let scene = Scene::new("rpc-causes");
    let images = directory(&scene.path("images"));
    let opts = CriuOpts { images_dir_fd: images.as_raw_fd(), ..no_options() };
    let ask = |kind, opts: CriuOpts| Worker::start().caller.ask(&request_with(kind, opts));

    let nobody = CriuOpts { pid: Some(i32::MAX), ..opts.clone() };
    let answer = ask(CriuReqType::Dump, nobody);
    bad(&answer, CriuReqType::Dump, libc::ESRCH, &["no such process"]);

    let task = scene.start("files/open_file", &[]);
    let running = CriuOpts { pid: Some(task.pid()), leave_running: Some(true), ..opts.clone() };
    good(&ask(CriuReqType::Dump, running), CriuReqType::Dump);
    let answer = ask(CriuReqType::Restore, opts.clone());
    bad(&answer, CriuReqType::Restore, libc::EEXIST, &[&task.pid().to_string()]);
    assert_eq!(answer.restore.expect("a restore").pid, -1);
    task.verify();

    let elsewhere = CriuOpts { log_file: Some("../x.log".into()), ..opts.clone() };
    let answer = ask(CriuReqType::Dump, elsewhere);
    bad(&answer, CriuReqType::Dump, libc::EBADRQC, &["No subdirs are allowed", "../x.log"]);
    assert!(!scene.path("x.log").exists());

    let closed = CriuOpts { images_dir_fd: 1_000_000, ..opts.clone() };
    let answer = ask(CriuReqType::Restore, closed);
    bad(&answer, CriuReqType::Restore, libc::EBADRQC, &["image directory 1000000"]);
    let no_directory = fs::File::open("/dev/null").expect("open");
    let file = CriuOpts { images_dir_fd: no_directory.as_raw_fd(), ..opts.clone() };
    bad(&ask(CriuReqType::Restore, file), CriuReqType::Restore, libc::EBADRQC, &["ENOTDIR"]);

    let empty = directory(&scene.path("empty"));
    let absent = CriuOpts { images_dir_fd: empty.as_raw_fd(), ..opts };
    let answer = ask(CriuReqType::Restore, absent);
    assert!(!answer.success && answer.cr_errno() != 0, "{answer:?}");
    assert!(answer.cr_errmsg().contains("inventory"), "{answer:?}");
}

/// A worker that is asked nothing still says whether its configuration is good.
#[test]
fn a_worker_that_is_asked_nothing() {
    let scene = Scene::new("rpc-nothing");
    assert_eq!(Worker::start().finish().code(), Some(0));
    let config = scene.path("criu.conf");
    fs::write(&config, "no-such-option\n").expect("write a file");
    let with_config = || {
        Worker::start_with(|command| {
            command.env("CRIU_CONFIG_FILE", &config);
        })
    };
    assert_eq!(with_config().finish().code(), Some(1));
    let answer = with_config().caller.ask(&request_with(CriuReqType::Restore, no_options()));
    bad(&answer, CriuReqType::Restore, libc::EBADRQC, &["no-such-option"]);
}

/// The log is where the work directory is, which may be another one than that of the images.
#[test]
fn work_and_images_in_different_places() {
    let scene = Scene::new("rpc-work");
    let task = scene.start("files/open_file", &[]);
    let (images, work) = (directory(&scene.path("images")), directory(&scene.path("work")));
    let opts = CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        work_dir_fd: Some(work.as_raw_fd()),
        log_file: Some("dump.log".into()),
        log_level: Some(4),
        pid: Some(task.pid()),
        leave_running: Some(true),
        ..no_options()
    };
    good(&Worker::start().caller.ask(&request_with(CriuReqType::Dump, opts)), CriuReqType::Dump);
    assert!(scene.path("work/dump.log").exists() && scene.path("work/stats-dump").exists());
    assert!(scene.path("images/inventory.img").exists());
    assert!(!scene.path("images/dump.log").exists());
    task.verify();
}

/// Names are bytes, and need not be text.
#[test]
fn names_of_bytes() {
    let scene = Scene::new("rpc-bytes");
    let task = scene.start("files/open_file", &[]);
    let images = scene.dir().join(OsStr::from_bytes(b"im\xffages"));
    fs::create_dir(&images).expect("make a directory");
    let opts = CriuOpts {
        images_dir: Some(images.as_os_str().as_bytes().to_vec()),
        log_file: Some(b"l\xfeog".to_vec()),
        pid: Some(task.pid()),
        leave_running: Some(true),
        external: vec![b"file[1:2]:\xfd".to_vec()],
        ..no_options()
    };
    good(&Worker::start().caller.ask(&request_with(CriuReqType::Dump, opts)), CriuReqType::Dump);
    assert!(images.join(OsStr::from_bytes(b"l\xfeog")).exists());
    assert!(images.join("inventory.img").exists());
    task.verify();
}

/// What is missing, empty, unknown or of no use to a request is taken as CRIU takes it.
#[test]
fn the_defaults_of_criu() {
    let scene = Scene::new("rpc-defaults");
    let images = directory(&scene.path("images"));
    let task = scene.start("files/open_file", &[]);
    let opts = CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        pid: Some(task.pid()),
        leave_running: Some(true),
        ..no_options()
    };
    let dump = |opts: CriuOpts| Worker::start().caller.ask(&request_with(CriuReqType::Dump, opts));

    // runc names one whether there is one or not.
    let missing = scene.path("no.conf").display().to_string();
    for config_file in [&*missing, "/dev/null/x", ""] {
        let config_file = Some(config_file.into());
        good(&dump(CriuOpts { config_file, ..opts.clone() }), CriuReqType::Dump);
    }
    let config_file = Some(missing.clone().into());
    good(&dump(CriuOpts { config_file, ..opts.clone() }), CriuReqType::Dump);
    let log = fs::read_to_string(scene.path("images/criu.log")).expect("read the log");
    assert!(log.contains(&format!("{missing}: there is none")), "{log}");

    let empty = CriuOpts {
        root: Some("".into()),
        cgroup_props: Some("".into()),
        cgroup_props_file: Some("".into()),
        cgroup_yard: Some("".into()),
        lsm_profile: Some("".into()),
        lsm_mount_context: Some("".into()),
        tls_cacert: Some("".into()),
        external: vec!["".into()],
        skip_mnt: vec!["".into()],
        enable_fs: vec!["".into()],
        irmap_scan_paths: vec!["".into()],
        exec_cmd: vec!["".into()],
        ..opts.clone()
    };
    good(&dump(empty), CriuReqType::Dump);
    for (name, wrong) in [
        ("log file", CriuOpts { log_file: Some("".into()), ..opts.clone() }),
        ("network_lock 9", CriuOpts { network_lock: Some(9), ..opts.clone() }),
        ("pre_dump_mode 9", CriuOpts { pre_dump_mode: Some(9), ..opts.clone() }),
        ("manage_cgroups_mode 9", CriuOpts { manage_cgroups_mode: Some(9), ..opts.clone() }),
        ("empty_ns", CriuOpts { empty_ns: Some(1 << 17), ..opts.clone() }),
        ("mntns_compat_mode", CriuOpts { mntns_compat_mode: Some(true), ..opts.clone() }),
    ] {
        bad(&dump(wrong), CriuReqType::Dump, libc::EBADRQC, &[name]);
    }

    let inherited = |fd| {
        let inherit_fd = vec![criu::images::proto::InheritFd { key: "pipe:[1]".into(), fd }];
        dump(CriuOpts { inherit_fd, ..opts.clone() })
    };
    good(&inherited(2), CriuReqType::Dump);
    bad(&inherited(1_000_000), CriuReqType::Dump, libc::EBADRQC, &["1000000 is not open"]);

    let both = CriuOpts { leave_stopped: Some(true), ..opts.clone() };
    good(&dump(both), CriuReqType::Dump);
    until(
        || format!("pid {} is {:?}", task.pid(), state_of(task.pid())),
        || (state_of(task.pid()) == Some('T')).then_some(()),
    );
    task.signal(nix::sys::signal::Signal::SIGCONT);
    task.verify();
}
