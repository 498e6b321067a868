//! Printing. Where nobody listens (a pager that was left, a terminal that is gone), nobody needs to
//! be told: it is no failure of the command, and no reason to panic as `println!` does.

use std::fmt::Arguments;
use std::io::Write;

/// A line for standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::print::line(std::io::stdout().lock(), format_args!($($text)*)) };
}

/// A line for standard error.
macro_rules! complain {
    ($($text:tt)*) => { $crate::cli::print::line(std::io::stderr().lock(), format_args!($($text)*)) };
}

/// Writes a line, if that can be done.
pub fn line(mut to: impl Write, text: Arguments<'_>) {
    let _ = writeln!(to, "{text}").and_then(|()| to.flush());
}
