//! A directory, the processes that run in it, and their end.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use criu_test_support::{Lack, compile, needs};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, mkfifo};

use super::criu::{Call, Criu, Ran, unique};
use super::processes::{self, state_of, tree_of, until};

/// A place for one test. Dropped, it ends every process that was started in it, those restored
/// from images included, unmounts what it mounted and removes its directory.
pub struct Scene {
    dir: PathBuf,
    user: Option<u32>,
    /// What programs have in their environment, beside `SCENE_DIR`.
    environment: Vec<(&'static str, &'static str)>,
    mounts: Vec<PathBuf>,
}

impl Scene {
    pub fn new(name: &str) -> Self {
        // Restored roots are orphans when `criu restore -d` ends: they become our children.
        nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
        let name = name.replace('/', "-");
        let unique = format!("criu-test-{name}-{}-{}", std::process::id(), unique());
        let dir = std::env::temp_dir().join(unique);
        fs::create_dir(&dir).expect("make the directory of a test");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("open it to all users");
        mkfifo(&dir.join("ready"), Mode::from_bits_truncate(0o666)).expect("make a FIFO");
        fs::set_permissions(dir.join("ready"), fs::Permissions::from_mode(0o666))
            .expect("open the FIFO to all users");
        Self { dir, user: None, environment: Vec::new(), mounts: Vec::new() }
    }

    /// Programs run as this user and group, without privileges.
    pub fn owned_by(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Programs get this variable.
    pub fn with_environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Mounts a tmpfs of this size on a new directory.
    pub fn small_disk(&mut self, name: &str, size: &str) -> PathBuf {
        use nix::mount::{MsFlags, mount};
        let path = self.path(name);
        fs::create_dir(&path).expect("make a mount point");
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("mount a tmpfs");
        self.mounts.push(path.clone());
        path
    }

    /// A directory that every user may write.
    pub fn users_directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("make a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        path
    }

    /// A copy of the binary under test with the set-user-ID bit, which counts where it is: the
    /// place of all scenes may be mounted without.
    pub fn set_user_id(&mut self) -> PathBuf {
        use nix::mount::{MsFlags, mount};
        let dir = self.path("set-user-id");
        fs::create_dir(&dir).expect("make a directory");
        let none = None::<&str>;
        mount(Some(&dir), &dir, none, MsFlags::MS_BIND, none).expect("bind mount");
        self.mounts.push(dir.clone());
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(none, &dir, none, again, none).expect("allow the set-user-ID bit");
        let criu = dir.join("criu");
        copy(Criu::ours().binary(), &criu);
        fs::set_permissions(&criu, fs::Permissions::from_mode(0o4755)).expect("chmod");
        criu
    }

    /// A copy of the compiled `tests/programs/FAMILY/NAME.c`, which the user of the scene may execute;
    /// it is called NAME, and stands aside from the files of the program's own.
    pub fn program(&self, name: &str) -> PathBuf {
        let dir = self.path("programs");
        let path = dir.join(name.rsplit('/').next().unwrap_or(name));
        if !path.exists() {
            fs::create_dir_all(&dir).expect("make a directory for programs");
            copy(&compile(name), &path);
        }
        path
    }

    /// A shell script.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let source = self.path(&format!("{name}.source"));
        fs::write(&source, text).expect("write a script");
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).expect("chmod a script");
        copy(&source, &self.path(name));
        self.path(name)
    }

    /// Starts a program of `tests/programs` and waits until it is ready to be dumped.
    #[track_caller]
    pub fn start(&self, program: &str, args: &[&str]) -> Task<'_> {
        let started = self.start_or_leave_out(program, args);
        started.unwrap_or_else(|| panic!("{program} leaves itself out"))
    }

    /// The same for a program that may find that this machine has not what it needs. Then the test is
    /// left out, which is noted.
    #[track_caller]
    pub fn start_or_leave_out(&self, program: &str, args: &[&str]) -> Option<Task<'_>> {
        let path = self.program(program);
        let words = std::iter::once(path.as_os_str()).chain(args.iter().map(OsStr::new));
        let mut task = self.spawn(words);
        needs(task.ready_or_lacking())?;
        Some(task)
    }

    /// Starts any command in a session of its own; it says itself when it is ready.
    pub fn spawn<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Task<'_> {
        let mut command = self.launcher();
        command.args(words);
        let log = File::create(self.path("output")).expect("make a log");
        // Who restores opens it again.
        log.set_permissions(fs::Permissions::from_mode(0o666)).expect("open it to all users");
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("another descriptor")).stderr(log);
        self.spawn_command(command)
    }

    /// A tree whose images are in `images`.
    pub fn on_disk(&self, pid: i32, images: &Path) -> Dumped<'_> {
        Dumped { scene: self, pid, tids: vec![pid], images: images.to_owned() }
    }

    /// `launch`, with the user and the mark of this scene.
    pub fn launcher(&self) -> Command {
        let mut command = Command::new(self.program("helpers/launch"));
        command.env("SCENE_DIR", &self.dir).env_remove("LD_LIBRARY_PATH").current_dir("/");
        command.envs(self.environment.iter().copied());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub fn spawn_command(&self, mut command: Command) -> Task<'_> {
        let ready = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(self.path("ready"))
            .expect("open the FIFO");
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = i32::try_from(child.id()).expect("a pid");
        Task { scene: self, pid, child: Some(child), ready: Some(ready) }
    }

    /// What the programs complained about.
    pub fn complaints(&self) -> String {
        let verdict = fs::read_to_string(self.path("verdict")).unwrap_or_default();
        let output = fs::read(self.path("output")).unwrap_or_default();
        format!("{verdict}{}", String::from_utf8_lossy(&output))
    }

    /// Reaps dead processes that have become our children, and says which of `pids` are left.
    fn left_of(&self, pids: &[i32]) -> Vec<i32> {
        for pid in pids {
            if state_of(*pid) == Some('Z') {
                let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        pids.iter().copied().filter(|pid| state_of(*pid).is_some()).collect()
    }

    /// Waits until all of `pids` have ended and are reaped: their numbers are free.
    pub fn until_gone(&self, pids: &[i32]) {
        let left = || self.left_of(pids);
        until(
            || format!("processes {:?} do not go away", left()),
            || left().is_empty().then_some(()),
        );
    }

    /// Waits until nobody is left in these sessions. Processes that were born when the tree had
    /// already been looked at are among them.
    fn until_empty(&self, sessions: &[i32]) {
        let members = || {
            let all = processes::all().into_iter();
            all.filter(|pid| processes::session_of(*pid).is_some_and(|sid| sessions.contains(&sid)))
                .collect::<Vec<_>>()
        };
        let left = || self.left_of(&members());
        until(
            || format!("processes {:?} of the dumped tree do not go away", left()),
            || left().is_empty().then_some(()),
        );
    }

    fn mark(&self) -> String {
        format!("SCENE_DIR={}", self.dir.display())
    }

    /// Ends all processes that carry the mark of this scene. A process may fork while it is looked
    /// for, so that they are looked for until there are none.
    fn kill_all(&self) {
        let started = Instant::now();
        loop {
            let mut ours = processes::with_environment(&self.mark());
            ours.retain(|pid| processes::alive(*pid));
            // Called by drop: it must end, and not panic.
            if ours.is_empty() || started.elapsed() > processes::DEADLINE {
                return;
            }
            for pid in &ours {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            std::thread::yield_now();
            let _ = self.left_of(&ours);
        }
    }
}

/// By another process: a descriptor of ours that is open for writing would, for a moment, be in
/// every child that another thread starts, and such a file cannot be executed.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("run cp");
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.kill_all();
        for mount in &self.mounts {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        if std::env::var_os("KEEP_SCENES").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A program that runs in a scene: the root of the tree that is dumped.
pub struct Task<'a> {
    scene: &'a Scene,
    pid: i32,
    /// Present while it is the process that was spawned, absent once it has been restored.
    child: Option<Child>,
    ready: Option<File>,
}

impl<'a> Task<'a> {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn scene(&self) -> &'a Scene {
        self.scene
    }

    /// Waits for the byte that the program writes when everything is set up.
    #[track_caller]
    pub fn until_ready(&mut self) {
        self.ready_or_lacking().unwrap_or_else(|lack| panic!("pid {} lacks {lack:?}", self.pid));
    }

    /// The same, or what the program lacks.
    fn ready_or_lacking(&mut self) -> Result<(), Lack> {
        let ready = self.ready.take().expect("a task gets ready once");
        until(
            || format!("pid {} does not get ready: {}", self.pid, self.scene.complaints()),
            || {
                let mut events = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut events, PollTimeout::from(100u8));
                let mut byte = [0];
                if matches!((&ready).read(&mut byte), Ok(1)) {
                    return Some(Ok(()));
                }
                (!processes::alive(self.pid)).then(|| Err(self.lacking()))
            },
        )
    }

    /// Why a program has ended before it was ready: it has left itself out.
    fn lacking(&self) -> Lack {
        let left_out = fs::read_to_string(self.scene.path("left-out"));
        Lack::OfMachine(left_out.unwrap_or_else(|_| {
            panic!("pid {} ended before it was ready: {}", self.pid, self.scene.complaints())
        }))
    }

    /// Dumps the tree; the call can be given further options before it runs.
    pub fn dump_call(&self, images: &Path) -> Call {
        Criu::ours().dump(self.pid, images)
    }

    /// Dumps the tree with `criu`, which has to work, and waits until it is gone.
    pub fn dump_with(self, criu: &Criu, images: &Path, options: &[&str]) -> Dumped<'a> {
        let pids = tree_of(self.pid);
        let sessions: Vec<i32> =
            pids.iter().filter_map(|pid| processes::session_of(*pid)).collect();
        let tids = pids.iter().flat_map(|pid| processes::threads_of(*pid)).collect();
        criu.dump(self.pid, images).args(options).run().ok();
        let scene = self.scene;
        let dumped = Dumped { tids, ..self.gone(&pids, images) };
        scene.until_empty(&sessions);
        dumped
    }

    pub fn dump(self, images: &Path) -> Dumped<'a> {
        self.dump_with(&Criu::ours(), images, &[])
    }

    /// Waits for the end of a tree that was just dumped.
    pub fn gone(mut self, pids: &[i32], images: &Path) -> Dumped<'a> {
        if let Some(mut child) = self.child.take() {
            until(
                || format!("pid {} lives on though it was dumped", self.pid),
                || child.try_wait().expect("wait for the dumped root"),
            );
        }
        self.scene.until_gone(pids);
        Dumped { scene: self.scene, pid: self.pid, tids: pids.to_vec(), images: images.to_owned() }
    }

    /// Kills all processes of the tree, and waits until their numbers are free.
    pub fn end_tree(self, pids: &[i32]) {
        for pid in pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        self.scene.until_gone(pids);
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("signal the root of the tree");
    }

    /// Signals the process group of the root.
    pub fn signal_group(&self, signal: Signal) {
        kill(Pid::from_raw(-self.pid), signal).expect("signal the group of the root");
    }

    /// Waits for the end of the root: its exit code, or 128 and the signal.
    pub fn exit_code(mut self) -> i32 {
        if let Some(mut child) = self.child.take() {
            use std::os::unix::process::ExitStatusExt;
            let probe = || child.try_wait().expect("wait for the root");
            let status =
                until(|| format!("the root does not end: {}", self.scene.complaints()), probe);
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        let pid = Pid::from_raw(self.pid);
        until(
            || format!("pid {pid} does not end: {}", self.scene.complaints()),
            || match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
                Ok(_) | Err(Errno::EINTR) => None,
                Err(errno) => panic!("wait for pid {pid}: {errno}"),
            },
        )
    }

    /// Tells the program to look at its objects; it must find nothing wrong.
    #[track_caller]
    pub fn verify(self) {
        self.signal(Signal::SIGUSR1);
        self.ends_well();
    }

    /// Waits for the end of a program that checks itself; it must find nothing wrong.
    #[track_caller]
    pub fn ends_well(self) {
        let scene = self.scene;
        let code = self.exit_code();
        assert!(code == 0, "the program ended with {code}:\n{}", scene.complaints());
        let verdict = fs::read_to_string(scene.path("verdict")).unwrap_or_default();
        assert!(verdict.is_empty(), "a part of the program complained:\n{verdict}");
    }
}

/// A tree that is on disk only.
pub struct Dumped<'a> {
    scene: &'a Scene,
    pid: i32,
    /// Numbers of processes and threads that the restore needs.
    tids: Vec<i32>,
    images: PathBuf,
}

impl<'a> Dumped<'a> {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn images(&self) -> &Path {
        &self.images
    }

    pub fn restore_call(&self) -> Call {
        Criu::ours().restore(&self.images)
    }

    pub fn restore_with(self, criu: &Criu, options: &[&str]) -> Task<'a> {
        // Pids go round: another process of the machine may have one of the tree's for a while.
        loop {
            let ran = criu.restore(&self.images).args(options).run();
            let taken: Vec<i32> =
                self.tids.iter().copied().filter(|tid| state_of(*tid).is_some()).collect();
            if ran.succeeded() || taken.is_empty() {
                return self.restored(ran);
            }
            self.scene.until_gone(&taken);
        }
    }

    pub fn restore(self) -> Task<'a> {
        self.restore_with(&Criu::ours(), &[])
    }

    /// The task that somebody else has restored.
    pub fn running(self) -> Task<'a> {
        Task { scene: self.scene, pid: self.pid, child: None, ready: None }
    }

    /// The task that a successful restore has made.
    #[track_caller]
    pub fn restored(self, ran: Ran) -> Task<'a> {
        ran.ok();
        self.running()
    }
}
