//! Configuration files: one option a line, named as on the command line, without the dashes.
//!
//! ```text
//! # comment
//! tcp-established
//! log-file "my dump.log"   # quotes keep blanks; \" is a quote
//! ```

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Options;
use super::getopt::{self, Own, Scan};
use crate::error::{Context, Error, Kind, Result};

/// What may follow an option without argument: CRIU takes any word for it.
const YES: [&str; 4] = ["yes", "true", "on", "1"];

const GLOBAL: &str = "/etc/criu/default.conf";
const OF_USER: &str = ".criu/default.conf";
const VARIABLE: &str = "CRIU_CONFIG_FILE";
/// In bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// A file that somebody named, and that is not there: the log may say so.
#[derive(Debug)]
pub struct Absent(String);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "configuration file {}: there is none, so that it says nothing", self.0)
    }
}

/// Reads the files that `scan` leaves in force: global, of the user, of the environment, and the
/// one that was named. A later one overrides. A file that is not there says nothing, as with CRIU:
/// runtimes name one that an administrator may make.
pub fn read_all(scan: &Scan, options: &mut Options) -> Result<Vec<Absent>> {
    if !scan.no_default_config && scan.config.is_none() {
        read_file(GLOBAL, options)?;
        if let Some(home) = std::env::var_os("HOME") {
            read_file(&format!("{}/{OF_USER}", home.to_string_lossy()), options)?;
        }
    }
    let named = std::env::var(VARIABLE).ok().into_iter().chain(scan.config.clone());
    let absent = named.map(|path| read_file(&path, options));
    absent.filter_map(Result::transpose).collect()
}

/// Reads one file, if it is there.
pub fn read_file(path: &str, options: &mut Options) -> Result<Option<Absent>> {
    let place = || format!("configuration file {path}");
    let bytes = match contents(path) {
        // No name is no file.
        Err(_) if path.is_empty() => return Ok(None),
        // Nor is one where the caller may not look, as in the home of whoever the caller was before.
        Err(_) if !Path::new(path).exists() => return Ok(Some(Absent(path.to_owned()))),
        read => read.doing(place).map_err(|error| error.with_kind(Kind::BadOptions))?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::new(Kind::BadOptions, "is not UTF-8").context(place()))?;
    read(&text, options).doing(place).map(|()| None)
}

/// The bytes of a file, which may be a pipe but must have an end.
fn contents(path: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(std::io::Error::other(format!("is longer than {MAX_LENGTH} bytes")));
    }
    Ok(bytes)
}

/// Reads the text of a file.
pub fn read(text: &str, options: &mut Options) -> Result<()> {
    for (index, line) in text.lines().enumerate() {
        statement(line, options).doing(|| format!("line {}", index + 1))?;
    }
    Ok(())
}

fn statement(line: &str, options: &mut Options) -> Result<()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (key, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = match value(rest.trim_start())? {
        Some(value) if getopt::is_flag(key) && YES.contains(&&*value) => format!("--{key}"),
        Some(value) if getopt::is_flag(key) => {
            return Err(bad(format!("`{value}' follows {key}, which has no argument"))
                .remedy(format!("to say the opposite, write no-{key}")));
        }
        Some(value) => format!("--{key}={value}"),
        None => format!("--{key}"),
    };
    let mut read = getopt::read(&[argument], options)?;
    if read.own.pop_if(|own| *own == Own::All).is_some() {
        (options.check_extra, options.check_experimental) = (Some(true), Some(true));
    }
    if read == getopt::Line::default() {
        return Ok(());
    }
    Err(bad(format!("`{line}' is no option of a request")))
}

/// The value after a key, if there is one before the comment.
fn value(rest: &str) -> Result<Option<String>> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let bare = rest.split('#').next().unwrap_or_default().trim_end();
        return match bare {
            "" => Ok(None),
            bare if bare.contains([' ', '\t']) => {
                Err(bad(format!("`{bare}' is more than one word"))
                    .remedy("put the value in double quotes"))
            }
            bare => Ok(Some(bare.replace("\\\"", "\""))),
        };
    };
    let mut text = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next() {
            None => return Err(bad("a quote is not closed")),
            Some('"') => break,
            Some('\\') if letters.as_str().starts_with('"') => text.extend(letters.next()),
            Some(letter) => text.push(letter),
        }
    }
    match letters.as_str().trim_start() {
        "" => Ok(Some(text)),
        comment if comment.starts_with('#') => Ok(Some(text)),
        more => Err(bad(format!("`{more}' follows the value"))),
    }
}

fn bad(cause: impl Into<String>) -> Error {
    Error::new(Kind::BadOptions, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        let mut options = Options::default();
        read(text, &mut options).unwrap();
        options
    }

    fn error(text: &str) -> String {
        read(text, &mut Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn keys_values_comments_and_quotes() {
        let options = options(
            "# all\n\ntcp-established # yes\nlog-file \"my \\\"own\\\" log\"  # name\n\
             ghost-limit\t2M#two\nimages-dir=/d\nverbosity 4\nno-shell-job\n",
        );
        assert_eq!(options.tcp_established, Some(true));
        assert_eq!(options.log_file.as_deref(), Some("my \"own\" log"));
        assert_eq!(options.ghost_limit(), 2 << 20);
        assert_eq!(options.images_dir.as_deref(), Some("/d"));
        assert_eq!(options.log_level(), 4);
        assert_eq!(options.shell_job, Some(false));
    }

    #[test]
    fn a_flag_may_be_said_yes_to() {
        let options = options("shell-job yes\nlink-remap true # c\nall\n");
        assert_eq!((options.shell_job, options.link_remap), (Some(true), Some(true)));
        assert!(options.check_extra() && options.check_experimental());
        let text = error("shell-job no");
        assert_eq!(
            text,
            "line 1: `no' follows shell-job, which has no argument; to say the opposite, write \
             no-shell-job"
        );
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(error("\nnosuch"), "line 2: unrecognized option '--nosuch'");
        assert_eq!(error("log-file \"a"), "line 1: a quote is not closed");
        assert_eq!(error("log-file \"a\" b"), "line 1: `b' follows the value");
        assert!(error("log-file a b").starts_with("line 1: `a b' is more than one word"));
        assert_eq!(error("log-file"), "line 1: option '--log-file' requires an argument");
        assert_eq!(error("version"), "line 1: `version' is no option of a request");
    }
    #[test]
    fn a_file_without_an_end_is_refused() {
        let text = read_file("/dev/zero", &mut Options::default()).unwrap_err().to_string();
        assert!(text.starts_with("configuration file /dev/zero: is longer than"), "{text}");
    }

    #[test]
    fn counting_up_ends_at_the_largest_number() {
        let options = options("verbosity 2147483647\nverbosity\nverbosity vvv\n");
        assert_eq!(options.log_level(), i32::MAX);
    }
}
