//! The command line; [`commands`] lists what it can do.
//!
//! This is the one place that prints and that chooses an exit code.

#[macro_use]
mod print;

mod checked;
mod commands;
pub mod completion;
mod help;
mod json;
pub mod manual;
mod progress;
mod report;
mod setup;
pub mod show;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::wait::waitpid;

use self::progress::Watched;
use crate::engine::hooks::Stage;
use crate::engine::scripts::Scripts;
use crate::engine::{self, Outcome};
use crate::error::{Error, Kind, Result, shown};
use crate::kernel::pid::HostPid;
use crate::kernel::{descriptor, host, process};
use crate::log::Log;
use crate::options::config::Absent;
use crate::options::getopt::{self, Line, Own};
use crate::options::{Options, Request, Verb, config};
use crate::{rpc, version};

const DONE: i32 = 0;
const FAILED: i32 = 1;
/// What CRIU ends with where its main returns -1.
const FAILED_OTHERWISE: i32 = 255;

/// Runs the command line `arguments`, the program's name first. The result is the exit code.
///
/// With the set-user-ID bit it works for the user who started it, with that user's rights.
pub fn main(arguments: impl Iterator<Item = OsString>) -> i32 {
    // Before anything is read or written.
    if let Err(error) = process::become_caller() {
        complain!("Error: {error}");
        return FAILED;
    }
    serve(&arguments.collect::<Vec<_>>())
}

fn serve(arguments: &[OsString]) -> i32 {
    let program = arguments.first().map_or_else(|| "criu".to_owned(), shown);
    let rest = arguments.get(1..).unwrap_or_default();
    if rest.is_empty() {
        return usage();
    }
    // A worker shares its caller's standard error and so prints nothing: what is wrong with a
    // configuration file is the answer to the first request.
    if rest[0] == "swrk" {
        return worker(&rest[1..]);
    }
    if rest[0] == rpc::service::WORKER {
        let patience = rest.get(1).and_then(|seconds| seconds.to_str()?.parse().ok());
        let patience = patience.unwrap_or_default();
        return rpc::serve_user(patience);
    }
    let scan = getopt::scan(rest);
    if scan.help {
        say!("{}", help::full().trim_end());
        return DONE;
    }
    let mut options = Options::default();
    let configured = config::read_all(&scan, &mut options);
    // In any case: the line says where the log is.
    let read = getopt::read(rest, &mut options);
    match configured.and_then(|absent| Ok((absent, read?))) {
        Ok((absent, line)) => command(options, &line, &absent),
        Err(error) => {
            setup::log_early(&options, &error);
            let json = rest.iter().any(|word| word == "--json");
            misused(&program, &error, json)
        }
    }
}

/// A line that is not understood: what is wrong with it, and where one reads how it goes.
fn misused(who: &str, error: &Error, json: bool) -> i32 {
    complain!("{who}: {}", report::clean(&error.to_string()));
    if json {
        say!("{}", json::failure("", error));
    } else {
        complain!("Try -h|--help for more info, or read criu(8)");
    }
    FAILED
}

fn usage() -> i32 {
    say!("{}\nTry -h|--help for more info", help::usage());
    FAILED
}

fn command(mut options: Options, line: &Line, absent: &[Absent]) -> i32 {
    if line.own.contains(&Own::Help) {
        say!("{}", help::full().trim_end());
        return DONE;
    }
    if line.own.contains(&Own::Version) {
        say!("Version: {}\nlibcriu: {}", version::compatible(), version::OWN);
        return DONE;
    }
    let json = line.own.contains(&Own::Json);
    let wrong = |cause: String| {
        let error = Error::new(Kind::BadOptions, cause);
        setup::log_early(&options, &error);
        misused("Error", &error, json)
    };
    let Some(word) = line.words.first() else {
        return wrong("the line has no command, as `dump' or `restore'".to_owned());
    };
    if word == "swrk" {
        return worker(&line.words[1..]);
    }
    if word == "exec" {
        complain!("Error: exec is no command any more; to set a stopped tree going, say continue");
        return FAILED_OTHERWISE;
    }
    if word == "show" {
        return show::run(&options, &line.words[1..], json);
    }
    let Some((verb, words)) = verb(word, &line.words[1..]) else {
        let words = line.words.join(OsStr::new(" "));
        return wrong(format!("there is no command `{}'", shown(&words)));
    };
    if let Err(error) = complete(verb, &mut options, line, words) {
        setup::log_early(&options, &error);
        report::failure(verb.name(), &error, None, json);
        return FAILED;
    }
    run(verb, options, absent, json)
}

/// The verb that `word` names, and the words after it.
fn verb<'a>(word: &OsStr, rest: &'a [OsString]) -> Option<(Verb, &'a [OsString])> {
    if word == "cpuinfo" {
        let (action, rest) = rest.split_first()?;
        let name = format!("cpuinfo {}", action.to_str()?);
        return Verb::ALL.into_iter().find(|verb| verb.name() == name).map(|verb| (verb, rest));
    }
    let verb = Verb::ALL.into_iter().find(|verb| verb.name() == word)?;
    Some((verb, rest))
}

/// `criu swrk FD`: the descriptor is one that this process was started with.
fn worker(words: &[OsString]) -> i32 {
    let number = match words {
        [number] => number.to_str().and_then(|text| text.parse().ok()),
        _ => None,
    };
    match number {
        Some(number) => rpc::serve_worker(number),
        None => {
            complain!("Usage: criu swrk <fd>");
            FAILED
        }
    }
}

/// Adds what the line says beside its options.
fn complete(verb: Verb, options: &mut Options, line: &Line, words: &[OsString]) -> Result<()> {
    let bad = |cause: String| Err(Error::new(Kind::BadOptions, cause));
    if line.own.contains(&Own::ExecCmd) {
        if words.is_empty() {
            return bad("--exec-cmd requires a command, after `--'".to_owned());
        }
        if verb != Verb::Restore {
            return bad("--exec-cmd is available for the restore command only".to_owned());
        }
        if options.restore_detached() {
            return bad("--restore-detached and --exec-cmd cannot be used together".to_owned());
        }
        options.exec_cmd = words.to_vec();
    } else if !words.is_empty() {
        let words = words.join(OsStr::new(" "));
        return bad(format!("{} takes options only, and not `{}'", verb.name(), shown(&words)));
    }
    if line.own.contains(&Own::All) {
        options.check_extra = Some(true);
        options.check_experimental = Some(true);
    }
    if line.own.contains(&Own::Json) && options.log_file.as_deref() == Some(OsStr::new("-")) {
        return bad("--json and --log-file - both want the standard output".to_owned());
    }
    if line.own.contains(&Own::Json) && options.display_stats() {
        return bad("--json and --display-stats both want the standard output".to_owned());
    }
    if options.rst_sibling() && !options.restore_detached() {
        return bad("--restore-sibling only makes sense with --restore-detached".to_owned());
    }
    for number in &line.close {
        // A descriptor that is not open needs no closing.
        let _ = descriptor::close(*number);
    }
    if !options.inherit_fd.is_empty() && verb != Verb::Restore {
        return bad("--inherit-fd is available for the restore command only".to_owned());
    }
    options.check_inherited()
}

fn run(verb: Verb, options: Options, absent: &[Absent], json: bool) -> i32 {
    host::keep_memory();
    let prepared = host::settle_signals().and_then(|()| setup::open(verb, &options));
    let (log, places) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            report::failure(verb.name(), &error, None, json);
            return FAILED;
        }
    };
    absent.iter().for_each(|file| log.warn(file));
    let request = places.and_then(|places| Request::new(verb, options, places));
    let result = request.and_then(|request| act(&request, json, &log));
    match result {
        Ok(code) => code,
        Err(error) => {
            report::failure(verb.name(), &error, Some(&log), json);
            failure(verb)
        }
    }
}

/// The exit code of a verb that failed.
fn failure(verb: Verb) -> i32 {
    if verb == Verb::CpuinfoDump { FAILED_OTHERWISE } else { FAILED }
}

fn act(request: &Request, json: bool, log: &Log) -> Result<i32> {
    if request.verb == Verb::Check {
        return checked::check(&request.options, json, log);
    }
    setup::require_privileges(request.verb)?;
    if request.verb == Verb::Service {
        return rpc::service::run(request, log).map(|()| DONE);
    }
    let mut hooks = Watched::new(Scripts::new(request), progress::Watch::of(request, log));
    let outcome = engine::run(request, &mut hooks, log);
    let refused = hooks.inner().refused();
    drop(hooks);
    let outcome = match outcome {
        Err(error) if refused == Some(Stage::PostDump) => {
            report::failure(request.verb.name(), &error, Some(log), json);
            return Ok(FAILED_OTHERWISE);
        }
        outcome => outcome?,
    };
    if json {
        report::success(request, outcome);
    }
    match outcome {
        Outcome::Restored { pid } => after_restore(request, pid),
        Outcome::Dumped | Outcome::Checked | Outcome::Done => Ok(DONE),
    }
}

/// Becomes the parent that was asked for, or waits for the tree, or leaves it.
fn after_restore(request: &Request, pid: HostPid) -> Result<i32> {
    let options = &request.options;
    if let Some((program, arguments)) = options.exec_cmd.split_first() {
        let error = Command::new(program).args(arguments).exec();
        return Err(Error::io(format!("run {}", shown(program)), &error));
    }
    if !options.restore_detached() {
        wait_for(pid);
    }
    Ok(DONE)
}

/// The end of the root task is the end of the restore, whatever its exit status: that is the
/// caller's who restored it as a child, and this one did not.
fn wait_for(pid: HostPid) {
    while let Err(nix::errno::Errno::EINTR) = waitpid(pid.nix(), None) {}
}
