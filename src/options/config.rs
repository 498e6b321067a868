//! Configuration files: one option a line, named as on the command line, without the dashes.
//!
//! ```text
//! # comment
//! tcp-established
//! log-file "my dump.log"   # quotes keep blanks; \" is a quote
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::Options;
use super::getopt::{self, Own, Scan};
use crate::error::{Context, Error, Kind, Result, shown};

/// What may follow an option without argument: CRIU takes any word for it.
const YES: [&[u8]; 4] = [b"yes", b"true", b"on", b"1"];

const GLOBAL: &str = "/etc/criu/default.conf";
const OF_USER: &str = ".criu/default.conf";
const VARIABLE: &str = "CRIU_CONFIG_FILE";
/// In bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// A file that somebody named, and that is not there: the log may say so.
#[derive(Debug)]
pub struct Absent(OsString);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = shown(&self.0);
        write!(f, "configuration file {name}: there is none, so that it says nothing")
    }
}

/// Reads the files that `scan` leaves in force: global, of the user, of the environment, and the
/// one that was named. A later one overrides. A file that is not there says nothing, as with CRIU:
/// runtimes name one that an administrator may make.
pub fn read_all(scan: &Scan, options: &mut Options) -> Result<Vec<Absent>> {
    if !scan.no_default_config && scan.config.is_none() {
        read_file(OsStr::new(GLOBAL), options)?;
        if let Some(home) = std::env::var_os("HOME") {
            read_file(Path::new(&home).join(OF_USER).as_os_str(), options)?;
        }
    }
    let named = std::env::var_os(VARIABLE).into_iter().chain(scan.config.clone());
    let absent = named.map(|path| read_file(&path, options));
    absent.filter_map(Result::transpose).collect()
}

/// Reads one file, if it is there.
pub fn read_file(path: &OsStr, options: &mut Options) -> Result<Option<Absent>> {
    let place = || format!("configuration file {}", shown(path));
    let bytes = match contents(path) {
        // No name is no file.
        Err(_) if path.is_empty() => return Ok(None),
        // Nor is one where the caller may not look, as in the home of whoever the caller was before.
        Err(_) if !Path::new(path).exists() => return Ok(Some(Absent(path.to_owned()))),
        read => read.doing(place).map_err(|error| error.with_kind(Kind::BadOptions))?,
    };
    read(&bytes, options).doing(place).map(|()| None)
}

/// The bytes of a file, which may be a pipe but must have an end.
fn contents(path: &OsStr) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(std::io::Error::other(format!("is longer than {MAX_LENGTH} bytes")));
    }
    Ok(bytes)
}

/// Reads what a file holds.
pub fn read(bytes: &[u8], options: &mut Options) -> Result<()> {
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        statement(line, options).doing(|| format!("line {}", index + 1))?;
    }
    Ok(())
}

fn statement(line: &[u8], options: &mut Options) -> Result<()> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(());
    }
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let flag = std::str::from_utf8(key).is_ok_and(getopt::is_flag);
    let mut argument = [b"--", key].concat();
    match value(rest.trim_ascii_start())? {
        Some(value) if flag && YES.contains(&&*value) => {}
        Some(value) if flag => {
            let (value, key) = (quoted(&value), quoted(key));
            return Err(bad(format!("`{value}' follows {key}, which has no argument"))
                .remedy(format!("to say the opposite, write no-{key}")));
        }
        Some(value) => argument.extend([b"=", &*value].concat()),
        None => {}
    }
    let mut read = getopt::read(&[OsString::from_vec(argument)], options)?;
    if read.own.pop_if(|own| *own == Own::All).is_some() {
        (options.check_extra, options.check_experimental) = (Some(true), Some(true));
    }
    if read == getopt::Line::default() {
        return Ok(());
    }
    Err(bad(format!("`{}' is no option of a request", quoted(line))))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Bytes of the file as messages have them.
fn quoted(bytes: &[u8]) -> String {
    shown(OsStr::from_bytes(bytes))
}

/// The value after a key, if there is one before the comment.
fn value(rest: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(mut left) = rest.strip_prefix(b"\"") else {
        let bare = rest.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii_end();
        if bare.iter().any(|byte| is_blank(*byte)) {
            return Err(bad(format!("`{}' is more than one word", quoted(bare)))
                .remedy("put the value in double quotes"));
        }
        return Ok((!bare.is_empty()).then(|| without_escapes(bare)));
    };
    let mut value = Vec::new();
    loop {
        left = match left {
            [] => return Err(bad("a quote is not closed")),
            [b'"', behind @ ..] => {
                left = behind;
                break;
            }
            [b'\\', b'"', behind @ ..] => {
                value.push(b'"');
                behind
            }
            [byte, behind @ ..] => {
                value.push(*byte);
                behind
            }
        };
    }
    match left.trim_ascii_start() {
        [] | [b'#', ..] => Ok(Some(value)),
        more => Err(bad(format!("`{}' follows the value", quoted(more)))),
    }
}

/// A quote may be escaped outside of quotes, too.
fn without_escapes(bare: &[u8]) -> Vec<u8> {
    let is_escape = |at: &usize| bare[*at..].starts_with(b"\\\"");
    (0..bare.len()).filter(|at| !is_escape(at)).map(|at| bare[at]).collect()
}

fn bad(cause: impl Into<String>) -> Error {
    Error::new(Kind::BadOptions, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        let mut options = Options::default();
        read(text.as_bytes(), &mut options).unwrap();
        options
    }

    fn error(text: &str) -> String {
        read(text.as_bytes(), &mut Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn keys_values_comments_and_quotes() {
        let options = options(
            "# all\n\ntcp-established # yes\nlog-file \"my \\\"own\\\" log\"  # name\n\
             ghost-limit\t2M#two\nimages-dir=/d\nverbosity 4\nno-shell-job\n",
        );
        assert_eq!(options.tcp_established, Some(true));
        assert_eq!(options.log_file.as_deref(), Some(OsStr::new("my \"own\" log")));
        assert_eq!(options.ghost_limit(), 2 << 20);
        assert_eq!(options.images_dir.as_deref(), Some(OsStr::new("/d")));
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
    fn names_are_bytes() {
        let mut options = Options::default();
        read(b"images-dir /\xff#c\nlog-file \"\xfe x\"\nroot a\\\"b\n", &mut options).unwrap();
        let name = |bytes| Some(OsStr::from_bytes(bytes));
        assert_eq!(options.images_dir.as_deref(), name(b"/\xff"));
        assert_eq!(options.log_file.as_deref(), name(b"\xfe x"));
        assert_eq!(options.root.as_deref(), name(b"a\"b"));
        let error = read(b"\xff 1", &mut Options::default()).unwrap_err().to_string();
        assert_eq!(error, r#"line 1: unrecognized option '--"\xFF"'"#);
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
        let file = OsStr::new("/dev/zero");
        let text = read_file(file, &mut Options::default()).unwrap_err().to_string();
        assert!(text.starts_with("configuration file /dev/zero: is longer than"), "{text}");
    }

    #[test]
    fn counting_up_ends_at_the_largest_number() {
        let options = options("verbosity 2147483647\nverbosity\nverbosity vvv\n");
        assert_eq!(options.log_level(), i32::MAX);
    }
}
