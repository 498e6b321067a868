//! The log is there from the first moment: it has the cause of every failure, that of options and
//! configuration files too. Callers like runc and podman show their users nothing else.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use criu::images::proto::{CriuOpts, CriuReq, CriuReqType, InheritFd};

use crate::common::{
    Criu, NOBODY, Scene, Service, Worker, ask_as_user, directory, no_options, request_with,
};

/// The text of a log, which is there.
#[track_caller]
fn logged(path: &Path) -> String {
    let text = fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::remove_file(path).expect("remove a log");
    text
}

#[track_caller]
fn has_error(log: &str, words: &[&str]) {
    assert!(log.contains("Error ("), "{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
}

/// Of a worker: the same words are in its log and in its answer.
#[test]
fn of_a_worker() {
    let scene = Scene::new("logs-worker");
    let images = directory(&scene.path("images"));
    let config = scene.path("criu.conf");
    fs::write(&config, "verbosity 4\nno-such-option\n").expect("write a file");
    let opts = CriuOpts { images_dir_fd: images.as_raw_fd(), ..no_options() };
    let said = |worker: Worker, request: &CriuReq, words: &[&str]| {
        let answer = worker.caller.ask(request);
        assert!(!answer.success, "{answer:?}");
        for word in words {
            assert!(answer.cr_errmsg().contains(word), "{word:?} is not in: {answer:?}");
        }
        has_error(&logged(&scene.path("images/criu.log")), words);
    };
    let configured = Worker::start_with(|command| {
        command.env("CRIU_CONFIG_FILE", &config);
    });
    let dump = |opts: CriuOpts| request_with(CriuReqType::Dump, opts);
    said(configured, &dump(opts.clone()), &["criu.conf", "no-such-option"]);
    let file = CriuOpts { config_file: Some(config.display().to_string().into()), ..opts.clone() };
    said(Worker::start(), &dump(file), &["criu.conf", "no-such-option"]);
    let elsewhere = CriuOpts { log_file: Some("../x.log".into()), ..opts.clone() };
    said(Worker::start(), &dump(elsewhere), &["No subdirs are allowed", "../x.log"]);
    assert!(!scene.path("x.log").exists());
    let inherited = InheritFd { key: "x".into(), fd: 1_000_000 };
    let inherited = CriuOpts { inherit_fd: vec![inherited], ..opts.clone() };
    let restore = request_with(CriuReqType::Restore, inherited);
    said(Worker::start(), &restore, &["descriptor 1000000 is not open"]);
    let nobody = CriuOpts { pid: Some(i32::MAX), ..opts.clone() };
    said(Worker::start(), &dump(nobody), &["no such process"]);
    let open = CriuReq { keep_open: Some(true), ..dump(opts.clone()) };
    said(Worker::start(), &open, &["keep_open does not go with DUMP"]);
    for kind in [CriuReqType::PreDump, CriuReqType::SinglePreDump] {
        let request = request_with(kind, opts.clone());
        said(Worker::start(), &request, &["pre-dump is not carried out"]);
    }
    let apart = CriuOpts {
        images_dir: Some("/nowhere".into()),
        work_dir_fd: Some(images.as_raw_fd()),
        ..no_options()
    };
    let restore = request_with(CriuReqType::Restore, apart);
    said(Worker::start(), &restore, &["open image directory /nowhere"]);
}

/// Of a service: in the user's directory, as a file of that user, that user reads why not.
#[test]
fn of_a_service() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let scene = Scene::new("logs-service");
    let service = Service::start(&scene);
    fs::set_permissions(&service.socket, fs::Permissions::from_mode(0o666)).expect("chmod");
    let images = scene.users_directory("images");
    let log = images.join("criu.log");
    let opts = CriuOpts { images_dir_fd: 10, ..no_options() };
    let victim = CriuOpts { pid: Some(1), ..opts.clone() };
    let parent = CriuOpts { parent_img: Some("..".into()), ..opts.clone() };
    for (kind, opts, words) in [
        (CriuReqType::Dump, victim, "their own processes only"),
        (CriuReqType::Dump, parent, "option parent_img"),
        (CriuReqType::Restore, opts.clone(), "RESTORE over the service is for root"),
        (CriuReqType::Check, CriuOpts { work_dir_fd: Some(10), ..opts }, "option work_dir_fd"),
    ] {
        let request = request_with(kind, opts);
        let answer = ask_as_user(&scene, service.socket.as_os_str(), &images, &request);
        assert!(!answer.success && answer.cr_errmsg().contains(words), "{answer:?}");
        if kind != CriuReqType::Check {
            assert_eq!(fs::metadata(&log).expect("a log").uid(), NOBODY);
            has_error(&logged(&log), &[words]);
        }
    }
    // What may not be asked for is not followed, either: nothing is opened by name.
    let roots = scene.path("roots");
    fs::create_dir(&roots).expect("make a directory");
    let named = CriuOpts { images_dir: Some(roots.display().to_string().into()), ..no_options() };
    for kind in [CriuReqType::Dump, CriuReqType::Check] {
        let named = CriuOpts { log_file: Some("x.log".into()), ..named.clone() };
        let request = request_with(kind, named);
        let answer = ask_as_user(&scene, service.socket.as_os_str(), &images, &request);
        assert!(!answer.success && answer.cr_errmsg().contains("option images_dir"), "{answer:?}");
        assert_eq!(fs::read_dir(&roots).expect("list").count(), 0);
    }
}

/// Of the command, where it is given a log.
#[test]
fn of_the_command() {
    let scene = Scene::new("logs-command");
    let config = scene.path("criu.conf");
    fs::write(&config, "no-such-option\n").expect("write a file");
    let (config, work) = (config.display().to_string(), scene.dir().display().to_string());
    for (words, said) in [
        (&["dump", "-t", "1", "--config", &config][..], &["criu.conf", "no-such-option"][..]),
        (&["restore", "--exec-cmd"], &["--exec-cmd requires a command"]),
        (&["dump", "--inherit-fd", "fd[1]:x"], &["--inherit-fd is available for"]),
        (&["restore", "-D", "/nowhere"], &["open image directory /nowhere"]),
        (&["restore", "--lazy-pages", "-D", "."], &["--lazy-pages"]),
        (&["nonsense"], &["there is no command `nonsense'"]),
    ] {
        let call = Criu::ours().words(words).args(["-W", &work, "-o", "the.log"]);
        let ran = call.run();
        assert!(!ran.succeeded(), "{words:?}");
        has_error(&logged(&scene.path("the.log")), said);
    }
    // What stands in front of a mistake is known.
    let line = ["-W", &work, "-o", "the.log", "dump", "--no-such-option"];
    let ran = Criu::ours().words(&line).run();
    assert!(ran.said().contains("--no-such-option"), "{}", ran.said());
    has_error(&logged(&scene.path("the.log")), &["--no-such-option"]);
}
