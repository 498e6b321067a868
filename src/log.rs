//! The log of a request, in CRIU's shape, which crun, runc and people grep:
//!
//! ```text
//! (00.012345) Error (dump.rs:42): pid 7 fd 3: socket:[5]: TCP is not carried
//! ```
//!
//! Time stamps stand from level 3 on. Nothing here decides or fails: a log that cannot be written
//! does not stop a dump.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::Location;
use std::time::Instant;

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::error::{Context, Error, Kind, Result, shown};
use crate::kernel::fresh;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whatever the level, and without decoration.
    Message = 0,
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

/// The level from which on lines carry a time stamp.
const TIME_STAMPS_FROM: i32 = Level::Info as i32;

/// Where lines go. Any number of threads may write.
#[derive(Debug)]
pub struct Log {
    level: i32,
    start: Instant,
    output: Mutex<Output>,
    /// Name of the file in the work directory, where it is one.
    name: Option<OsString>,
    /// Messages for the caller go here, and not to where the lines go.
    messages: Option<File>,
    first_error: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Output {
    Nowhere,
    File(File),
    Stderr,
    #[cfg(test)]
    Memory(Vec<u8>),
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Output::Nowhere => Ok(()),
            Output::File(file) => file.write_all(bytes),
            Output::Stderr => std::io::stderr().write_all(bytes),
            #[cfg(test)]
            Output::Memory(memory) => memory.write_all(bytes),
        }
    }
}

impl Log {
    /// A log that keeps nothing but the first error.
    pub fn none() -> Self {
        Self::to(Output::Nowhere, 0)
    }

    /// Lines up to `level` go to standard error.
    pub fn stderr(level: i32) -> Self {
        Self::to(Output::Stderr, level)
    }

    /// Lines up to `level` go to standard output.
    pub fn stdout(level: i32) -> Result<Self> {
        let copy = std::io::stdout().as_fd().try_clone_to_owned();
        let file = File::from(copy.doing(|| "dup of standard output for the log")?);
        Ok(Self::to(Output::File(file), level))
    }

    /// Lines up to `level` go to `name` in the directory `work`, or to where that path leads. A log
    /// that is there is replaced.
    pub fn create(work: BorrowedFd<'_>, name: &OsStr, level: i32) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::new(Kind::BadOptions, "the name of the log file is empty"));
        }
        let file = fresh::create_at_path(work, name).map_err(|errno| {
            Error::sys(format!("create log file {}", shown(name)), errno).remedy(match errno {
                Errno::ELOOP | Errno::EEXIST => "it is a link, a FIFO or the like: give a new name",
                _ => "give a work directory (-W) that the caller may write to",
            })
        })?;
        Ok(Self { name: Some(name.to_owned()), ..Self::to(Output::File(file), level) })
    }

    /// Messages for the caller go to standard output, wherever the lines go.
    pub fn with_messages_on_stdout(mut self) -> Result<Self> {
        let copy = std::io::stdout().as_fd().try_clone_to_owned();
        self.messages = Some(File::from(copy.doing(|| "dup of standard output for messages")?));
        Ok(self)
    }

    /// A log beside this one, for the task `pid`; none where this one is no file of a name.
    pub fn of_task(&self, work: BorrowedFd<'_>, pid: u32) -> Result<Option<Self>> {
        let Some(mut name) = self.name.clone() else { return Ok(None) };
        name.push(format!(".{pid}"));
        Self::create(work, &name, self.level).map(Some)
    }

    fn to(output: Output, level: i32) -> Self {
        Self {
            level,
            start: Instant::now(),
            output: Mutex::new(output),
            name: None,
            messages: None,
            first_error: Mutex::new(None),
        }
    }

    /// A copy of the descriptor that lines go to, for a program that takes over.
    pub fn descriptor(&self) -> Option<OwnedFd> {
        match &*self.output.lock() {
            Output::File(file) => file.try_clone().ok().map(OwnedFd::from),
            _ => None,
        }
    }

    /// Whether lines go to a file (or to standard output), and not to standard error.
    pub fn is_file(&self) -> bool {
        matches!(&*self.output.lock(), Output::File(_))
    }

    /// Name of the file in the work directory, where it is one.
    pub fn name(&self) -> Option<&OsStr> {
        self.name.as_deref()
    }

    /// The level up to which lines are written.
    pub fn level(&self) -> i32 {
        self.level
    }

    /// The first error logged: what the RPC reports as `cr_errmsg`.
    pub fn first_error(&self) -> Option<String> {
        self.first_error.lock().clone()
    }

    /// What the caller asked to be told, whatever the level.
    pub fn message(&self, text: impl std::fmt::Display) {
        let line = format!("{text}\n");
        // There is nobody else to tell.
        let _ = match &self.messages {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => self.output.lock().write(line.as_bytes()),
        };
    }

    /// Something failed; one line of the log for each line of `text`.
    #[track_caller]
    pub fn error(&self, text: impl std::fmt::Display) {
        let text = text.to_string();
        self.first_error.lock().get_or_insert_with(|| text.clone());
        self.located(Level::Error, "Error", &text, Location::caller());
    }

    /// Something is odd, and the work goes on.
    #[track_caller]
    pub fn warn(&self, text: impl std::fmt::Display) {
        self.located(Level::Warn, "Warn ", &text.to_string(), Location::caller());
    }

    /// A step of the work.
    pub fn info(&self, text: impl std::fmt::Display) {
        self.write(Level::Info, &text);
    }

    /// A detail of the work.
    pub fn debug(&self, text: impl std::fmt::Display) {
        self.write(Level::Debug, &text);
    }

    fn located(&self, level: Level, word: &str, text: &str, at: &Location<'_>) {
        let file = at.file();
        let file = file.split_once("src/").map_or(file, |(_, inside)| inside);
        for line in text.lines() {
            self.write(level, &format_args!("{word} ({file}:{}): {line}", at.line()));
        }
    }

    fn write(&self, level: Level, text: &dyn std::fmt::Display) {
        if level as i32 > self.level {
            return;
        }
        let line = format!("{}{text}\n", self.time_stamp());
        // A log that cannot be written must not stop the work: there is nobody to tell.
        let _ = self.output.lock().write(line.as_bytes());
    }

    fn time_stamp(&self) -> String {
        if self.level < TIME_STAMPS_FROM {
            return String::new();
        }
        let passed = self.start.elapsed();
        format!("({:02}.{:06}) ", passed.as_secs(), passed.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &Log) -> Vec<String> {
        match &*log.output.lock() {
            Output::Memory(bytes) => {
                String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
            }
            other => panic!("{other:?} keeps no lines"),
        }
    }

    #[test]
    fn errors_have_the_shape_that_callers_grep() {
        let log = Log::to(Output::Memory(Vec::new()), 4);
        log.error("pid 7: gone\npid 8: gone");
        log.info("Dumping finished successfully");
        let lines = lines(&log);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("(00.0"), "{}", lines[0]);
        assert!(lines[0].contains(") Error (log.rs:"), "{}", lines[0]);
        assert!(lines[1].ends_with("): pid 8: gone"), "{}", lines[1]);
        assert!(lines[2].ends_with(") Dumping finished successfully"), "{}", lines[2]);
        assert_eq!(log.first_error().unwrap(), "pid 7: gone\npid 8: gone");
    }

    #[test]
    fn the_level_is_kept_and_low_levels_have_no_time_stamp() {
        let log = Log::to(Output::Memory(Vec::new()), 2);
        log.info("quiet");
        log.warn("odd");
        let lines = lines(&log);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("Warn  (log.rs:"), "{}", lines[0]);
    }

    #[test]
    fn a_message_is_told_at_any_level_and_as_it_is() {
        let log = Log::to(Output::Memory(Vec::new()), 0);
        log.message("Displaying");
        log.error("no");
        assert_eq!(lines(&log), ["Displaying"]);
    }

    #[test]
    fn a_task_has_its_log_beside_the_other() {
        let dir = std::env::temp_dir().join(format!("criu-log-task-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let work = File::open(&dir).unwrap();
        let log = Log::create(work.as_fd(), OsStr::new("restore.log"), 4).unwrap();
        log.of_task(work.as_fd(), 12).unwrap().unwrap().info("filled");
        let text = std::fs::read_to_string(dir.join("restore.log.12")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(text.ends_with(") filled\n"), "{text}");
        assert!(Log::none().of_task(work.as_fd(), 12).unwrap().is_none());
    }

    #[test]
    fn a_log_file_is_made_in_the_work_directory() {
        let dir = std::env::temp_dir().join(format!("criu-log-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let work = File::open(&dir).unwrap();
        Log::create(work.as_fd(), OsStr::new("dump.log"), 1).unwrap().error("no");
        let text = std::fs::read_to_string(dir.join("dump.log")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(text.starts_with("Error (log.rs:"), "{text}");
    }
}
