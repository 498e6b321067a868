//! Command lines and configuration files, read by the option table as getopt_long would.
//!
//! Long names may be shortened as long as they stay clear, options and other words may be mixed,
//! `--` ends the options. A configuration file holds one option a line, without the dashes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::Options;
use super::table::{self, Argument, Given, Row};
use crate::error::{Context, Error, Kind, Result, shown};

/// Options that no request carries: they steer the command line itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    Help,
    Version,
    /// The file was read before; see [`scan`].
    Config,
    NoDefaultConfig,
    /// The words after the verb are a command.
    ExecCmd,
    /// A descriptor to close first.
    Close,
    /// `check`: everything.
    All,
    /// An older way to say `check --extra`, which CRIU refuses as well.
    Ms,
    /// The result is one JSON object on standard output.
    Json,
}

const OWN: [(&str, Option<char>, Own, Argument, &str); 9] = [
    ("help", Some('h'), Own::Help, Argument::None, "show this text"),
    ("version", Some('V'), Own::Version, Argument::None, "show the version"),
    ("config", None, Own::Config, Argument::Required("FILE"), "read this configuration file"),
    ("no-default-config", None, Own::NoDefaultConfig, Argument::None, "read no default ones"),
    ("exec-cmd", None, Own::ExecCmd, Argument::None, "restore: run the command after `--'"),
    ("close", None, Own::Close, Argument::Required("FD"), "close a descriptor first"),
    ("all", None, Own::All, Argument::None, "check: --extra and --experimental"),
    ("json", None, Own::Json, Argument::None, "print the result as one JSON object"),
    ("ms", None, Own::Ms, Argument::None, "refused: it was replaced by --extra and its like"),
];

/// What CRIU has no option of the name for.
const ADDED: [&str; 1] = ["json"];

/// Rows for the help text: names, argument and meaning.
pub fn own_rows() -> impl Iterator<Item = (&'static str, Option<char>, Argument, &'static str)> {
    OWN.iter().map(|(long, short, _, argument, help)| (*long, *short, *argument, *help))
}

/// A line that has been read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Words that are no options: the verb first.
    pub words: Vec<OsString>,
    pub own: Vec<Own>,
    /// Descriptors to close.
    pub close: Vec<i32>,
    /// The configuration file that was named last.
    pub config: Option<OsString>,
}

#[derive(Clone, Copy)]
enum Target {
    Row(&'static Row),
    Own(Own, Argument),
}

impl Target {
    fn argument(self) -> Argument {
        match self {
            Target::Row(row) => row.argument,
            Target::Own(_, argument) => argument,
        }
    }

    /// Whether two names mean the same.
    fn same(self, other: Target) -> bool {
        match (self, other) {
            (Target::Row(a), Target::Row(b)) => a.name == b.name,
            (Target::Own(a, _), Target::Own(b, _)) => a == b,
            _ => false,
        }
    }
}

/// Reads a command line, without the program's name, into `options`.
pub fn read(arguments: &[OsString], options: &mut Options) -> Result<Line> {
    let mut line = Line::default();
    read_into(arguments, options, &mut line).map(|()| line)
}

/// The same; what stands before an error is read.
fn read_into(arguments: &[OsString], options: &mut Options, line: &mut Line) -> Result<()> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_bytes() {
            b"--" => line.words.extend(rest.by_ref().cloned()),
            [b'-', b'-', long @ ..] => {
                read_long(OsStr::from_bytes(long), &mut rest, options, line)?;
            }
            [b'-', cluster @ ..] if !cluster.is_empty() => {
                read_shorts(cluster, &mut rest, options, line)?;
            }
            _ => line.words.push(argument.clone()),
        }
    }
    Ok(())
}

fn read_long<'a>(
    text: &'a OsStr,
    rest: &mut impl Iterator<Item = &'a OsString>,
    options: &mut Options,
    line: &mut Line,
) -> Result<()> {
    let (name, value) = match table::split(text, b'=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    // No option has a name that is no text.
    let name = &*shown(name);
    let (target, positive) = find_long(name)?;
    let given = match (target.argument(), value) {
        (Argument::None | Argument::Negatable, None) if positive => Given::Yes,
        (Argument::None | Argument::Negatable, None) => Given::No,
        (Argument::None | Argument::Negatable, Some(_)) => {
            return Err(bad(format!("option '--{name}' doesn't allow an argument")));
        }
        (Argument::Optional(_), None) => Given::Yes,
        (Argument::Required(_) | Argument::Optional(_), Some(value)) => Given::Text(value),
        (Argument::Required(_), None) => Given::Text(
            rest.next().ok_or_else(|| bad(format!("option '--{name}' requires an argument")))?,
        ),
    };
    take(target, given, options, line).doing(|| format!("invalid argument for --{name}"))
}

fn read_shorts<'a>(
    cluster: &'a [u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    options: &mut Options,
    line: &mut Line,
) -> Result<()> {
    let mut tail = cluster;
    while let Some((letter, behind)) = tail.split_first() {
        tail = behind;
        let letter = letter.escape_ascii().to_string();
        let target =
            find_short(&letter).ok_or_else(|| bad(format!("invalid option -- '{letter}'")))?;
        let given = match target.argument() {
            Argument::None | Argument::Negatable => Given::Yes,
            Argument::Optional(_) if tail.is_empty() => Given::Yes,
            Argument::Required(_) if tail.is_empty() => Given::Text(
                rest.next()
                    .ok_or_else(|| bad(format!("option requires an argument -- '{letter}'")))?,
            ),
            Argument::Optional(_) | Argument::Required(_) => {
                Given::Text(OsStr::from_bytes(std::mem::take(&mut tail)))
            }
        };
        take(target, given, options, line).doing(|| format!("invalid argument for -{letter}"))?;
    }
    Ok(())
}

fn take(target: Target, given: Given<'_>, options: &mut Options, line: &mut Line) -> Result<()> {
    match (target, given) {
        (Target::Row(row), given) => return (row.from_text)(given, options),
        (Target::Own(Own::Close, _), Given::Text(text)) => {
            let number = text.to_str().and_then(|text| text.parse().ok());
            let wrong = || bad(format!("`{}' is no descriptor's number", shown(text)));
            line.close.push(number.ok_or_else(wrong)?);
        }
        (Target::Own(Own::Ms, _), _) => {
            return Err(bad("--ms is no option any more")
                .remedy("--extra, --experimental and --all have replaced it"));
        }
        (Target::Own(own, _), given) => {
            if let (Own::Config, Given::Text(file)) = (own, given) {
                line.config = Some(file.to_owned());
            }
            line.own.push(own);
        }
    }
    Ok(())
}

/// All long names: target, and whether the name is the negation.
fn long_names() -> impl Iterator<Item = (String, Target, bool)> {
    let of_row = |row: &'static Row| {
        let negatable = row.argument == Argument::Negatable;
        row.long.iter().flat_map(move |long| {
            let yes = ((*long).to_owned(), Target::Row(row), true);
            let no = negatable.then(|| (format!("no-{long}"), Target::Row(row), false));
            std::iter::once(yes).chain(no)
        })
    };
    let own = OWN.iter().map(|(long, _, own, argument, _)| {
        ((*long).to_owned(), Target::Own(*own, *argument), true)
    });
    table::rows().flat_map(of_row).chain(own)
}

fn find_long(name: &str) -> Result<(Target, bool)> {
    if let Some((_, target, positive)) = long_names().find(|(long, ..)| long == name) {
        return Ok((target, positive));
    }
    let matches: Vec<_> = long_names().filter(|(long, ..)| long.starts_with(name)).collect();
    // Names of our own take no abbreviation away that CRIU's users have.
    let theirs: Vec<_> = matches.iter().filter(|(long, ..)| !ADDED.contains(&&**long)).collect();
    let considered = if theirs.is_empty() { matches.iter().collect() } else { theirs };
    let Some((_, target, positive)) = considered.first() else {
        return Err(bad(format!("unrecognized option '--{name}'")));
    };
    if considered.iter().all(|(_, other, sign)| target.same(*other) && sign == positive) {
        return Ok((*target, *positive));
    }
    let all: Vec<String> = matches.iter().map(|(long, ..)| format!("'--{long}'")).collect();
    let all = all.join(" ");
    Err(bad(format!("option '--{name}' is ambiguous; possibilities: {all}")))
}

/// Whether the option has no argument: saying it says yes.
pub fn is_flag(long: &str) -> bool {
    let found = find_long(long).map(|(target, _)| target.argument());
    matches!(found, Ok(Argument::None | Argument::Negatable))
}

fn find_short(letter: &str) -> Option<Target> {
    let is_it = |short: Option<char>| short.is_some_and(|short| letter == short.to_string());
    let row = table::rows().find(|row| is_it(row.short)).map(Target::Row);
    let own = || OWN.iter().find(|own| is_it(own.1));
    row.or_else(|| own().map(|(_, _, own, argument, _)| Target::Own(*own, *argument)))
}

/// What must be known before configuration files are read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub help: bool,
    /// A file given by `--config`; the default ones are not read then.
    pub config: Option<OsString>,
    pub no_default_config: bool,
}

/// Looks for these. Help is shown whatever else the line says, and an error is reported when the
/// line is read after the files.
pub fn scan(arguments: &[OsString]) -> Scan {
    let mut line = Line::default();
    let _ = read_into(arguments, &mut Options::default(), &mut line);
    let asks_for_help = |word: &OsString| word == "--help" || word == "-h";
    let of_criu = arguments.iter().take_while(|word| *word != "--");
    Scan {
        help: of_criu.into_iter().any(asks_for_help) || line.own.contains(&Own::Help),
        no_default_config: line.own.contains(&Own::NoDefaultConfig),
        config: line.config,
    }
}

fn bad(cause: impl Into<String>) -> Error {
    Error::new(Kind::BadOptions, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> (Options, Line) {
        let mut options = Options::default();
        let arguments: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
        let line = read(&arguments, &mut options).unwrap();
        (options, line)
    }

    fn error(text: &str) -> String {
        let arguments: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
        read(&arguments, &mut Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_test_suite_line_is_read() {
        let (options, line) = line(
            "dump --no-default-config --log-file dump.log --images-dir /d --verbosity=4 --tree 12 \
             --timeout 10 -R",
        );
        assert_eq!(line.words, ["dump"]);
        assert_eq!(line.own, [Own::NoDefaultConfig]);
        assert_eq!(options.pid, Some(12));
        assert_eq!(options.log_level(), 4);
        assert_eq!(options.timeout(), 10);
        assert!(options.leave_running());
    }

    #[test]
    fn options_and_words_mix_and_two_dashes_end_them() {
        let (options, line) = line("-D /d restore --exec-cmd -- sh -c true");
        assert_eq!(line.words, ["restore", "sh", "-c", "true"]);
        assert_eq!(line.own, [Own::ExecCmd]);
        assert_eq!(options.images_dir.as_deref(), Some(OsStr::new("/d")));
    }

    #[test]
    fn short_options_join_and_take_what_follows() {
        let (options, _) = line("-vvvRt12 -x -o-");
        assert_eq!(options.log_level(), 2 + "vvRt12".len() as i32 + 1);
        let (options, _) = line("-Rjt12 -x -o- -v4");
        assert_eq!((options.pid, options.log_level()), (Some(12), 4));
        assert!(options.leave_running() && options.shell_job() && options.ext_unix_sk());
        assert_eq!(options.log_file.as_deref(), Some(OsStr::new("-")));
    }

    #[test]
    fn long_names_may_be_short_and_negated() {
        let (options, _) = line("--tcp-est --leave-r --restore-detached --no-restore-d");
        assert_eq!(options.tcp_established, Some(true));
        assert_eq!(options.restore_detached, Some(false));
        assert!(options.leave_running());
        assert!(error("--leave").contains("'--leave' is ambiguous"), "{}", error("--leave"));
        let (options, line) = line("--j uts:1 --js");
        assert_eq!(options.join_ns.len(), 1);
        assert_eq!(line.own, [Own::Json]);
    }

    #[test]
    fn errors_read_like_getopt() {
        assert_eq!(error("--nosuch"), "unrecognized option '--nosuch'");
        assert_eq!(error("--tree"), "option '--tree' requires an argument");
        assert_eq!(error("-q"), "invalid option -- 'q'");
        assert_eq!(error("-t"), "option requires an argument -- 't'");
        assert_eq!(error("--shell-job=1"), "option '--shell-job' doesn't allow an argument");
        assert_eq!(error("-t 0"), "invalid argument for -t: 0 is not the id of a process");
    }

    #[test]
    fn names_are_bytes() {
        let words = [&b"dump"[..], b"-D/\xff", b"--log-file=\xfe=x", b"-o", b"\xfd", b"\xfc"];
        let arguments = words.map(|word| OsStr::from_bytes(word).to_owned());
        let mut options = Options::default();
        let line = read(&arguments, &mut options).unwrap();
        let name = |bytes| Some(OsStr::from_bytes(bytes));
        assert_eq!(options.images_dir.as_deref(), name(b"/\xff"));
        assert_eq!(options.log_file.as_deref(), name(b"\xfd"));
        assert_eq!(line.words[1], OsStr::from_bytes(b"\xfc"));
        let error = |bytes| {
            let arguments = [OsStr::from_bytes(bytes).to_owned()];
            read(&arguments, &mut Options::default()).unwrap_err().to_string()
        };
        assert_eq!(error(b"--n\xff"), r#"unrecognized option '--"n\xFF"'"#);
        assert_eq!(error(b"-\xff"), r"invalid option -- '\xff'");
        assert!(error(b"--tree=\xff").contains(r#""\xFF" is no text"#));
    }

    #[test]
    fn configuration_is_found_first() {
        let arguments = ["dump", "--config=/c", "--no-default-config"].map(OsString::from);
        let scan = scan(&arguments);
        assert_eq!(scan.config.as_deref(), Some(OsStr::new("/c")));
        assert!(scan.no_default_config && !scan.help);
    }

    #[test]
    fn configuration_is_found_by_shorter_names_and_help_before_errors() {
        let scan = |text: &str| {
            let words: Vec<OsString> = text.split_whitespace().map(OsString::from).collect();
            super::scan(&words)
        };
        let config = scan("check --conf a --conf=b").config;
        assert_eq!(config.as_deref(), Some(OsStr::new("b")));
        assert_eq!(scan("check -o --config").config, None);
        assert!(scan("check --hel").help);
        assert!(scan("check --nosuch -h").help);
        assert!(!scan("restore --exec-cmd -- sh -h").help);
    }

    /// Every name that getopt_long of CRIU 4.2 is given.
    #[test]
    fn every_long_option_is_known() {
        const NAMES: &str = "tree leave-stopped leave-running restore-detached! restore-sibling! \
             daemon! images-dir work-dir log-file join-ns root ext-unix-sk help tcp-established! \
             close log-pid! version evasive-devices! pidfile veth-pair action-script link-remap! \
             shell-job! file-locks! page-server! address port prev-images-dir ms track-mem! \
             auto-dedup! libdir cpu-cap force-irmap! ext-mount-map exec-cmd manage-cgroups \
             cgroup-root inherit-fd feature skip-mnt enable-fs enable-external-sharing \
             enable-external-masters freeze-cgroup ghost-limit irmap-scan-path lsm-profile \
             timeout external empty-ns lazy-pages extra! experimental! all cgroup-props \
             cgroup-props-file cgroup-dump-controller skip-in-flight! deprecated! \
             display-stats! weak-sysctls! status-fd tcp-close! verbosity ps-socket stream! \
             config no-default-config tls-cacert tls-cacrl tls-cert tls-key tls! \
             tls-no-cn-verify cgroup-yard pre-dump-mode file-validation skip-file-rwx-check! \
             lsm-mount-context network-lock mntns-compat-mode! unprivileged! ghost-fiemap! \
             allow-uprobes!";
        let known: Vec<String> = long_names().map(|(long, ..)| long).collect();
        let knows = |name: &str| known.iter().any(|long| long == name);
        for word in NAMES.split_whitespace() {
            let name = word.trim_end_matches('!');
            assert!(knows(name), "--{name}");
            assert_eq!(knows(&format!("no-{name}")), word.ends_with('!'), "--no-{name}");
        }
        for letter in "dSsRthDovxVrjJlWLM".chars() {
            assert!(find_short(&letter.to_string()).is_some(), "-{letter}");
        }
    }
}
