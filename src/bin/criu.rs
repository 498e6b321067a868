//! The `criu` command.

fn main() {
    std::process::exit(criu::cli::main(std::env::args_os()));
}
