//! Every option of the table by every face, on a dump and on a restore of a tree that needs none:
//! what is accepted is what the table says. Options that speak of objects do not make them pass.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Criu, Scene, Task, Worker, directory, request_with};
use criu::capi::types::{criu_notify_arg_t, criu_opts};
use criu::capi::{
    notes, set_flags, set_lists, set_numbers, set_service, set_strings, settings, verbs,
};
use criu::images::proto::{CriuOpts, CriuReqType};
use criu::options::table::{self, Argument, Given, Row};
use criu::options::{Options, Verb};
use criu_test_support::{Lack, needs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a request came to: the pid of what it was about, or why it was refused.
type Answer = Result<i32, String>;

/// A tree and its images, for requests that say one option more than they need to.
struct Ground {
    scene: Scene,
    pid: i32,
    images: PathBuf,
}

impl Ground {
    fn new(face: &str) -> Self {
        let scene = Scene::new(&format!("options-{face}"));
        let images = scene.path("images");
        fs::create_dir(scene.path("empty")).expect("make a directory");
        fs::write(scene.path("empty.conf"), "").expect("write a file");
        // A restore with --cpu-cap wants what a dump with it has written.
        let dumped =
            scene.start("files/open_file", &[]).dump_with(&Criu::ours(), &images, &["--cpu-cap"]);
        let pid = dumped.pid();
        Self { scene, pid, images }
    }

    /// The argument of an option on the command line; None where it has none.
    fn argument(&self, row: &Row, verb: Verb) -> Option<String> {
        let path = |name: &str| self.scene.path(name).display().to_string();
        let of_row = match row.name {
            "pid" => self.pid.to_string(),
            "images_dir" | "work_dir" if verb == Verb::Dump => path("dumped"),
            "images_dir" | "work_dir" => self.images.display().to_string(),
            "log_file" => "option.log".to_owned(),
            "pidfile" => "option.pid".to_owned(),
            "libdir" => path("empty"),
            "action_scripts" => "/bin/true".to_owned(),
            "features" => "mem_dirty_track".to_owned(),
            "timeout" => "60".to_owned(),
            "status_fd" | "ps.fd" => "2".to_owned(),
            "lsm_profile" => "apparmor:text".to_owned(),
            // Not those of pid 1, which may be somebody else's.
            "join_ns" => format!("uts:{}", std::process::id()),
            "inherit_fd" => "fd[2]:pipe:[1]".to_owned(),
            "network_lock" => "skip".to_owned(),
            "file_validation" => "buildid".to_owned(),
            "pre_dump_mode" => "read".to_owned(),
            "ghost_limit" => "2M".to_owned(),
            "empty_ns" => "net".to_owned(),
            "veths" => "eth0=veth0".to_owned(),
            "ext_mnt" => "/mnt:name".to_owned(),
            "ps.port" => "7".to_owned(),
            _ => "text".to_owned(),
        };
        matches!(row.argument, Argument::Required(_)).then_some(of_row)
    }

    /// The option as words of a command line.
    fn words(&self, row: &Row, verb: Verb) -> Vec<String> {
        let flag = format!("--{}", row.long[0]);
        std::iter::once(flag).chain(self.argument(row, verb)).collect()
    }

    /// The option as a message of the RPC.
    fn message(&self, row: &Row, verb: Verb) -> CriuOpts {
        let mut options = Options::default();
        let argument = self.argument(row, verb);
        let given = argument.as_ref().map_or(Given::Yes, |text| Given::Text(text.as_ref()));
        match row.name {
            "images_dir_fd" => {}
            "work_dir_fd" => options.work_dir_fd = Some(2),
            "unix_sk_ino" => options.unix_sk_ino = vec![9],
            "auto_ext_mnt" => options.auto_ext_mnt = Some(true),
            "orphan_pts_master" => options.orphan_pts_master = Some(true),
            "log_to_stderr" => options.log_to_stderr = Some(true),
            "notify_scripts" => options.notify_scripts = Some(true),
            "pidfd_store_sk" => options.pidfd_store_sk = Some(2),
            "exec_cmd" => options.exec_cmd = vec!["true".into()],
            "config_file" => {
                options.config_file = Some(self.scene.path("empty.conf").into_os_string());
            }
            _ => (row.from_text)(given, &mut options).expect("a value that the option takes"),
        }
        options.use_page_server = (row.name == "ps").then_some(true);
        options.to_rpc()
    }

    /// Brings the tree back, for what it is to be dumped by.
    fn running(&self) -> Task<'_> {
        let _ = fs::remove_file(self.images.join("option.pid"));
        self.scene.on_disk(self.pid, &self.images).restore()
    }

    /// Ends what a restore has made.
    fn clear(&self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        self.scene.until_gone(&[self.pid]);
        let _ = fs::remove_file(self.images.join("option.pid"));
    }

    /// Asks for a dump, then for a restore, with each option, and compares.
    fn try_all(&self, which: impl Fn(&Row) -> bool, by: Face, ask: impl Fn(&Row, Verb) -> Answer) {
        let rows: Vec<&Row> = table::rows().filter(|row| which(row)).collect();
        let task = self.running();
        for row in &rows {
            judge(row, Verb::Dump, by, ask(row, Verb::Dump));
            // One of the options leaves it stopped.
            task.signal(Signal::SIGCONT);
        }
        task.verify();
        for row in rows {
            judge(row, Verb::Restore, by, ask(row, Verb::Restore));
            self.clear();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    CommandLine,
    Message,
}

/// Compares with the table.
#[track_caller]
fn judge(row: &Row, verb: Verb, by: Face, answer: Answer) {
    // Only a message asks for the page server by naming it.
    let asked = match (row.name, by) {
        ("ps", Face::Message) => table::rows().find(|row| row.name == "use_page_server"),
        _ => Some(row),
    };
    let decisive = asked.expect("a row");
    let known_elsewhere_only = match row.name {
        "mntns_compat_mode" => verb == Verb::Dump,
        "inherit_fd" | "rst_sibling" => verb == Verb::Dump && by == Face::CommandLine,
        _ => false,
    };
    let exception = row.name == "lsm_profile" && verb == Verb::Restore;
    let accepted = decisive.is_accepted_on(verb) && !known_elsewhere_only && !exception;
    match answer {
        Ok(_) => assert!(accepted, "{row:?} is accepted on {verb:?}"),
        Err(why) => {
            assert!(!accepted, "{row:?} is refused on {verb:?}: {why}");
            let name = decisive.long.first().copied().unwrap_or(row.name);
            assert!(why.contains(name), "{row:?} on {verb:?}: {why}");
        }
    }
}

fn is_on_command_line(row: &Row) -> bool {
    !row.long.is_empty()
}

#[test]
fn by_the_command_line() {
    let ground = Ground::new("command-line");
    ground.try_all(is_on_command_line, Face::CommandLine, |row, verb| {
        by_command(&ground, verb, &ground.words(row, verb))
    });
}

fn by_command(ground: &Ground, verb: Verb, words: &[String]) -> Answer {
    let call = match verb {
        Verb::Dump => Criu::ours().dump(ground.pid, &ground.scene.path("dumped")).arg("-R"),
        _ => Criu::ours().restore(&ground.images),
    };
    let ran = call.args(words).run();
    if ran.succeeded() { Ok(ground.pid) } else { Err(ran.message()) }
}

#[test]
fn by_a_configuration_file() {
    let ground = Ground::new("configuration");
    ground.try_all(is_on_command_line, Face::CommandLine, |row, verb| {
        let file = ground.scene.path("option.conf");
        let value =
            ground.argument(row, verb).map(|value| format!(" \"{value}\"")).unwrap_or_default();
        fs::write(&file, format!("{}{value}\n", row.long[0])).expect("write a file");
        by_command(&ground, verb, &["--config".to_owned(), file.display().to_string()])
    });
}

#[test]
fn by_the_rpc() {
    let ground = Ground::new("rpc");
    let dumped = directory(&ground.scene.path("dumped"));
    let images = directory(&ground.images);
    ground.try_all(
        |row| !row.rpc.is_empty(),
        Face::Message,
        |row, verb| {
            let mut message = ground.message(row, verb);
            let (kind, place) = match verb {
                Verb::Dump => (CriuReqType::Dump, &dumped),
                _ => (CriuReqType::Restore, &images),
            };
            if message.images_dir.is_none() {
                message.images_dir_fd = place.as_raw_fd();
            }
            if message.work_dir_fd.is_some() {
                message.work_dir_fd = Some(place.as_raw_fd());
            }
            if verb == Verb::Dump {
                message.pid = Some(ground.pid);
                message.leave_running.get_or_insert(message.leave_stopped.is_none());
            }
            let worker = Worker::start();
            let (answer, _) =
                worker.caller.converse(&request_with(kind, message), |_| Default::default());
            worker.finish();
            if answer.success { Ok(ground.pid) } else { Err(answer.cr_errmsg().to_owned()) }
        },
    );
}

/// The object is refused where there is one, whatever is permitted.
#[test]
fn what_is_permitted_is_not_carried() {
    let scene = Scene::new("options-objects");
    for (object, name, words) in [
        ("tcp", "socket:[", &["--tcp-established", "--tcp-close", "--skip-in-flight"][..]),
        ("unix", "socket:[", &["--ext-unix-sk", "--external", "unix[1]"]),
        ("inotify", "inotify", &["--force-irmap", "--irmap-scan-path", "/"]),
        ("netns", "net namespace", &["--empty-ns", "net", "--external", "net[1]:key"]),
        ("mntns", "mnt namespace", &["--skip-mnt", "/x", "--enable-fs", "all", "-M", "auto"]),
    ] {
        let task = scene.start("helpers/refused", &[object]);
        let message = task.dump_call(&scene.path("images")).args(words).run().refused();
        assert!(message.contains(name), "{object}: {message}");
        task.verify();
    }
}

/// A control group of a test's own, removed when dropped.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// None where no hierarchy is mounted in which one can be made.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let hierarchies = fields.filter(|fields| fields[2].starts_with("cgroup"));
        // One of version 1 may want more than a directory.
        let mut all: Vec<_> =
            hierarchies.map(|fields| (fields[2] != "cgroup2", fields[1])).collect();
        all.sort_unstable();
        let place = Path::new(all.first()?.1).join(name);
        fs::create_dir(&place).ok()?;
        Some(Self(place))
    }

    fn take(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A tree in another control group is dumped only where nobody asks for the group.
#[test]
fn a_control_group_of_its_own() {
    let scene = Scene::new("options-cgroup");
    let group = ControlGroup::new(&format!("criu-test-{}", std::process::id()));
    let group = group.ok_or_else(|| Lack::OfMachine("no control group can be made here".into()));
    let Some(group) = needs(group) else { return };
    let task = scene.start("files/open_file", &[]);
    group.take(task.pid());
    let images = scene.path("images");
    let call = |words: &[&str]| task.dump_call(&images).arg("-R").args(words);
    for mode in ["", "=soft", "=full", "=strict", "=none", "=props"] {
        let message = call(&[&format!("--manage-cgroups{mode}")]).run().refused();
        let pid = format!("pid {}: control group ", task.pid());
        assert!(message.contains(&pid), "{mode}: {message}");
        assert!(message.contains("--manage-cgroups=ignore"), "{mode}: {message}");
    }
    assert!(call(&["--cgroup-root", "/x"]).run().refused().contains("control group"));
    call(&["--manage-cgroups=ignore", "--cgroup-root", "/x"]).run().ok();
    call(&[]).run().ok();
    task.verify();
}

/// Says yes.
extern "C" fn agree(_: *mut c_char, _: criu_notify_arg_t) -> c_int {
    0
}

/// Options of the C library, freed when dropped.
struct COptions(*mut criu_opts);

impl COptions {
    fn new() -> Self {
        let mut opts = std::ptr::null_mut();
        // SAFETY: a pointer to NULL.
        assert_eq!(unsafe { settings::criu_local_init_opts(&mut opts) }, 0);
        Self(opts)
    }

    fn last_error(&self) -> String {
        // SAFETY: the options live, and the text until the next call.
        let text = unsafe { std::ffi::CStr::from_ptr(notes::criu_local_last_error(self.0)) };
        text.to_string_lossy().into_owned()
    }
}

impl Drop for COptions {
    fn drop(&mut self) {
        // SAFETY: they came from criu_local_init_opts().
        unsafe { settings::criu_local_free_opts(self.0) };
    }
}

/// Calls the setter `name` with a value that it takes.
fn set(opts: *mut criu_opts, name: &str, ground: &Ground) {
    use {set_flags as f, set_lists as l, set_numbers as n, set_strings as s};
    let path = |name: &str| {
        CString::new(ground.scene.path(name).display().to_string()).expect("no zero in it")
    };
    let (text, x) = (c"text".as_ptr(), c"apparmor:x".as_ptr());
    // SAFETY: the options live, and all strings are C strings that are copied.
    unsafe {
        match name {
            "set_leave_running" => f::criu_local_set_leave_running(opts, true),
            "set_leave_stopped" => f::criu_local_set_leave_stopped(opts, true),
            "set_shell_job" => f::criu_local_set_shell_job(opts, true),
            "set_ext_unix_sk" => f::criu_local_set_ext_unix_sk(opts, true),
            "set_tcp_established" => f::criu_local_set_tcp_established(opts, true),
            "set_tcp_skip_in_flight" => f::criu_local_set_tcp_skip_in_flight(opts, true),
            "set_tcp_close" => f::criu_local_set_tcp_close(opts, true),
            "set_weak_sysctls" => f::criu_local_set_weak_sysctls(opts, true),
            "set_evasive_devices" => f::criu_local_set_evasive_devices(opts, true),
            "set_skip_file_rwx_check" => f::criu_local_set_skip_file_rwx_check(opts, true),
            "set_unprivileged" => f::criu_local_set_unprivileged(opts, true),
            "set_orphan_pts_master" => f::criu_local_set_orphan_pts_master(opts, true),
            "set_file_locks" => f::criu_local_set_file_locks(opts, true),
            "set_track_mem" => f::criu_local_set_track_mem(opts, true),
            "set_auto_dedup" => f::criu_local_set_auto_dedup(opts, true),
            "set_force_irmap" => f::criu_local_set_force_irmap(opts, true),
            "set_link_remap" => f::criu_local_set_link_remap(opts, true),
            "set_manage_cgroups" => f::criu_local_set_manage_cgroups(opts, true),
            "set_auto_ext_mnt" => f::criu_local_set_auto_ext_mnt(opts, true),
            "set_ext_sharing" => f::criu_local_set_ext_sharing(opts, true),
            "set_ext_masters" => f::criu_local_set_ext_masters(opts, true),
            "set_mntns_compat_mode" => f::criu_local_set_mntns_compat_mode(opts, true),
            "set_lazy_pages" => f::criu_local_set_lazy_pages(opts, true),
            "set_display_stats" => f::criu_local_set_display_stats(opts, true),
            "set_log_to_stderr" => f::criu_local_set_log_to_stderr(opts, true),
            "set_tls" => f::criu_local_set_tls(opts, true),
            "set_tls_no_cn_verify" => f::criu_local_set_tls_no_cn_verify(opts, true),
            "set_pid" => n::criu_local_set_pid(opts, ground.pid),
            // The directories that each call needs are set for all.
            "set_images_dir_fd" | "set_work_dir_fd" => {}
            "set_status_fd" => n::criu_local_set_status_fd(opts, 2),
            "set_pidfd_store_sk" => n::criu_local_set_pidfd_store_sk(opts, 2),
            "set_log_level" => n::criu_local_set_log_level(opts, 4),
            "set_cpu_cap" => n::criu_local_set_cpu_cap(opts, 1),
            "set_timeout" => n::criu_local_set_timeout(opts, 60),
            "set_ghost_limit" => n::criu_local_set_ghost_limit(opts, 2 << 20),
            "set_empty_ns" => n::criu_local_set_empty_ns(opts, nix::libc::CLONE_NEWNET),
            "set_manage_cgroups_mode" => n::criu_local_set_manage_cgroups_mode(opts, 5),
            "set_network_lock" => assert_eq!(n::criu_local_set_network_lock(opts, 3), 0),
            "set_pre_dump_mode" => assert_eq!(n::criu_local_set_pre_dump_mode(opts, 2), 0),
            "set_notify_cb" => notes::criu_local_set_notify_cb(opts, Some(agree)),
            _ => {
                let done = match name {
                    "set_log_file" => s::criu_local_set_log_file(opts, c"option.log".as_ptr()),
                    "set_config_file" => {
                        s::criu_local_set_config_file(opts, path("empty.conf").as_ptr())
                    }
                    "set_parent_images" => s::criu_local_set_parent_images(opts, text),
                    "set_root" => s::criu_local_set_root(opts, text),
                    "set_freeze_cgroup" => s::criu_local_set_freeze_cgroup(opts, text),
                    "set_lsm_profile" => s::criu_local_set_lsm_profile(opts, x),
                    "set_lsm_mount_context" => s::criu_local_set_lsm_mount_context(opts, text),
                    "set_tls_cacert" => s::criu_local_set_tls_cacert(opts, text),
                    "set_tls_cacrl" => s::criu_local_set_tls_cacrl(opts, text),
                    "set_tls_cert" => s::criu_local_set_tls_cert(opts, text),
                    "set_tls_key" => s::criu_local_set_tls_key(opts, text),
                    "add_cg_props" => s::criu_local_add_cg_props(opts, text),
                    "add_cg_props_file" => s::criu_local_add_cg_props_file(opts, text),
                    "add_cg_yard" => s::criu_local_add_cg_yard(opts, text),
                    "add_external" => l::criu_local_add_external(opts, text),
                    "add_enable_fs" => l::criu_local_add_enable_fs(opts, text),
                    "add_skip_mnt" => l::criu_local_add_skip_mnt(opts, text),
                    "add_irmap_path" => l::criu_local_add_irmap_path(opts, text),
                    "add_cg_dump_controller" => l::criu_local_add_cg_dump_controller(opts, text),
                    "add_ext_mount" => l::criu_local_add_ext_mount(opts, text, text),
                    "add_veth_pair" => l::criu_local_add_veth_pair(opts, text, text),
                    "add_cg_root" => l::criu_local_add_cg_root(opts, text, text),
                    "join_ns_add" => {
                        let pid = CString::new(std::process::id().to_string()).expect("no zero");
                        let (ns, pid) = (c"uts".as_ptr(), pid.as_ptr());
                        l::criu_local_join_ns_add(opts, ns, pid, std::ptr::null())
                    }
                    "add_inherit_fd" => l::criu_local_add_inherit_fd(opts, 2, text),
                    "add_unix_sk" => l::criu_local_add_unix_sk(opts, 9),
                    "set_page_server_address_port" => {
                        l::criu_local_set_page_server_address_port(opts, text, 7)
                    }
                    "set_exec_cmd" => {
                        let mut words = [c"true".as_ptr().cast_mut()];
                        l::criu_local_set_exec_cmd(opts, 1, words.as_mut_ptr())
                    }
                    other => panic!("no test calls criu_local_{other}()"),
                };
                assert_eq!(done, 0, "criu_local_{name}()");
            }
        }
    }
}

/// The library is no subreaper for a moment when it starts a worker: other tests need a process that
/// is one, so that this one has a process of its own.
#[test]
fn by_the_c_library() {
    let module =
        module_path!().split_once("::").map_or(String::new(), |(_, rest)| format!("{rest}::"));
    let name = format!("{module}by_the_c_library_alone");
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program).args(["--ignored", "--exact", &name]).output();
    let output = output.expect("run this program");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Each setter; the others of its row say the same. The log has a name that is no text.
#[test]
#[ignore = "by_the_c_library runs it"]
fn by_the_c_library_alone() {
    let ground = Ground::new("c");
    let dumped = directory(&ground.scene.path("dumped"));
    let images = directory(&ground.images);
    let binary = Criu::ours().binary().to_str().map(CString::new).expect("UTF-8").expect("no zero");
    for number in 0..table::rows().map(|row| row.setters.len()).max().unwrap_or(0) {
        ground.try_all(
            |row| row.setters.len() > number,
            Face::Message,
            |row, verb| {
                let opts = COptions::new();
                let place = if verb == Verb::Dump { &dumped } else { &images };
                // SAFETY: the options live, and the string is copied.
                unsafe {
                    assert_eq!(
                        set_service::criu_local_set_service_binary(opts.0, binary.as_ptr()),
                        0
                    );
                    set_numbers::criu_local_set_images_dir_fd(opts.0, place.as_raw_fd());
                    set_numbers::criu_local_set_work_dir_fd(opts.0, place.as_raw_fd());
                    set_numbers::criu_local_set_pid(opts.0, ground.pid);
                    set_flags::criu_local_set_leave_running(opts.0, true);
                }
                set(opts.0, row.setters[number], &ground);
                // SAFETY: the options live, and the string is copied.
                unsafe { set_strings::criu_local_set_log_file(opts.0, c"c\xff.log".as_ptr()) };
                // SAFETY: the options live.
                let result = unsafe {
                    match verb {
                        Verb::Dump => verbs::criu_local_dump(opts.0),
                        _ => verbs::criu_local_restore_child(opts.0),
                    }
                };
                let log = Path::new(OsStr::from_bytes(b"c\xff.log"));
                let place = if verb == Verb::Dump { "dumped" } else { "images" };
                let log = ground.scene.path(place).join(log);
                assert!(fs::remove_file(log).is_ok(), "{row:?} on {verb:?}: there is no log");
                if result >= 0 { Ok(ground.pid) } else { Err(opts.last_error()) }
            },
        );
    }
}
