//! Completion for shells, from the tables of commands and options.

use std::fmt::Write;

use super::commands::COMMANDS;
use crate::engine::check;
use crate::options::getopt;
use crate::options::table::{self, Argument};

/// What a shell needs to know of an option.
struct Flag {
    long: Vec<&'static str>,
    short: Option<char>,
    negatable: bool,
    help: &'static str,
    value: Value,
}

/// What stands after an option.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    None,
    /// Only after `=`.
    Optional(Words),
    Required(Words),
}

/// What it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Words {
    Any,
    Files,
    Directories,
    Pids,
    OneOf(Vec<&'static str>),
}

fn flags() -> Vec<Flag> {
    let of_table = table::rows().filter(|row| !row.long.is_empty()).map(|row| Flag {
        long: row.long.to_vec(),
        short: row.short,
        negatable: row.argument == Argument::Negatable,
        help: row.help,
        value: value(row.argument, row.name, row.help),
    });
    let own = getopt::own_rows().map(|(long, short, argument, help)| Flag {
        long: vec![long],
        short,
        negatable: false,
        help,
        value: value(argument, long, help),
    });
    of_table.chain(own).collect()
}

fn value(argument: Argument, name: &str, help: &'static str) -> Value {
    match argument {
        Argument::None | Argument::Negatable => Value::None,
        Argument::Optional(_) => Value::Optional(words("", name, help)),
        Argument::Required(what) => Value::Required(words(what, name, help)),
    }
}

fn words(what: &str, name: &str, help: &'static str) -> Words {
    match (what, choices(help)) {
        (_, Some(choices)) => Words::OneOf(choices),
        ("DIR", _) => Words::Directories,
        ("FILE" | "PATH", _) => Words::Files,
        ("PID", _) => Words::Pids,
        _ if name == "features" => Words::OneOf(check::names().collect()),
        _ => Words::Any,
    }
}

/// Help texts name what an argument may be behind a colon: `how it reads: splice, read`.
fn choices(help: &'static str) -> Option<Vec<&'static str>> {
    let (_, list) = help.rsplit_once(": ")?;
    let words: Vec<&str> = list.split(", ").collect();
    let plain = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    (words.len() > 1 && words.iter().all(plain)).then_some(words)
}

impl Flag {
    /// With dashes, the short form first, negations last.
    fn names(&self) -> Vec<String> {
        let short = self.short.map(|letter| format!("-{letter}"));
        let long = self.long.iter().map(|long| format!("--{long}"));
        let no = self.long.iter().filter(|_| self.negatable).map(|long| format!("--no-{long}"));
        short.into_iter().chain(long).chain(no).collect()
    }

    fn words(&self) -> Option<&Words> {
        match &self.value {
            Value::None => None,
            Value::Optional(words) | Value::Required(words) => Some(words),
        }
    }
}

/// First words of the commands, each once.
fn verbs() -> Vec<&'static str> {
    let mut verbs: Vec<&str> =
        COMMANDS.iter().filter_map(|command| command.name.split(' ').next()).collect();
    verbs.dedup();
    verbs
}

/// For bash.
pub fn bash() -> String {
    let mut text = String::from(
        "# Generated: run `make manual'.\n\n_criu()\n{\n\
         \tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n\
         \tif [[ $cur == = ]]; then cur=\n\
         \telif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n\
         \tcase $prev in\n",
    );
    for flag in flags() {
        let how = match flag.words() {
            None => continue,
            Some(Words::Any) => "return".to_owned(),
            Some(Words::Files) => reply("-f"),
            Some(Words::Directories) => reply("-d"),
            Some(Words::Pids) => reply("-W \"$(cd /proc && echo [0-9]*)\""),
            Some(Words::OneOf(words)) => reply(&format!("-W '{}'", words.join(" "))),
        };
        // What is optional stands only behind `=`, and behind no short form.
        let names: Vec<String> = match flag.value {
            Value::Optional(_) => flag.long.iter().map(|long| format!("--{long}")).collect(),
            _ => flag.names(),
        };
        let optional = matches!(flag.value, Value::Optional(_));
        let guard = if optional { "[[ ${COMP_WORDS[*]:COMP_CWORD-1} == *=* ]] && " } else { "" };
        let how = if optional { format!("{guard}{{ {how}; }}") } else { how };
        let _ = writeln!(text, "\t{}) {how} ;;", names.join("|"));
    }
    let _ = writeln!(text, "\tcpuinfo) {} ;;\n\tesac", reply("-W 'dump check'"));
    let all: Vec<String> = flags().iter().flat_map(Flag::names).collect();
    let _ = writeln!(text, "\tcase $cur in");
    let _ = writeln!(text, "\t-*) {} ;;", reply(&format!("-W '{}'", all.join(" "))));
    let _ = writeln!(text, "\t*) {} ;;", reply(&format!("-W '{}'", verbs().join(" "))));
    text.push_str("\tesac\n} &&\ncomplete -o default -F _criu criu\n");
    text
}

/// Fills the answer, and leaves the function.
fn reply(how: &str) -> String {
    format!("COMPREPLY=($(compgen {how} -- \"$cur\")); return")
}

/// For zsh.
pub fn zsh() -> String {
    let mut text =
        String::from("#compdef criu\n# Generated: run `make manual'.\n\n_arguments -S \\\n");
    for flag in flags() {
        let (sign, words) = match &flag.value {
            Value::None => ("", String::new()),
            Value::Optional(words) => ("=-", format!("::value:{}", zsh_words(words))),
            Value::Required(words) => ("=", format!(":value:{}", zsh_words(words))),
        };
        let help: String = flag.help.replace('\'', "").replace(['[', ']', ':'], " ");
        for name in flag.names() {
            // A short form takes what follows it in the same word or the next.
            let sign = match (name.starts_with("--"), &flag.value) {
                (true, _) => sign,
                (false, Value::None) => "",
                (false, Value::Optional(_)) => "-",
                (false, Value::Required(_)) => "+",
            };
            let _ = writeln!(text, "\t'*{name}{sign}[{help}]{words}' \\");
        }
    }
    let _ = writeln!(text, "\t'1:command:({})' \\\n\t'*:argument:_files'", verbs().join(" "));
    text
}

fn zsh_words(words: &Words) -> String {
    match words {
        Words::Any => " ".to_owned(),
        Words::Files => "_files".to_owned(),
        Words::Directories => "_files -/".to_owned(),
        Words::Pids => "_pids".to_owned(),
        Words::OneOf(words) => format!("({})", words.join(" ")),
    }
}

/// For fish.
pub fn fish() -> String {
    let mut text = String::from("# Generated: run `make manual'.\n\n");
    for verb in verbs() {
        let about = COMMANDS.iter().find(|command| command.name.split(' ').next() == Some(verb));
        let about = about.map_or("", |command| command.summary);
        let _ =
            writeln!(text, "complete -c criu -n __fish_use_subcommand -f -a {verb} -d '{about}'");
    }
    for flag in flags() {
        let help = flag.help.replace('\'', "");
        let value = match flag.words() {
            None => String::new(),
            Some(Words::Any) => " -x".to_owned(),
            Some(Words::Files) => " -r".to_owned(),
            Some(Words::Directories) => " -x -a '(__fish_complete_directories)'".to_owned(),
            Some(Words::Pids) => " -x -a '(__fish_complete_pids)'".to_owned(),
            Some(Words::OneOf(words)) => format!(" -x -a '{}'", words.join(" ")),
        };
        let value = if matches!(flag.value, Value::Optional(_)) { "" } else { &value };
        for (index, long) in flag.long.iter().enumerate() {
            let short = flag.short.filter(|_| index == 0).map(|letter| format!(" -s {letter}"));
            let short = short.unwrap_or_default();
            let _ = writeln!(text, "complete -c criu -l {long}{short}{value} -d '{help}'");
            if flag.negatable {
                let _ = writeln!(text, "complete -c criu -l no-{long} -d 'not: {help}'");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_known_by_their_help() {
        let flags = flags();
        let of = |long: &str| {
            let flag = flags.iter().find(|flag| flag.long.contains(&long)).unwrap();
            flag.words().cloned()
        };
        assert_eq!(of("pre-dump-mode"), Some(Words::OneOf(vec!["splice", "read"])));
        assert_eq!(of("images-dir"), Some(Words::Directories));
        assert_eq!(of("tree"), Some(Words::Pids));
        assert_eq!(of("leave-running"), None);
        let Some(Words::OneOf(modes)) = of("manage-cgroups") else { panic!() };
        assert!(modes.contains(&"strict"));
        let Some(Words::OneOf(features)) = of("feature") else { panic!() };
        assert!(features.contains(&"pagemap_scan"));
    }

    #[test]
    fn every_shell_knows_every_option() {
        for text in [bash(), zsh(), fish()] {
            for long in table::rows().flat_map(|row| row.long) {
                assert!(text.contains(long), "{long}");
            }
        }
    }
}
