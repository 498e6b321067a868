//! The manual pages, from the tables of commands and options and from the C header.

mod command;
mod library;
mod roff;

pub use command::page as criu_8;
pub use library::page as libcriu_3;
