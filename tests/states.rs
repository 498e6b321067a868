//! Every state of `tests/programs`, on each of its axes. Which tests there are follows from the headers
//! of the programs; here is what each axis does.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use criu::images::proto::{CriuOpts, CriuReqType};
use criu_test_support::{Axis, State};
use prost::Message;

use crate::common::{
    Criu, NOBODY, Round, Scene, Service, Task, Worker, alive, directory, no_options, peer,
    request_with, state_of, tree_of,
};
use crate::set_user_id;

criu_test_support::state_tests!(crate::states::run);

fn run(state: &State, axis: Axis) {
    let _numbers = state.takes_terminals.then(crate::common::terminals::numbers);
    match axis {
        Axis::AsRoot => round(state, None).run(),
        Axis::AsUser => round(state, Some(NOBODY)).run(),
        Axis::LeaveRunning => leave_running(state),
        Axis::SelfDump => self_dump(state),
        Axis::ByRpc => by_rpc(state),
        Axis::SetUserId => set_user_id::round_trip(state),
        Axis::ToCriu => to_criu(state, None),
        Axis::FromCriu => from_criu(state, None),
        Axis::ToCriuAsUser => to_criu(state, Some(NOBODY)),
        Axis::FromCriuAsUser => from_criu(state, Some(NOBODY)),
    }
}

fn round(state: &State, user: Option<u32>) -> Round<'static> {
    let State { args, dump, restore, .. } = *state;
    Round { args, user, dump, restore, ..Round::of(state.program) }
}

fn to_criu(state: &State, user: Option<u32>) {
    let Some(restorer) = peer() else { return };
    Round { restorer, ..round(state, user) }.run();
}

fn from_criu(state: &State, user: Option<u32>) {
    let Some(dumper) = peer() else { return };
    Round { dumper, ..round(state, user) }.run();
}

/// A scene of whoever may run the state, root if it may.
fn scene_of(state: &State) -> Scene {
    let scene = Scene::new(state.program);
    if state.runs_as_root { scene } else { scene.owned_by(NOBODY) }
}

/// The dumped tree runs on unharmed, and the images are whole all the same.
fn leave_running(state: &State) {
    let scene = scene_of(state);
    let Some(task) = scene.start_or_leave_out(state.program, state.args) else { return };
    let pids = left_running(state, &task, &scene.path("first"));
    left_running(state, &task, &scene.path("second"));
    task.verify();
    scene.until_gone(&pids);

    // In a scene of its own, because a program may change what its images speak of when it looks.
    let scene = scene_of(state);
    let task = scene.start(state.program, state.args);
    let images = scene.path("images");
    let pids = left_running(state, &task, &images);
    task.end_tree(&pids);
    scene.on_disk(pids[0], &images).restore_with(&Criu::ours(), state.restore).verify();
}

/// Dumps a tree, whose processes it returns; whoever lived lives on.
fn left_running(state: &State, task: &Task<'_>, images: &Path) -> Vec<i32> {
    let pids = tree_of(task.pid());
    let living: Vec<i32> = pids.iter().copied().filter(|pid| alive(*pid)).collect();
    task.dump_call(images).args(state.dump).arg("--leave-running").run().ok();
    for pid in living {
        assert!(alive(pid), "pid {pid} of {} is {:?}", state.program, state_of(pid));
    }
    pids
}

/// The program asks a service for its own dump; its clone gets another answer.
fn self_dump(state: &State) {
    /// Where `scene.h` has the images directory open.
    const IMAGES: i32 = 180;
    let scene = scene_of(state).with_environment("SCENE_SELF_DUMP", "yes");
    let images = scene.users_directory("images");
    let service = Service::start(&scene);
    fs::set_permissions(&service.socket, fs::Permissions::from_mode(0o666)).expect("chmod");
    let opts = CriuOpts {
        images_dir_fd: IMAGES,
        log_file: Some("dump.log".into()),
        log_level: Some(4),
        ..no_options()
    };
    let request = request_with(CriuReqType::Dump, opts);
    fs::write(scene.path("request"), request.encode_to_vec()).expect("write a request");
    let Some(task) = scene.start_or_leave_out(state.program, state.args) else { return };
    let pids = tree_of(task.pid());
    task.signal(nix::sys::signal::Signal::SIGUSR1);
    let dumped = task.gone(&pids, &images);
    assert!(images.join("inventory.img").exists(), "no dump: {}", scene.complaints());
    dumped.restore_with(&Criu::ours(), state.restore).verify();
}

/// By requests to a worker, which has the options in a configuration file.
fn by_rpc(state: &State) {
    let scene = scene_of(state);
    let Some(task) = scene.start_or_leave_out(state.program, state.args) else { return };
    let pids = tree_of(task.pid());
    let images = directory(&scene.path("images"));
    let opts = |verb: &str, options: &[&str]| CriuOpts {
        images_dir_fd: images.as_raw_fd(),
        config_file: Some(configuration(&scene, verb, options).into()),
        log_file: Some(format!("{verb}.log").into()),
        log_level: Some(4),
        ..no_options()
    };
    let ask = |kind, opts: CriuOpts| {
        let worker = Worker::start();
        let answer = worker.caller.ask(&request_with(kind, opts));
        assert!(answer.success, "{answer:?}");
        worker.finish();
    };
    ask(CriuReqType::Dump, CriuOpts { pid: Some(task.pid()), ..opts("dump", state.dump) });
    let dumped = task.gone(&pids, &scene.path("images"));
    ask(CriuReqType::Restore, opts("restore", state.restore));
    dumped.running().verify();
}

/// Options of the command line as a configuration file.
fn configuration(scene: &Scene, verb: &str, options: &[&str]) -> String {
    let path = scene.path(&format!("{verb}.conf"));
    let lines = options.iter().map(|option| format!("{}\n", option.trim_start_matches("--")));
    fs::write(&path, lines.collect::<String>()).expect("write a configuration file");
    path.display().to_string()
}
