//! `criu service`: its socket, its life, its clients, and what it does for whom.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{
    Caller, NOBODY, Reply, Scene, Service, Task, alive, directory, no_options, request,
    request_with, state_of, tree_of, until,
};
use criu::images::proto::{CriuOpts, CriuReq, CriuReqType, CriuResp};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;

/// The number under which `rpc_peer` has its directory open.
const PEERS_DIRECTORY: i32 = 10;

/// Opens the socket to everybody, as an administrator may.
fn open_to_all(service: &Service) {
    fs::set_permissions(&service.socket, fs::Permissions::from_mode(0o666)).expect("chmod");
}

/// One request by a process of the unprivileged user.
fn ask_as_user(scene: &Scene, service: &Service, images: &Path, request: &CriuReq) -> CriuResp {
    crate::common::ask_as_user(scene, service.socket.as_os_str(), images, request)
}

/// Asks for a dump of `pid` as the unprivileged user.
fn dump_as_user(scene: &Scene, service: &Service, images: &Path, pid: i32) -> CriuResp {
    ask_as_user(scene, service, images, &request_with(CriuReqType::Dump, users_dump(pid)))
}

fn users_dump(pid: i32) -> CriuOpts {
    CriuOpts { images_dir_fd: PEERS_DIRECTORY, pid: Some(pid), log_level: Some(4), ..no_options() }
}

#[track_caller]
fn refused(answer: &CriuResp, words: &[&str]) {
    assert!(!answer.success, "{answer:?}");
    assert_ne!(answer.cr_errno(), 0, "{answer:?}");
    for word in words {
        assert!(answer.cr_errmsg().contains(word), "{word}: {}", answer.cr_errmsg());
    }
}

/// A log tells the user why nothing else was written.
fn only_logs(dir: &Path) -> bool {
    let mut entries = fs::read_dir(dir).expect("list a directory").flatten();
    entries.all(|entry| entry.path().extension().is_some_and(|end| end == "log"))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("list a directory").next().is_none()
}

fn output(mut command: Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().expect("run criu service");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

/// The text of the one log of a service that was started by [`Service::command`] and failed.
fn logged(scene: &Scene) -> String {
    let logs = fs::read_dir(scene.dir()).expect("list the scene").flatten();
    let logs = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("service-"));
    logs.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default()).collect()
}

/// The socket is root's, is removed by a signal, and serves nobody else.
#[test]
fn the_socket_is_roots_and_goes_with_the_service() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let scene = Scene::new("service-socket");
        let service = Service::start(&scene);
        let found = fs::metadata(&service.socket).expect("the socket");
        assert!(found.file_type().is_socket());
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, 0));
        let mut peer = Command::new(scene.program("helpers/rpc_peer"));
        let asked = scene.path("request");
        fs::write(&asked, request(CriuReqType::Version).encode_to_vec()).expect("write");
        peer.arg(&service.socket).arg("/").arg(&asked).arg(scene.path("answer"));
        peer.env("SCENE_DIR", scene.dir()).uid(NOBODY).gid(NOBODY);
        assert_eq!(peer.status().expect("run a peer").code(), Some(3), "it could connect");
        assert_eq!(service.end(signal).code(), Some(0));
        assert!(!scene.path("socket").exists());
    }
}

/// A second service is refused, what a dead one left is taken over, other files are left alone.
#[test]
fn one_service_at_an_address() {
    let scene = Scene::new("service-address");
    let service = Service::start(&scene);
    let (started, _) = output(Service::command(&scene, "socket"));
    assert!(!started);
    assert!(logged(&scene).contains("another service serves there"), "{}", logged(&scene));
    assert!(service.ask(&request(CriuReqType::Version)).success, "the first one serves on");
    // A child that has only just been born may still have the socket.
    service.until_idle();
    let stale = fs::metadata(&service.socket).expect("the socket").ino();
    service.end(Signal::SIGKILL);
    assert_eq!(fs::metadata(scene.path("socket")).expect("the socket").ino(), stale);
    assert_eq!(Caller::connect(&scene.path("socket")).err(), Some(Errno::ECONNREFUSED));
    let service = Service::start(&scene);
    assert!(service.ask(&request(CriuReqType::Version)).success);

    fs::write(scene.path("file"), "mine").expect("write a file");
    let (started, _) = output(Service::command(&scene, "file"));
    assert!(!started);
    assert_eq!(fs::read_to_string(scene.path("file")).expect("read"), "mine");
}

/// As a daemon it is ready when the command returns: pid file, status descriptor, script.
#[test]
fn a_daemon_is_ready_when_its_starter_ends() {
    let scene = Scene::new("service-daemon");
    let out = scene.path("stages");
    let script = scene.script(
        "script",
        &format!(
            "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $(sed -n s/SigBlk://p /proc/$$/status) >>{}\n",
            out.display()
        ),
    );
    let command = Service::command(&scene, "socket");
    // The status goes to a descriptor that the shell opens.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "\"$@\" --status-fd 7 7>status", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).args(["-d", "--pidfile", "pid", "--action-script"]).arg(script);
    shell.env("SCENE_DIR", scene.dir()).current_dir(scene.dir());
    let (started, text) = output(shell);
    assert!(started, "{text}{}", logged(&scene));
    assert_eq!(fs::read(scene.path("status")).expect("the status"), [0]);
    assert_eq!(fs::read_to_string(&out).expect("the stages"), "status-ready 0000000000000000\n");
    let pid: i32 =
        fs::read_to_string(scene.path("pid")).expect("a pid file").parse().expect("a pid");
    let caller = Caller::connect(&scene.path("socket")).expect("connect");
    assert!(caller.ask(&request(CriuReqType::Version)).success);
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("end the daemon");
    scene.until_gone(&[pid]);
    assert!(!scene.path("socket").exists());
}

/// A daemon that cannot start says why by its starter, and leaves no socket.
#[test]
fn a_daemon_that_cannot_start_says_so() {
    let scene = Scene::new("service-daemon-fails");
    let script = scene.script("script", "#!/bin/sh\nexit 1\n");
    let mut command = Service::command(&scene, "socket");
    command.arg("-d").arg("--action-script").arg(script);
    let (started, _) = output(command);
    assert!(!started);
    assert!(logged(&scene).contains("status-ready"), "{}", logged(&scene));
    assert!(!scene.path("socket").exists());
}

/// A tree is dumped, and restored on another connection; the restored root outlives the service.
#[test]
fn dumps_and_restores() {
    let scene = Scene::new("service-verbs");
    let service = Service::start(&scene);
    let task = scene.start("tree/crowd", &[]);
    let (pid, pids) = (task.pid(), tree_of(task.pid()));
    let images = directory(&scene.path("images"));
    let opts = CriuOpts { images_dir_fd: images.as_raw_fd(), ..no_options() };
    let dump = CriuOpts { pid: Some(pid), notify_scripts: Some(true), ..opts.clone() };
    let dump = request_with(CriuReqType::Dump, dump);
    let (answer, notes) = service.caller().converse(&dump, |_| Reply::default());
    assert!(answer.success, "{answer:?}");
    assert_eq!(notes.first().map(|note| note.stage.as_str()), Some("pre-dump"));
    let dumped = task.gone(&pids, &scene.path("images"));
    let answer = service.ask(&request_with(CriuReqType::Restore, opts));
    assert!(answer.success, "{answer:?}");
    assert_eq!(answer.restore.expect("a restore").pid, pid);
    service.until_idle();
    assert!(service.end(Signal::SIGTERM).success());
    dumped.running().verify();
}

/// Clients are served side by side, and what served them is reaped.
#[test]
fn many_clients_at_once() {
    let scene = Scene::new("service-many");
    let service = Service::start(&scene);
    let version = CriuReq { keep_open: Some(true), ..request(CriuReqType::Version) };
    let callers: Vec<Caller> = (0..20).map(|_| service.caller()).collect();
    // Each has its own child by now, and all of them are open together.
    for caller in callers.iter().chain(callers.iter().rev()) {
        assert!(caller.ask(&version).success);
    }
    let children = service.workers();
    assert_eq!(children.len(), 20, "{children:?}");
    // A worker that dies harms nobody else.
    kill(Pid::from_raw(children[0]), Signal::SIGKILL).expect("kill a worker");
    until(
        || "the dead worker is not reaped".into(),
        || state_of(children[0]).is_none().then_some(()),
    );
    let served = callers.iter().filter(|caller| {
        caller.try_send(&version) && caller.receive().is_some_and(|answer| answer.success)
    });
    assert_eq!(served.count(), 19);
    drop(callers);
    service.until_idle();
    assert!(service.ask(&request(CriuReqType::Version)).success);
}

/// What nobody gets over the service, root included.
#[test]
fn what_a_service_does_for_nobody() {
    let scene = Scene::new("service-nobody");
    let service = Service::start(&scene);
    let images = directory(&scene.path("images"));
    let proof = scene.path("proof");
    let script = scene.script("script", &format!("#!/bin/sh\ntouch {}\n", proof.display()));
    let config = scene.path("criu.conf");
    fs::write(&config, format!("action-script {}\n", script.display())).expect("write");
    let task = scene.start("files/open_file", &[]);
    let opts = CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        pid: Some(task.pid()),
        leave_running: Some(true),
        ..no_options()
    };
    let configured =
        CriuOpts { config_file: Some(config.display().to_string().into()), ..opts.clone() };
    refused(&service.ask(&request_with(CriuReqType::Dump, configured)), &["option config_file"]);
    let sibling = CriuOpts { rst_sibling: Some(true), ..opts.clone() };
    refused(&service.ask(&request_with(CriuReqType::Restore, sibling)), &["option rst_sibling"]);
    // Nor does the service's own environment say anything about its peers' requests.
    drop(service);
    let mut command = Service::command(&scene, "configured");
    command.env("CRIU_CONFIG_FILE", &config).stderr(Stdio::null());
    let mut child = command.spawn().expect("start a service");
    let socket = scene.path("configured");
    let caller = until(|| "no service".into(), || Caller::connect(&socket).ok());
    // The script runs when the service is ready, for that is the service's own stage.
    until(|| "the script did not run".into(), || proof.exists().then_some(()));
    fs::remove_file(&proof).expect("remove the proof");
    assert!(caller.ask(&request_with(CriuReqType::Dump, opts)).success);
    assert!(!proof.exists());
    child.kill().expect("end the service");
    child.wait().expect("wait for the service");
    task.verify();
}

/// A user who is not root dumps a process of its own: the files are that user's.
#[test]
fn users_dump_their_own() {
    let scene = Scene::new("service-own").owned_by(NOBODY);
    let service = Service::start(&scene);
    open_to_all(&service);
    let task = scene.start("files/open_file", &[]);
    let pids = tree_of(task.pid());
    let images = scene.users_directory("images");
    let answer = dump_as_user(&scene, &service, &images, task.pid());
    assert!(answer.success, "{answer:?}");
    for entry in fs::read_dir(&images).expect("list the images").flatten() {
        let found = entry.metadata().expect("stat an image");
        assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{:?}", entry.path());
    }
    task.gone(&pids, &images).restore().verify();
}

/// The user's process dumps itself, and goes on as if nothing had happened; so does its clone.
#[test]
fn users_dump_themselves() {
    let scene = Scene::new("service-self").owned_by(NOBODY);
    let service = Service::start(&scene);
    open_to_all(&service);
    let images = scene.users_directory("images");
    let opts =
        CriuOpts { images_dir_fd: PEERS_DIRECTORY, leave_running: Some(true), ..no_options() };
    let (asked, answered) = (scene.path("request"), scene.path("answer"));
    fs::write(&asked, request_with(CriuReqType::Dump, opts).encode_to_vec()).expect("write");
    let words = [&scene.program("helpers/rpc_peer"), &service.socket, &images, &asked, &answered];
    let peer = scene.spawn(words);
    let pid = peer.pid();
    assert_eq!(peer.exit_code(), 0, "{}", scene.complaints());
    let answer = |path: &Path| CriuResp::decode(fs::read(path).expect("read").as_slice());
    let first = answer(&answered).expect("a response");
    assert!(first.success && first.dump.expect("a dump").restored == Some(false), "{first:?}");
    fs::remove_file(&answered).expect("remove the answer");
    scene.until_gone(&[pid]);
    let clone = scene.on_disk(pid, &images).restore();
    assert_eq!(clone.exit_code(), 0, "{}", scene.complaints());
    let second = answer(&answered).expect("a response");
    assert!(second.success && second.dump.expect("a dump").restored == Some(true), "{second:?}");
}

/// Nobody's dump: of root, of another user, of a process that its user may not look into, of a tree
/// with somebody else's child. All of them run on.
#[test]
fn users_do_not_dump_others() {
    let scene = Scene::new("service-others");
    let service = Service::start(&scene);
    open_to_all(&service);
    let images = scene.users_directory("images");
    let victims = Scene::new("service-victims");
    let roots = victims.start("files/open_file", &[]);
    let neighbours = Scene::new("service-neighbours").owned_by(NOBODY + 1);
    let neighbour = neighbours.start("files/open_file", &[]);
    for pid in [roots.pid(), neighbour.pid(), service.pid(), 1] {
        let answer = dump_as_user(&scene, &service, &images, pid);
        refused(&answer, &["their own processes only"]);
        assert_eq!(answer.cr_errno(), libc::EPERM);
        assert!(only_logs(&images), "something was written for pid {pid}");
    }
    roots.verify();
    neighbour.verify();
    let user = NOBODY.to_string();
    let secretive = Scene::new("service-secretive").owned_by(NOBODY);
    let undumpable = secretive.start("helpers/undumpable", &[]);
    let mixture = Scene::new("service-mixture");
    let mixed = mixture.start("helpers/mixed_users", &[user.as_str()]);
    for task in [&undumpable, &mixed] {
        let pids = tree_of(task.pid());
        let answer = dump_as_user(&scene, &service, &images, task.pid());
        refused(&answer, &["seize thread", "EPERM"]);
        assert!(!images.join("inventory.img").exists());
        assert!(pids.iter().all(|pid| alive(*pid) && !is_stopped(*pid)));
    }
    undumpable.verify();
    assert_eq!(tree_of(mixed.pid()).len(), 2);
}

fn is_stopped(pid: i32) -> bool {
    state_of(pid).is_some_and(|state| matches!(state, 'T' | 't'))
}

/// A user's request for a dump of `pid`, who then leaves a question unanswered.
struct Unanswered<'a> {
    peer: Task<'a>,
    worker: i32,
}

impl<'a> Unanswered<'a> {
    fn ask(scene: &'a Scene, service: &Service, images: &Path, pid: i32) -> Self {
        let opts = CriuOpts { notify_scripts: Some(true), ..users_dump(pid) };
        let (asked, answered) = (scene.path("request"), scene.path("answer"));
        fs::write(&asked, request_with(CriuReqType::Dump, opts).encode_to_vec()).expect("write");
        let words =
            [&scene.program("helpers/rpc_peer"), &service.socket, images, &asked, &answered];
        let mut peer = scene.spawn(words.into_iter().chain([Path::new("hold")]));
        peer.until_ready();
        let question = CriuResp::decode(fs::read(&answered).expect("read").as_slice());
        assert_eq!(question.expect("a response").r#type(), CriuReqType::Notify);
        let [worker] = service.workers()[..] else { panic!("{:?}", service.workers()) };
        Self { peer, worker }
    }
}

/// What serves a user is that user, with one capability that the user has not: so the user cannot
/// take it over.
#[test]
fn what_serves_a_user_is_that_user() {
    let scene = Scene::new("service-worker").owned_by(NOBODY);
    let service = Service::start(&scene);
    open_to_all(&service);
    let victim = Scene::new("service-worker-victim").owned_by(NOBODY);
    let task = victim.start("files/open_file", &[]);
    let images = scene.users_directory("images");
    let Unanswered { peer, worker } = Unanswered::ask(&scene, &service, &images, task.pid());
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("read a status");
    let ids = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    for line in [
        &format!("Uid:\t{ids}"),
        &format!("Gid:\t{ids}"),
        "CapPrm:\t0000010000000000",
        "CapInh:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "no {line} in {status}");
    }
    let mut tracer = Command::new(scene.program("helpers/tracer"));
    tracer.arg(worker.to_string()).env("SCENE_DIR", scene.dir()).uid(NOBODY).gid(NOBODY);
    let status = tracer.status().expect("run a tracer");
    assert!(status.success(), "{}", scene.complaints());
    // Without an answer there is no dump.
    peer.verify();
    service.until_idle();
    assert!(!images.join("inventory.img").exists());
    task.verify();
}

/// The user may make what serves it dump core, for one. Nothing of the service's is in its memory,
/// nor are the service's files open in it.
#[test]
fn what_serves_a_user_has_nothing_of_the_services() {
    const SECRET: &str = "only-root-knows-this";
    let scene = Scene::new("service-secret").owned_by(NOBODY);
    let inherited = fs::File::create(scene.path("inherited")).expect("make a file");
    fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).expect("let it be inherited");
    let service = Service::start_with(&scene, |command| {
        command.env("SECRET", SECRET).arg("--pidfile").arg(scene.path(SECRET));
    });
    drop(inherited);
    open_to_all(&service);
    let victim = Scene::new("service-secret-victim").owned_by(NOBODY);
    let task = victim.start("files/open_file", &[]);
    let images = scene.users_directory("images");
    assert!(is_in_memory(service.pid(), SECRET), "the service itself does not know it");
    let Unanswered { peer, worker } = Unanswered::ask(&scene, &service, &images, task.pid());
    assert!(!is_in_memory(worker, SECRET));
    assert_eq!(fs::read(format!("/proc/{worker}/environ")).expect("read"), b"");
    let open = fs::read_dir(format!("/proc/{worker}/fd")).expect("list descriptors").flatten();
    for path in open.map(|entry| fs::read_link(entry.path()).unwrap_or_default()) {
        let path = path.display().to_string();
        assert!(!path.contains("inherited") && !path.contains("/service-"), "{path} is open");
    }
    peer.verify();
    task.verify();
}

/// Whether what can be read of a process holds a text.
fn is_in_memory(pid: i32, text: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("read the layout");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("open the memory");
    let readable = maps.lines().filter(|line| line.contains(" r"));
    let mut ranges = readable.filter_map(|line| line.split(' ').next()?.split_once('-'));
    ranges.any(|(start, end)| {
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let mut bytes = vec![0; (address(end) - address(start)) as usize];
        // Not all of the kernel's own can be read.
        let read = memory.read_at(&mut bytes, address(start)).unwrap_or(0);
        bytes[..read].windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// One user's connections do not keep root out, and a share comes back when a worker dies.
#[test]
fn silent_users_leave_room() {
    let scene = Scene::new("service-silent").owned_by(NOBODY);
    let service = Service::start_with(&scene, |command| {
        command.args(["--timeout", "0"]);
    });
    open_to_all(&service);
    let images = scene.users_directory("images");
    let socket = service.socket.display().to_string();
    let crowd = scene.start("helpers/silent_peers", &[&socket, "520", "32"]);
    let root = service.caller();
    root.send(&request(CriuReqType::Version));
    root.until_answered();
    assert!(root.receive().expect("an answer").success);
    let version = || ask_as_user(&scene, &service, &images, &request(CriuReqType::Version));
    refused(&version(), &["user 4242 has 32 connections"]);
    drop(root);
    let workers = until(
        || format!("workers {:?}", service.workers()),
        || Some(service.workers()).filter(|workers| workers.len() == 32),
    );
    crowd.verify();
    service.until_idle();
    let crowd = scene.start("helpers/silent_peers", &[&socket, "32", "0"]);
    refused(&version(), &["user 4242 has 32 connections"]);
    let workers_now = service.workers();
    assert!(workers_now.iter().all(|worker| !workers.contains(worker)));
    for worker in &workers_now {
        kill(Pid::from_raw(*worker), Signal::SIGKILL).expect("kill a worker");
    }
    service.until_idle();
    assert!(version().success);
    crowd.verify();
}

/// Nobody waits for a user for ever: neither for a request, nor for an answer while the user's own
/// tree is stopped, which then runs on.
#[test]
fn silent_users_are_let_go() {
    let scene = Scene::new("service-patience").owned_by(NOBODY);
    let service = Service::start_with(&scene, |command| {
        command.args(["--timeout", "1"]);
    });
    open_to_all(&service);
    let crowd =
        scene.start("helpers/silent_peers", &[&service.socket.display().to_string(), "8", "0"]);
    crowd.verify();
    service.until_idle();
    let victim = Scene::new("service-patience-victim").owned_by(NOBODY);
    let task = victim.start("files/open_file", &[]);
    let images = scene.users_directory("images");
    let unanswered = Unanswered::ask(&scene, &service, &images, task.pid());
    service.until_idle();
    assert!(!images.join("inventory.img").exists());
    let log = fs::read_to_string(images.join("criu.log")).expect("read the log");
    assert!(log.contains("the caller said nothing for as long as the service waits"), "{log}");
    task.verify();
    unanswered.peer.verify();
    assert!(service.ask(&request(CriuReqType::Version)).success);
}

/// What the user may not write is not written for it: directories, and files by links.
#[test]
fn users_write_what_they_may() {
    let scene = Scene::new("service-write").owned_by(NOBODY);
    let service = Service::start(&scene);
    open_to_all(&service);
    let task = scene.start("files/open_file", &[]);
    let roots = scene.path("roots");
    fs::create_dir(&roots).expect("make a directory");
    let answer = dump_as_user(&scene, &service, &roots, task.pid());
    refused(&answer, &["EACCES"]);
    assert!(is_empty(&roots));

    let secret = scene.path("secret");
    fs::write(&secret, "root's own").expect("write");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    let images = scene.users_directory("images");
    for name in ["criu.log", "stats-dump", "pages-1.img", "inventory.img"] {
        symlink(&secret, images.join(name)).expect("make a link");
    }
    dump_as_user(&scene, &service, &images, task.pid());
    assert_eq!(fs::read_to_string(&secret).expect("read"), "root's own");
}

/// Names of files and directories, other descriptors, and everything that is not listed.
#[test]
fn users_get_listed_options_only() {
    let scene = Scene::new("service-options").owned_by(NOBODY);
    let service = Service::start(&scene);
    open_to_all(&service);
    let task = scene.start("files/open_file", &[]);
    let images = scene.users_directory("images");
    let opts = CriuOpts { leave_running: Some(true), ..users_dump(task.pid()) };
    let ask =
        |kind, opts: CriuOpts| ask_as_user(&scene, &service, &images, &request_with(kind, opts));
    let named = CriuOpts {
        images_dir: Some(images.display().to_string().into()),
        config_file: Some("/etc/passwd".into()),
        log_to_stderr: Some(true),
        parent_img: Some("..".into()),
        freeze_cgroup: Some("/sys/fs/cgroup".into()),
        exec_cmd: vec!["/bin/sh".into()],
        ..opts.clone()
    };
    let names = ["images_dir", "config_file", "log_to_stderr", "parent_img", "freeze_cgroup"];
    let names: Vec<String> = names.iter().map(|name| format!("option {name} is refused")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    refused(&ask(CriuReqType::Dump, named), &names);
    let elsewhere = CriuOpts { log_file: Some("../escaped.log".into()), ..opts.clone() };
    refused(&ask(CriuReqType::Dump, elsewhere), &["No subdirs"]);
    assert!(!scene.path("escaped.log").exists());
    // The service's own descriptor of that number is not the peer's.
    let service_log = CriuOpts { work_dir_fd: Some(3), ..opts.clone() };
    refused(&ask(CriuReqType::Dump, service_log), &["work directory 3"]);
    for kind in [
        CriuReqType::Restore,
        CriuReqType::PageServer,
        CriuReqType::PageServerChld,
        CriuReqType::CpuinfoDump,
        CriuReqType::CpuinfoCheck,
    ] {
        let answer = ask(kind, CriuOpts { images_dir_fd: PEERS_DIRECTORY, ..no_options() });
        refused(&answer, &[kind.as_str_name(), "is for root"]);
        assert_eq!(answer.cr_errno(), libc::EPERM);
    }
    let logging = CriuOpts { log_file: Some("check.log".into()), ..opts.clone() };
    refused(&ask(CriuReqType::Check, logging), &["option log_file"]);
    assert!(only_logs(&images));
    assert!(ask(CriuReqType::Check, no_options()).success);
    assert!(ask(CriuReqType::Version, no_options()).success);
    let answer = ask(CriuReqType::Dump, opts);
    assert!(answer.success, "{answer:?}");
    task.verify();
}

/// Root without the service's capabilities is no root to it.
#[test]
fn root_without_capabilities_is_a_user() {
    let scene = Scene::new("service-limited");
    let service = Service::start(&scene);
    let images = scene.users_directory("images");
    let victim = Scene::new("service-limited-victim").owned_by(NOBODY);
    let task = victim.start("files/open_file", &[]);
    let (asked, answered) = (scene.path("request"), scene.path("answer"));
    let dump = request_with(CriuReqType::Dump, users_dump(task.pid()));
    fs::write(&asked, dump.encode_to_vec()).expect("write a request");
    let peer = [&scene.program("helpers/rpc_peer"), &service.socket, &images, &asked, &answered];
    let mut command = Command::new(scene.program("helpers/powerless"));
    command.args(peer).env("SCENE_DIR", scene.dir());
    assert!(command.status().expect("run a peer").success(), "{}", scene.complaints());
    let answer =
        CriuResp::decode(fs::read(answered).expect("read").as_slice()).expect("a response");
    refused(&answer, &["user 0", "their own processes only"]);
    task.verify();
}

/// A service is started by root itself.
#[test]
fn the_rights_of_root_are_not_for_users_to_start() {
    let scene = Scene::new("service-started");
    let mut command = Service::command(&scene, "socket");
    command.current_dir(scene.users_directory("work")).uid(NOBODY).gid(NOBODY);
    let (started, _) = output(command);
    assert!(!started && logged(&scene).contains("run it as root"), "{}", logged(&scene));
    assert!(!scene.path("socket").exists());
}
