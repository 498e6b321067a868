//! Action scripts: programs run at every stage, with the stage in their environment.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;

use nix::fcntl::OFlag;

use super::hooks::{Hooks, Stage};
use crate::error::{Context, Error, Kind, Result, shown};
use crate::kernel::fresh;
use crate::kernel::pid::HostPid;
use crate::options::Request;

/// What this process itself does at the stages of a request: it runs action scripts and writes the pid
/// file.
#[derive(Debug, Default)]
pub struct Scripts {
    paths: Vec<OsString>,
    /// The image directory, as a path that scripts can open while this process lives.
    image_dir: OsString,
    pidfile: Option<OsString>,
    refused: Option<Stage>,
}

impl Scripts {
    /// The scripts and the pid file of `request`; the last script given runs first.
    pub fn new(request: &Request) -> Self {
        let options = &request.options;
        let paths: Vec<_> = options.action_scripts.iter().rev().cloned().collect();
        let images = request.images.as_ref().filter(|_| !paths.is_empty());
        Self {
            paths,
            image_dir: images.map(path_of).unwrap_or_default(),
            pidfile: options.pidfile.clone(),
            refused: None,
        }
    }

    /// The stage at which a script said no.
    pub fn refused(&self) -> Option<Stage> {
        self.refused
    }

    fn run(&self, path: &OsStr, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        let mut command = Command::new(path);
        command.env("CRTOOLS_SCRIPT_ACTION", stage.name());
        if !self.image_dir.is_empty() {
            command.env("CRTOOLS_IMAGE_DIR", &self.image_dir);
        }
        if let Some(pid) = pid {
            command.env("CRTOOLS_INIT_PID", pid.to_string());
        }
        let status = command.status().doing(|| format!("run action script {}", shown(path)))?;
        if status.success() {
            return Ok(());
        }
        let path = shown(path);
        let cause = format!("action script {path} refused {}: {status}", stage.name());
        Err(Error::new(Kind::CallbackRefused, cause))
    }
}

impl Hooks for Scripts {
    fn notify(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()> {
        let asked = self.paths.iter().try_for_each(|path| self.run(path, stage, pid));
        asked.inspect_err(|_| self.refused = Some(stage))?;
        match (stage, pid, &self.pidfile) {
            (Stage::PostRestore, Some(pid), Some(file)) => write_pidfile(file, pid),
            _ => Ok(()),
        }
    }
}

/// Writes `pid` to a file that must not exist yet.
pub fn write_pidfile(file: &OsStr, pid: HostPid) -> Result<()> {
    let mut created = fresh::create_new(here(), file, OFlag::O_WRONLY)
        .doing(|| format!("create pid file {}", shown(file)))?;
    let written = created.write_all(pid.to_string().as_bytes());
    written.doing(|| format!("write pid file {}", shown(file)))
}

/// The path by which scripts open the image directory. For root it leads through this process, and so
/// to the directory wherever that is. The scripts of a user may not look into this process, which has a
/// capability, so theirs is the path of the directory itself.
fn path_of(directory: &OwnedFd) -> OsString {
    let link = format!("/proc/{}/fd/{}", std::process::id(), directory.as_raw_fd());
    match std::fs::read_link(&link) {
        Ok(path) if !nix::unistd::geteuid().is_root() => path.into_os_string(),
        _ => link.into(),
    }
}

/// The current directory. In a worker and in the command it is the work directory.
fn here() -> BorrowedFd<'static> {
    nix::fcntl::AT_FDCWD
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::options::{Options, Places, Verb};

    fn scripts(dir: &std::path::Path, text: &str) -> Scripts {
        let path = dir.join("script");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options {
            action_scripts: vec![path.into_os_string()],
            pidfile: Some(dir.join("pid").into_os_string()),
            ..Options::default()
        };
        let images = OwnedFd::from(std::fs::File::open(dir).unwrap());
        let places = Places { images: Some(images), ..Places::default() };
        let request = Request::new(Verb::Restore, options, places).unwrap();
        let scripts = Scripts::new(&request);
        let path = std::fs::read_link(&scripts.image_dir).unwrap();
        assert_eq!(path, dir.canonicalize().unwrap());
        scripts
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("criu-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_script_learns_stage_and_pid_and_the_pid_file_is_written_once() {
        let dir = scratch("scripts");
        let out = dir.join("out");
        let text = format!(
            "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_INIT_PID >>{}\n",
            out.display()
        );
        let mut hooks = scripts(&dir, &text);
        hooks.notify(Stage::PreRestore, None).unwrap();
        hooks.notify(Stage::PostRestore, Some(HostPid::new(77))).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "pre-restore\npost-restore 77\n");
        assert_eq!(std::fs::read_to_string(dir.join("pid")).unwrap(), "77");
        let error = hooks.notify(Stage::PostRestore, Some(HostPid::new(78))).unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::EEXIST));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_script_that_fails_stops_the_work_and_says_which() {
        let dir = scratch("scripts-fail");
        let mut hooks = scripts(&dir, "#!/bin/sh\nexit 3\n");
        let error = hooks.notify(Stage::PreDump, Some(HostPid::new(1))).unwrap_err();
        assert_eq!(error.kind(), Kind::CallbackRefused);
        let text = error.to_string();
        assert!(text.contains("/script refused pre-dump: exit status: 3"), "{text}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
