//! The one table of options: every face reads it, none keeps a list of its own.
//!
//! A row says how an option is called by each face, which verbs it concerns, what this version does
//! with it on each of them, and how its value passes between [`Options`], the RPC message and text.
//!
//! * `honoured`: the engine, or the face, does what the option says.
//! * `permits`: the option speaks of objects that are not carried at all. On a tree without any it
//!   changes nothing, and callers pass fixed lists of options: so it is accepted, and the object is
//!   refused where there is one.
//! * Neither: it would change what happens to every tree. A request that asks for it is refused, by
//!   name and with the row's reason ([`check`]).
//!
//! To honour one more option, add the verb to the row's `honoured`.

#[macro_use]
mod access;
mod files;
mod generic;
mod memory;
mod namespaces;
mod network;

pub use access::split;

use std::ffi::OsStr;

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
    Text(&'a OsStr),
}

/// Whether options have a property.
pub type Test = fn(&Options) -> bool;

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
    /// Verbs for which it is accepted since it speaks of what is not carried, and a clause that says
    /// what that is.
    pub permits: (&'static [Verb], &'static str),
    /// Why it is refused on its other verbs.
    pub refused: &'static str,
    /// Values that are refused on every verb, and why.
    pub except: Option<(Test, &'static str)>,
    pub help: &'static str,
    /// Takes the option from the message, if the message speaks of it; lists grow.
    pub from_rpc: fn(&CriuOpts, &mut Options) -> Result<()>,
    /// Puts the option into the message.
    pub to_rpc: fn(&Options, &mut CriuOpts),
    /// Takes the option from text.
    pub from_text: fn(Given<'_>, &mut Options) -> Result<()>,
    /// Whether the request asks for more than what holds anyway.
    pub asks: Test,
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

    /// Whether a request of this verb may have the option.
    pub fn is_accepted_on(&self, verb: Verb) -> bool {
        self.honoured.contains(&verb) || self.is_permitted_on(verb) || !self.verbs.contains(&verb)
    }

    /// Whether the option is accepted though it speaks of what is not carried.
    pub fn is_permitted_on(&self, verb: Verb) -> bool {
        self.permits.0.contains(&verb)
    }

    /// Why a request of this verb is refused, if it is.
    fn objection(&self, verb: Verb, options: &Options) -> Option<&'static str> {
        if !self.is_accepted_on(verb) {
            return (self.asks)(options).then_some(self.refused);
        }
        let (refused, why) = self.except.filter(|_| self.verbs.contains(&verb))?;
        refused(options).then_some(why)
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

    const fn asks(self, asks: Test) -> Self {
        Self { asks, ..self }
    }

    const fn permits(self, verbs: &'static [Verb], clause: &'static str) -> Self {
        Self { permits: (verbs, clause), ..self }
    }

    const fn refused(self, why: &'static str) -> Self {
        Self { refused: why, ..self }
    }

    const fn except(self, values: Test, why: &'static str) -> Self {
        Self { except: Some((values, why)), ..self }
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

/// Refuses, by name and all together, what is asked for and not accepted.
pub fn check(verb: Verb, options: &Options) -> Result<()> {
    if !VERBS.contains(&verb) {
        let cause = format!("{} is not carried out by this version", verb.name());
        return Err(Error::new(Kind::Refused, cause).remedy(instead_of(verb)));
    }
    let mut refusals = Refusals::default();
    for row in rows() {
        if let Some(why) = row.objection(verb, options) {
            let what = format!("option {} is refused on {}", row.spelled(), verb.name());
            refusals.refuse(what, "", why, "leave it out");
        }
    }
    refusals.check().map_err(|error| error.with_kind(Kind::BadOptions))?;
    // So CRIU has it, whatever else is asked for.
    if options.mntns_compat_mode() && verb != Verb::Restore {
        let cause = "option --mntns-compat-mode (mntns_compat_mode) is for restore only";
        return Err(Error::new(Kind::BadOptions, cause).remedy("leave it out"));
    }
    Ok(())
}

/// What to do in place of a verb that is not carried out.
fn instead_of(verb: Verb) -> &'static str {
    match verb {
        Verb::PreDump => "dump without it: the dump then writes all memory at once",
        Verb::PageServer => "dump into a directory here and copy it to the other machine",
        _ => "restore without --lazy-pages, which brings all memory at once",
    }
}

impl Options {
    /// The options of an RPC request.
    pub fn from_rpc(message: &CriuOpts) -> Result<Self> {
        let mut options = Self::default();
        options.add_rpc(message)?;
        Ok(options)
    }

    /// Adds what an RPC request says to what is said already; where both speak, it wins. What is wrong
    /// with one option leaves none of the others out.
    pub fn add_rpc(&mut self, message: &CriuOpts) -> Result<()> {
        rows().map(|row| (row.from_rpc)(message, self)).fold(Ok(()), Result::and)
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
