//! The `criu` command.

use std::process::exit;

fn main() {
    let arguments: Result<Vec<String>, _> =
        std::env::args_os().map(std::ffi::OsString::into_string).collect();
    match arguments {
        Ok(arguments) => exit(criu::cli::main(&arguments)),
        Err(word) => {
            eprintln!("criu: {} is not UTF-8", word.display());
            exit(1);
        }
    }
}
