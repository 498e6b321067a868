//! What a machine cannot run is left out, and seen to be left out.

use std::fs::File;
use std::io::Write;

/// Why a test cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It is a matter of the processor, of the kernel or of rights.
    OfMachine(String),
    /// Somebody could install or set it.
    OfSetUp(String),
}

/// What a test needs, if it is there. Otherwise the test has to return: that it is left out, and why,
/// goes to the file that `CRIU_TESTS_LEFT_OUT` names, which `make test` shows at its end. Where `CI` is
/// set a machine is expected to have what it can have.
#[track_caller]
pub fn needs<T>(wanted: Result<T, Lack>) -> Option<T> {
    let lack = match wanted {
        Ok(there) => return Some(there),
        Err(lack) => lack,
    };
    let (Lack::OfMachine(why) | Lack::OfSetUp(why)) = &lack;
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!ci || matches!(lack, Lack::OfMachine(_)), "left out in spite of CI: {why}");
    note(why);
    None
}

fn note(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    eprintln!("{test} is left out: {why}");
    let Some(path) = std::env::var_os("CRIU_TESTS_LEFT_OUT") else { return };
    let file = File::options().create(true).append(true).open(&path);
    // One call, so that lines of several tests do not mix.
    let written = file.and_then(|mut file| file.write_all(format!("{why}\t{test}\n").as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
