//! What a command came to, for the person at the terminal, for the log, and as JSON.

use std::io::IsTerminal;

use console::style;

use super::json::{self, Value};
use crate::engine::Outcome;
use crate::error::Error;
use crate::images::codec::Decoder;
use crate::images::names::magic;
use crate::images::proto::StatsEntry;
use crate::log::Log;
use crate::options::{Request, Verb};

/// `command` failed. The log has every error; a person at a terminal is told in plain words, and a
/// machine that asked for it by an object.
pub fn failure(command: &str, error: &Error, log: Option<&Log>, json: bool) {
    let person = std::io::stderr().is_terminal();
    let log_is_file = log.is_some_and(Log::is_file);
    match log {
        Some(log) if log_is_file || !person => log.error(error),
        _ if !person => complain!("Error: {error}"),
        _ => {}
    }
    if person {
        tell(error, log.filter(|_| log_is_file));
    }
    if json {
        say!("{}", json::failure(command, error));
    }
}

/// Cause, remedy, and where more is to be read.
fn tell(error: &Error, log: Option<&Log>) {
    let (cause, remedy) = error.parts();
    let lines: Vec<String> = cause.lines().map(clean).collect();
    complain!("{} {}", style("Error:").for_stderr().red().bold(), lines.join("\n"));
    if let Some(remedy) = remedy {
        complain!("{} {}", style("What helps:").for_stderr().green(), clean(remedy));
    }
    if let (Some(name), Ok(work)) = (log.and_then(Log::name), std::env::current_dir()) {
        complain!("{} {}", style("The log:").for_stderr().dim(), work.join(name).display());
    }
}

/// One line without what would steer a terminal: names come from programs and images of anybody.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

/// A request was carried out; its figures are in the work directory, which is the current one.
pub fn success(request: &Request, outcome: Outcome) {
    let (pid, figures) = match outcome {
        Outcome::Dumped => (request.options.pid, stats("stats-dump")),
        Outcome::Restored { pid } => (Some(pid.number()), stats("stats-restore")),
        Outcome::Checked | Outcome::Done => (request.options.pid, Value::Null),
    };
    let mut object =
        json::object([("command", request.verb.name().into()), ("success", true.into())]);
    if let Some(pid) = pid {
        object["pid"] = pid.into();
    }
    if matches!(request.verb, Verb::Dump | Verb::PreDump | Verb::Restore) {
        object["images"] = images_path(request).into();
        object["stats"] = figures;
    }
    say!("{object}");
}

fn images_path(request: &Request) -> Option<String> {
    let dir = request.images().ok()?.try_clone_to_owned().ok()?;
    Some(crate::images::dir::ImageDir::new(dir).path())
}

/// The figures of a statistics file; null where there is none.
fn stats(name: &str) -> Value {
    let bytes = std::fs::read(name).unwrap_or_default();
    let entry = Decoder::new(name, &bytes, magic::STATS).and_then(|mut file| file.entry());
    entry.ok().flatten().map_or(Value::Null, |entry| stats_json(&entry))
}

/// Times in microseconds, counts in pages.
pub fn stats_json(entry: &StatsEntry) -> Value {
    if let Some(dump) = &entry.dump {
        return json::object([
            ("freezing_us", dump.freezing_time.into()),
            ("frozen_us", dump.frozen_time.into()),
            ("memory_us", dump.memdump_time.into()),
            ("write_us", dump.memwrite_time.into()),
            ("pages_scanned", dump.pages_scanned.into()),
            ("pages_skipped_parent", dump.pages_skipped_parent.into()),
            ("pages_written", dump.pages_written.into()),
            ("pages_lazy", dump.pages_lazy.into()),
            ("shared_pages_written", dump.shpages_written().into()),
        ]);
    }
    let Some(restore) = &entry.restore else { return Value::Null };
    json::object([
        ("forking_us", restore.forking_time.into()),
        ("restore_us", restore.restore_time.into()),
        ("pages_compared", restore.pages_compared.into()),
        ("pages_skipped_cow", restore.pages_skipped_cow.into()),
        ("pages_restored", restore.pages_restored().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n\u{9b}c ü"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c ü");
    }
}
