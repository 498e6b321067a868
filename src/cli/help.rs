//! Help, from the option table.

use std::fmt::Write;

use super::commands::COMMANDS;
use crate::engine::check;
use crate::options::Verb;
use crate::options::getopt;
use crate::options::table::{self, Argument, Row};

const WIDTH: usize = 80;
const COLUMN: usize = 34;

const EXAMPLES: &str = "\
Examples:
  criu dump -t 1234 -D /tmp/images -j        # a job of this shell; it ends
  criu restore -D /tmp/images -j             # and goes on here
  criu dump -t 1234 -D /tmp/images -R -v4 -o dump.log
  criu restore -D /tmp/images -d --pidfile root.pid
  criu check --feature pagemap_scan
";

/// How the program is called.
pub fn usage() -> String {
    let mut text = String::from("\nUsage:\n");
    for command in COMMANDS.iter().filter(|command| command.is_carried_out()) {
        let _ = writeln!(text, "  criu {} {}", command.name, command.arguments);
    }
    text.push_str("\nCommands:\n");
    for command in &COMMANDS {
        let mark = if command.is_carried_out() { "" } else { " *" };
        let _ = writeln!(text, "  {:<14} {}{mark}", command.name, command.summary);
    }
    text
}

/// Every option.
pub fn full() -> String {
    let mut text = usage();
    text.push_str(
        "\nLong options without an argument may mostly be negated by --no-. Options and commands\n\
         marked * are known, and refused by name, where this version does not honour them. Options\n\
         marked + are accepted, and speak of objects that this version does not carry. criu(8)\n\
         says on which commands each option counts.\n",
    );
    for (title, rows) in table::SECTIONS {
        let _ = writeln!(text, "\n{title}:");
        rows.iter().filter(|row| !row.long.is_empty()).for_each(|row| describe_row(&mut text, row));
    }
    text.push_str("\nOther options:\n");
    for (long, short, argument, help) in getopt::own_rows() {
        describe(&mut text, &names(&[long], short, argument), help);
    }
    text.push_str("\nFeatures that --feature knows:\n");
    list(&mut text, check::names());
    let _ = write!(text, "\n{EXAMPLES}");
    text
}

fn describe_row(text: &mut String, row: &Row) {
    let known = |verb: &&Verb| row.verbs.contains(verb);
    let accepted = |verb: &Verb| row.is_accepted_on(*verb);
    let mark = match table::VERBS.iter().filter(known).count() {
        0 => " *",
        _ if !table::VERBS.iter().all(accepted) => " *",
        _ if row.permits.0.is_empty() || !row.honoured.is_empty() => "",
        _ => " +",
    };
    let default = match row.default {
        "" | "no" => String::new(),
        default => format!(" (default: {default})"),
    };
    let flags = names(row.long, row.short, row.argument);
    describe(text, &flags, &format!("{}{default}{mark}", row.help));
}

fn names(long: &[&str], short: Option<char>, argument: Argument) -> String {
    let short = short.map(|letter| format!("-{letter}|")).unwrap_or_default();
    let long: Vec<String> = long.iter().map(|name| format!("--{name}")).collect();
    format!("{short}{}{}", long.join("|"), value(argument))
}

/// An argument behind its option.
pub fn value(argument: Argument) -> String {
    match argument {
        Argument::None | Argument::Negatable => String::new(),
        Argument::Required(what) => format!(" {what}"),
        Argument::Optional(what) => format!("[={what}]"),
    }
}

fn describe(text: &mut String, flags: &str, help: &str) {
    let mut line = format!("  {flags:<width$}", width = COLUMN - 3);
    if flags.len() > COLUMN - 3 {
        let _ = writeln!(text, "{line}");
        line = " ".repeat(COLUMN - 1);
    }
    for word in help.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(COLUMN - 1);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

fn list(text: &mut String, items: impl Iterator<Item = &'static str>) {
    let mut line = String::from(" ");
    for item in items {
        if line.len() + 1 + item.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(item);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_described_and_lines_fit() {
        let text = full();
        for row in table::rows() {
            for long in row.long {
                assert!(text.contains(&format!("--{long}")), "{long}");
            }
        }
        for line in text.lines() {
            assert!(line.len() <= 100, "{line}");
        }
        assert!(text.contains("pagemap_scan"));
    }
}
