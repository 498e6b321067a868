//! Runs the `criu` binary.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use criu_test_support::{Lack, needs};

/// One of the two programs that are called `criu`: the one under test, and its peer.
#[derive(Clone, Debug)]
pub struct Criu {
    binary: PathBuf,
    /// Who runs it, if not this process's user.
    user: Option<u32>,
    is_peer: bool,
}

/// CRIU itself, where `CRIU_PEER` names it; a test without it is left out.
pub fn peer() -> Option<Criu> {
    let named = std::env::var_os("CRIU_PEER").map(PathBuf::from);
    let binary = needs(named.ok_or_else(|| match installed_peer() {
        Some(path) => Lack::OfSetUp(format!("CRIU_PEER does not name {}", path.display())),
        None => Lack::OfMachine("there is no CRIU 4.2, or CRIU_PEER does not name it".into()),
    }));
    binary.map(|binary| Criu { binary, user: None, is_peer: true })
}

/// A CRIU that is installed, of the version that we compare with.
fn installed_peer() -> Option<PathBuf> {
    let places = ["/usr/local/sbin/criu", "/usr/sbin/criu", "/sbin/criu"].map(PathBuf::from);
    places.into_iter().find(|path| {
        let output = Command::new(path).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        // Ours does not tell a commit of CRIU's.
        text.is_ok_and(|text| text.contains("Version: 4.2") && text.contains("GitID"))
    })
}

impl Criu {
    /// The binary under test.
    pub fn ours() -> Self {
        let binary = std::env::var_os("CRIU_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_criu")), PathBuf::from);
        Self { binary, user: None, is_peer: false }
    }

    /// Another binary, run by a user and group without privileges.
    pub fn run_by(binary: &Path, user: u32) -> Self {
        Self { binary: binary.to_owned(), user: Some(user), is_peer: false }
    }

    /// Whether it is CRIU itself.
    pub fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// The path of the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A call that dumps `pid` into `images`.
    pub fn dump(&self, pid: i32, images: &Path) -> Call {
        fs::create_dir_all(images).expect("make an image directory");
        self.call("dump", images).arg("-t").arg(pid.to_string())
    }

    /// A call that restores `images`, detached.
    pub fn restore(&self, images: &Path) -> Call {
        self.call("restore", images).arg("-d")
    }

    /// A call with these words only.
    pub fn words(&self, words: &[&str]) -> Call {
        self.bare(PathBuf::new()).args(words)
    }

    /// A call of a verb on a directory, with a log of its own in it.
    pub fn call(&self, verb: &str, images: &Path) -> Call {
        let log = format!("{verb}.log");
        let call = self.bare(images.join(&log));
        call.args([verb, "-o", &log, "-D"]).arg(images).arg("-v4")
    }

    fn bare(&self, log: PathBuf) -> Call {
        Call { criu: self.clone(), args: Vec::new(), log, inherited: Vec::new() }
    }
}

/// One run of `criu`, not yet started.
#[derive(Debug)]
pub struct Call {
    criu: Criu,
    args: Vec<std::ffi::OsString>,
    log: PathBuf,
    inherited: Vec<RawFd>,
}

impl Call {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Hands a descriptor down, which stands for `key`. No program of another test gets it.
    pub fn inherit(mut self, fd: &impl AsRawFd, key: &str) -> Self {
        self.inherited.push(fd.as_raw_fd());
        self.arg("--inherit-fd").arg(format!("fd[{}]:{key}", fd.as_raw_fd()))
    }

    /// Logs as much as by default.
    pub fn quiet(mut self) -> Self {
        self.args.retain(|arg| arg != "-v4");
        self
    }

    /// Says where the log is, when it is not among the images.
    pub fn log_at(mut self, log: &Path) -> Self {
        self.log = log.to_owned();
        self
    }

    /// The command line, for a test that starts it in its own way.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.criu.binary);
        command.args(&self.args).stdin(Stdio::null());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(user) = self.criu.user {
            command.uid(user).gid(user);
        }
        let inherited = self.inherited.clone();
        // SAFETY: it runs between fork and exec, where fcntl may be called, and changes descriptors of
        // the child alone.
        unsafe { command.pre_exec(move || inherited.iter().try_for_each(|fd| stay_open(*fd))) };
        command
    }

    /// The words of the command line, the binary first.
    pub fn words(&self) -> Vec<std::ffi::OsString> {
        let mut words = vec![self.criu.binary.clone().into_os_string()];
        words.extend(self.args.iter().cloned());
        words
    }

    pub fn run(self) -> Ran {
        // A file and not a pipe: a restored task may inherit it and keep it open.
        let said = format!("criu-test-said-{}-{}", std::process::id(), unique());
        let said = std::env::temp_dir().join(said);
        let file = fs::File::create(&said).expect("make a file for the output");
        let mut command = self.command();
        command.stdout(file.try_clone().expect("another descriptor")).stderr(file);
        let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = fs::read_to_string(&said).unwrap_or_default();
        fs::remove_file(&said).expect("remove the output");
        Ran { line: format!("{command:?}"), status, output, log: self.log }
    }
}

/// Keeps a descriptor of this process open when it executes another program.
fn stay_open(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: the number is only asked about and set; whether it is open shows in the result.
    let result = unsafe { nix::libc::fcntl(fd, nix::libc::F_SETFD, 0) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A number that no other call of this process gets.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

/// How a run of `criu` went.
#[derive(Debug)]
pub struct Ran {
    line: String,
    status: ExitStatus,
    output: String,
    log: PathBuf,
}

impl Ran {
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// What was printed.
    pub fn said(&self) -> &str {
        &self.output
    }

    /// The exit code, of a run that was not killed.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{} was killed: {}", self.line, self.status))
    }

    /// All that was said about what went wrong: output, and the log's errors.
    pub fn message(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        // A message of several lines has its time and place in front of the first only.
        let mut within = false;
        let errors: Vec<&str> = log
            .split_inclusive('\n')
            .filter(|line| {
                within = line.contains("Error") || within && !line.starts_with(['(', 'p']);
                within
            })
            .collect();
        format!("{}{}", self.output, errors.concat())
    }

    #[track_caller]
    pub fn ok(self) {
        assert!(self.succeeded(), "{} failed ({}):\n{}", self.line, self.status, self.message());
    }

    /// The message of a run that has to fail.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.succeeded(), "{} succeeded, though it must not:\n{}", self.line, self.output);
        let message = self.message();
        assert!(!message.trim().is_empty(), "{} failed without a word", self.line);
        message
    }
}
