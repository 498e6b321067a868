//! The one table of options: every face reads it, none keeps a list of its own.
//!
//! A row says how an option is called by each face, which verbs it concerns, which of those the
//! engine honours, and how its value passes between [`Options`], the RPC message and text. An
//! option that a request asks for and the engine does not honour for that verb makes the verb fail
//! ([`check`]). To honour one more, add the verb to the row's `honoured`.

#[macro_use]
mod access;
mod files;
mod generic;
mod memory;
mod namespaces;
mod network;

use super::{Options, Verb};
use crate::error::{Error, Kind, Refusals, Result};
use crate::images::proto::CriuOpts;

/// The argument of a command line flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// None, and no negation.
    None,
    /// None; `--no-NAME` says the opposite.
    Negatable,
    /// `--name VALUE` or `--name=VALUE`.
    Required(&'static str),
    /// `--name` or `--name=VALUE`.
    Optional(&'static str),
}

/// A value as the command line or a configuration file gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// The flag alone.
    Yes,
    /// The flag with `--no-`.
    No,
    /// The flag with an argument.
    Text(&'a str),
}

/// One option.
#[derive(Clone, Copy)]
pub struct Row {
    /// Field of [`Options`].
    pub name: &'static str,
    /// Numbers of the fields of `criu_opts`.
    pub rpc: &'static [u32],
    /// Command line names without dashes, the usual one first; also the configuration file's keys.
    pub long: &'static [&'static str],
    pub short: Option<char>,
    pub argument: Argument,
    /// C setters: each exists as `criu_NAME` and `criu_local_NAME`.
    pub setters: &'static [&'static str],
    /// What holds when nothing is said, for people.
    pub default: &'static str,
    /// Verbs that the option means something to.
    pub verbs: &'static [Verb],
    /// Verbs for which the engine (or the face) does what it says.
    pub honoured: &'static [Verb],
    /// Where it is not honoured, some of its values are all the same: `asks` knows which.
    pub partly: bool,
    pub help: &'static str,
    /// Takes the option from the message, if the message speaks of it; lists grow.
    pub from_rpc: fn(&CriuOpts, &mut Options) -> Result<()>,
    /// Puts the option into the message.
    pub to_rpc: fn(&Options, &mut CriuOpts),
    /// Takes the option from text.
    pub from_text: fn(Given<'_>, &mut Options) -> Result<()>,
    /// Whether the request asks for more than what holds anyway.
    pub asks: fn(&Options) -> bool,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Row {
    /// The option as its user would write it.
    pub fn spelled(&self) -> String {
        match (self.long.first(), self.rpc.is_empty()) {
            (Some(long), false) => format!("--{long} ({})", self.name),
            (Some(long), true) => format!("--{long}"),
            (None, _) => self.name.to_owned(),
        }
    }

    /// Whether the engine does what the option says, or the option says nothing to the verb.
    pub fn is_honoured_on(&self, verb: Verb) -> bool {
        self.honoured.contains(&verb) || !self.verbs.contains(&verb)
    }

    const fn rpc(self, rpc: &'static [u32]) -> Self {
        Self { rpc, ..self }
    }

    const fn long(self, long: &'static [&'static str], argument: Argument) -> Self {
        Self { long, argument, ..self }
    }

    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn setters(self, setters: &'static [&'static str]) -> Self {
        Self { setters, ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn verbs(self, verbs: &'static [Verb]) -> Self {
        Self { verbs, ..self }
    }

    const fn honoured(self, honoured: &'static [Verb]) -> Self {
        Self { honoured, ..self }
    }

    const fn asks(self, asks: fn(&Options) -> bool) -> Self {
        Self { asks, ..self }
    }

    /// Some values are honoured: `asks` is true for the others.
    const fn partly(self, asks: fn(&Options) -> bool) -> Self {
        Self { asks, partly: true, ..self }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

/// Sections of the table, in the order of the help text.
pub const SECTIONS: [(&str, &[Row]); 5] = [
    ("Generic", generic::ROWS),
    ("Files, terminals and sockets", files::ROWS),
    ("Network and control groups", network::ROWS),
    ("Namespaces, mounts and security", namespaces::ROWS),
    ("Memory and page server", memory::ROWS),
];

/// Every row.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    SECTIONS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The verbs of the engine at this time.
pub const VERBS: [Verb; 8] = [
    Verb::Dump,
    Verb::Restore,
    Verb::Check,
    Verb::Dedup,
    Verb::CpuinfoDump,
    Verb::CpuinfoCheck,
    Verb::Continue,
    Verb::Service,
];

/// Refuses, by name and all together, what is asked for and not honoured.
pub fn check(verb: Verb, options: &Options) -> Result<()> {
    if !VERBS.contains(&verb) {
        let cause = format!("{}: this verb is not carried out by this version", verb.name());
        return Err(Error::new(Kind::Refused, cause));
    }
    let mut refusals = Refusals::default();
    for row in rows().filter(|row| !row.is_honoured_on(verb) && (row.asks)(options)) {
        let place = format!("option {}", row.spelled());
        let reason = format!("is not honoured on {} by this version", verb.name());
        refusals.refuse(place, row.help, reason, "leave it out");
    }
    refusals.check().map_err(|error| error.with_kind(Kind::BadOptions))?;
    contradictions(verb, options)
}

/// Options that are honoured, but not with this verb or not together.
fn contradictions(verb: Verb, options: &Options) -> Result<()> {
    let bad = |what: &str| Err(Error::new(Kind::BadOptions, what));
    if options.mntns_compat_mode() && verb != Verb::Restore {
        return bad("--mntns-compat-mode is only valid on restore");
    }
    if !options.inherit_fd.is_empty() && verb != Verb::Restore {
        return bad("--inherit-fd is only valid on restore");
    }
    if options.leave_running() && options.leave_stopped() {
        return bad("--leave-running and --leave-stopped contradict each other");
    }
    Ok(())
}

impl Options {
    /// The options of an RPC request.
    pub fn from_rpc(message: &CriuOpts) -> Result<Self> {
        let mut options = Self::default();
        options.add_rpc(message)?;
        Ok(options)
    }

    /// Adds what an RPC request says to what is said already; where both speak, it wins.
    pub fn add_rpc(&mut self, message: &CriuOpts) -> Result<()> {
        rows().try_for_each(|row| (row.from_rpc)(message, self))
    }

    /// The same options as an RPC request.
    pub fn to_rpc(&self) -> CriuOpts {
        let mut message = CriuOpts { images_dir_fd: -1, ..CriuOpts::default() };
        rows().for_each(|row| (row.to_rpc)(self, &mut message));
        message
    }
}

#[cfg(test)]
mod tests;
