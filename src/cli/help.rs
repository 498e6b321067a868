//! Help, from the option table.

use std::fmt::Write;

use crate::engine::check;
use crate::options::getopt;
use crate::options::table::{self, Argument, Row};

const WIDTH: usize = 80;
const COLUMN: usize = 34;

const USAGE: &str = "\
Usage:
  criu dump -t PID [<options>]
  criu restore [<options>]
  criu check [--feature NAME | --feature list]
  criu show [DIR]
  criu swrk FD

Commands:
  dump           checkpoint a process tree identified by pid
  restore        restore a process tree
  check          check whether the kernel has what is needed
  show           show a dump as a tree of processes; -v3 with each mapping
  swrk           serve RPC requests on a descriptor
";

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
    format!("\n{USAGE}")
}

/// Every option.
pub fn full() -> String {
    let mut text = usage();
    text.push_str(
        "\nLong options without an argument may mostly be negated by --no-. Options marked * are\n\
         known, and refused by name, where this version does not honour them.\n",
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
    let honoured = table::VERBS.iter().all(|verb| row.is_honoured_on(*verb))
        && table::VERBS.iter().any(|verb| row.verbs.contains(verb));
    let mark = if honoured { "" } else { " *" };
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
    let argument = match argument {
        Argument::None | Argument::Negatable => String::new(),
        Argument::Required(what) => format!(" {what}"),
        Argument::Optional(what) => format!("[={what}]"),
    };
    format!("{short}{}{argument}", long.join("|"))
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
