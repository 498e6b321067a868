//! Opens what a command line names: directories and log.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::{Context, Error, Kind, Result, shown};
use crate::kernel::capability;
use crate::log::Log;
use crate::options::{Options, Places, Verb};

/// Log and directories of `verb`; the current directory becomes the work directory. The log comes
/// first: it is to have the cause of all that fails.
pub fn open(verb: Verb, options: &Options) -> Result<(Log, Result<Places>)> {
    let (work, log) = open_log(options)?;
    // By a path from where the command was started.
    let images = match verb {
        Verb::Check | Verb::Service | Verb::Continue => Ok(None),
        _ => directory("image directory", images_path(options)).map(Some),
    };
    nix::unistd::fchdir(&work).doing(|| "go to the work directory")?;
    let places =
        |images| Places { images, work: Some(work), service_socket: None, ends_process: true };
    Ok((log, images.map(places)))
}

/// Writes into the log, where the line has one, what is wrong with the line. What is not known yet
/// is as it is by default.
pub fn log_early(options: &Options, error: &Error) {
    if options.log_file.as_ref().is_some_and(|name| name != "-")
        && let Ok((_, log)) = open_log(options)
    {
        log.error(error);
    }
}

fn images_path(options: &Options) -> &OsStr {
    options.images_dir.as_deref().unwrap_or(OsStr::new("."))
}

fn open_log(options: &Options) -> Result<(OwnedFd, Log)> {
    let work = options.work_dir.as_deref().unwrap_or(images_path(options));
    let work = directory("work directory", work)?;
    let level = options.log_level();
    let log = match options.log_file.as_deref() {
        None => Log::stderr(level),
        Some(name) if name == "-" => Log::stdout(level)?,
        Some(name) => Log::create(work.as_fd(), name, level)?,
    };
    // Not otherwise: a caller may have closed its standard output.
    let log = if options.display_stats() { log.with_messages_on_stdout()? } else { log };
    Ok((work, log))
}

fn directory(what: &str, path: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(path, flags, Mode::empty());
    opened.doing(|| format!("open {what} {}", shown(path)))
}

/// What changes or reads other processes is for root, and for users to whom the program's file lends
/// what it takes to do that to their own; what reads and writes files is everybody's.
pub fn require_privileges(verb: Verb) -> Result<()> {
    let own = matches!(verb, Verb::Dedup | Verb::CpuinfoDump | Verb::CpuinfoCheck | Verb::Continue);
    if own || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let refusal = |remedy: &str| {
        let cause = format!("{}: this takes root's privileges", verb.name());
        Err(Error::new(Kind::Denied, cause).remedy(remedy))
    };
    if verb == Verb::Service {
        return refusal("run it as root");
    }
    let permitted = capability::permitted().doing(|| "capget")?;
    if permitted & capability::only(capability::CHECKPOINT_RESTORE) != 0 {
        return Ok(());
    }
    refusal("run it as root; the set-user-ID bit of criu lets users do it to their own processes")
}
