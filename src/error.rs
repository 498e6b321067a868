//! The one error type of the project.
//!
//! An [`Error`] says what was being done, to which object (pid, fd with path, address), why it
//! failed and, where there is one, the remedy. Its [`Display`](std::fmt::Display) is the text that
//! goes to the log, to the RPC's `cr_errmsg`, to `criu_last_error()` and to the command line.
//! Nothing below the faces prints or logs an error: it returns it.

use std::ffi::OsStr;
use std::fmt;

use nix::errno::Errno;

/// A name as messages have it. Names are bytes: what is no text, or would break or steer a line, is
/// quoted and escaped.
pub fn shown(name: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let name = name.as_ref();
    match name.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("{name:?}"),
    }
}

/// Result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it was: small, stable, and what return codes are chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The task to dump does not exist (errno ESRCH in C).
    NoSuchTask,
    /// A pid that the restore needs is taken (errno EEXIST in C).
    PidTaken,
    /// The options are wrong or contradict each other (errno EBADRQC in C).
    BadOptions,
    /// Objects or options that cannot be carried, refused by name before anything changed.
    Refused,
    /// A privilege is missing.
    Denied,
    /// The images are missing, torn, altered or not ours to restore.
    BadImages,
    /// The caller's notification callback or action script said no.
    CallbackRefused,
    /// The caller's time limit ran out.
    TimedOut,
    /// The task died while it was being dumped or restored.
    TaskDied,
    /// The kernel refused a system call for another reason.
    System,
    /// A defect of this library.
    Internal,
}

/// What failed, on which object, why, and what would help.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct Error {
    kind: Kind,
    errno: Option<Errno>,
    /// Outermost first: each layer says what it was doing.
    context: Vec<String>,
    cause: String,
    remedy: Option<String>,
}

impl Error {
    /// A failure described by `cause`.
    pub fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, errno: None, context: Vec::new(), cause: cause.into(), remedy: None }
    }

    /// A system call (or what stands for one) failed: `what` reads like `open /tmp/x`.
    pub fn sys(what: impl fmt::Display, errno: Errno) -> Self {
        let kind = match errno {
            Errno::EPERM | Errno::EACCES => Kind::Denied,
            _ => Kind::System,
        };
        let cause = format!("{what}: {} ({errno:?})", errno.desc());
        Self { errno: Some(errno), ..Self::new(kind, cause) }
    }

    /// The same for a [`std::io::Error`].
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::sys(what, Errno::from_raw(raw)),
            None => Self::new(Kind::System, format!("{what}: {error}")),
        }
    }

    /// One object that cannot be carried.
    pub fn refused(refusal: Refusal) -> Self {
        let mut all = Refusals::default();
        all.add(refusal);
        all.into_error()
    }

    /// The images say something impossible; `file` is the image's name.
    pub fn image(file: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self::new(Kind::BadImages, format!("{file}: {cause}"))
    }

    /// Adds what the caller was doing when this happened.
    #[must_use]
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        self.context.insert(0, doing.into());
        self
    }

    /// Adds what would cure it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Overrides the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The kernel's error number, if a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// What was being done, outermost first; the cause; the remedy.
    fn text(&self) -> String {
        let (mut text, remedy) = self.parts();
        if let Some(remedy) = remedy {
            text.push_str("; ");
            text.push_str(remedy);
        }
        text
    }

    /// The same, with the remedy, where there is one, by itself.
    pub fn parts(&self) -> (String, Option<&str>) {
        let mut text = self.context.join(": ");
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&self.cause);
        (text, self.remedy.as_deref())
    }

    /// The `cr_errno` of the RPC and the errno of the C verbs: the first three are CRIU's and mean
    /// nothing else, whatever a system call failed with. 0 where no number says it.
    pub fn rpc_errno(&self) -> i32 {
        let meant_otherwise = [libc::ESRCH, libc::EEXIST, libc::EBADRQC];
        let of_call = self.errno.map(|errno| errno as i32).filter(|e| !meant_otherwise.contains(e));
        match self.kind {
            Kind::NoSuchTask => libc::ESRCH,
            Kind::PidTaken => libc::EEXIST,
            Kind::BadOptions => libc::EBADRQC,
            Kind::Refused => libc::EOPNOTSUPP,
            Kind::Denied => of_call.unwrap_or(libc::EPERM),
            Kind::BadImages => of_call.unwrap_or(libc::EBADMSG),
            Kind::CallbackRefused => libc::ECANCELED,
            Kind::TimedOut => libc::ETIMEDOUT,
            Kind::TaskDied | Kind::System | Kind::Internal => of_call.unwrap_or(0),
        }
    }
}

/// One object that cannot be carried, and what would allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where: `pid 12 fd 5`, `pid 12 at 7f00-7fff`, `option --lazy-pages`.
    pub place: String,
    /// What it is: `socket:[1234]`. Empty where the place says it.
    pub object: String,
    /// Why it cannot be carried.
    pub reason: String,
    /// The option or privilege that would allow it; empty if there is none.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.object.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}: {}", self.place, self.object, self.reason)?;
        match self.remedy.as_str() {
            "" => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

/// All refusals of a tree: they are reported together, not one per attempt.
#[derive(Debug, Default)]
pub struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Records one refusal.
    pub fn add(&mut self, refusal: Refusal) {
        self.0.push(refusal);
    }

    /// Records a refusal from its four parts.
    pub fn refuse(
        &mut self,
        place: impl Into<String>,
        object: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Refusal {
            place: place.into(),
            object: object.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    /// Records what was refused elsewhere.
    pub fn append(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Whether nothing was refused so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ok if nothing was refused, else one error that lists everything.
    pub fn check(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }

    fn into_error(self) -> Error {
        let lines: Vec<String> = self.0.iter().map(Refusal::to_string).collect();
        Error::new(Kind::Refused, lines.join("\n"))
    }
}

/// Adds context to the error of a result, and turns system errors into [`Error`].
pub trait Context<T> {
    /// `doing` is only evaluated on failure.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.context(doing()))
    }
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::sys(doing().into(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::io(doing().into(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_context_cause_and_remedy() {
        let error = Error::sys("open /x", Errno::ENOENT).remedy("create it").context("pid 7");
        assert_eq!(
            error.to_string(),
            "pid 7: open /x: No such file or directory (ENOENT); create it"
        );
        assert_eq!(error.kind(), Kind::System);
    }

    #[test]
    fn names_are_shown_in_one_line() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(shown("/tmp/a b'c"), "/tmp/a b'c");
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(shown(OsStr::from_bytes(b"a\xff")), r#""a\xFF""#);
    }

    #[test]
    fn refusals_are_reported_together() {
        let mut all = Refusals::default();
        all.refuse("pid 1 fd 3", "socket:[5]", "TCP is not carried", "");
        all.refuse("pid 1 fd 4", "inotify", "is not carried", "close it");
        let text = all.check().unwrap_err().to_string();
        assert_eq!(
            text,
            "pid 1 fd 3: socket:[5]: TCP is not carried\npid 1 fd 4: inotify: is not carried; close it"
        );
    }

    #[test]
    fn the_errno_of_the_rpc_carries_the_cause() {
        assert_eq!(Error::new(Kind::PidTaken, "").rpc_errno(), libc::EEXIST);
        assert_eq!(Error::new(Kind::Refused, "").rpc_errno(), libc::EOPNOTSUPP);
        assert_eq!(Error::new(Kind::Internal, "").rpc_errno(), 0);
        assert_eq!(Error::sys("write", Errno::ENOSPC).rpc_errno(), libc::ENOSPC);
        assert_eq!(Error::sys("open", Errno::EACCES).rpc_errno(), libc::EACCES);
        assert_eq!(Error::sys("mkdir", Errno::EEXIST).rpc_errno(), 0, "it would mean a pid");
    }
}
