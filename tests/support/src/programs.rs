//! Compiles the C programs of `tests/programs`, each once for each content.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const FLAGS: &[&str] = &["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("programs")
}

/// The compiled form of `tests/programs/NAME.c`.
pub fn compile(name: &str) -> PathBuf {
    compile_with(name, &[])
}

/// The same with more flags for the compiler. What is there already is compiled again if a source, a
/// header or the flags differ.
pub fn compile_with(name: &str, flags: &[&str]) -> PathBuf {
    type Programs = BTreeMap<(String, Vec<String>), Arc<OnceLock<PathBuf>>>;
    static PROGRAMS: Mutex<Programs> = Mutex::new(Programs::new());
    let key = (name.to_owned(), flags.iter().map(|&flag| flag.to_owned()).collect());
    let slot = {
        // A test that failed while it compiled has left nothing half-done.
        let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        programs.entry(key).or_default().clone()
    };
    // Several tests may want one program at the same time, and different ones are compiled in parallel.
    slot.get_or_init(|| compiled(name, flags)).clone()
}

fn compiled(name: &str, flags: &[&str]) -> PathBuf {
    let source = sources().join(format!("{name}.c"));
    let kept = Path::new(env!("OUT_DIR")).join("programs");
    let program = kept.join(format!("{}-{:016x}", name.replace('/', "-"), content(&source, flags)));
    if program.exists() {
        return program;
    }
    fs::create_dir_all(&kept).expect("make a directory for programs");
    // Another process may compile it at the same time.
    let fresh = program.with_extension(std::process::id().to_string());
    let mut compiler = Command::new("cc");
    compiler.args(FLAGS).args(flags).arg("-I").arg(sources()).arg("-o").arg(&fresh).arg(&source);
    let output = compiler.output().expect("the tests need a C compiler called cc");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile:\n{complaints}", source.display());
    fs::rename(&fresh, &program).expect("move the compiled program in place");
    program
}

/// A number for what a program is compiled from: its text, the headers and the flags.
fn content(source: &Path, flags: &[&str]) -> u64 {
    let text = fs::read(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let mut hasher = DefaultHasher::new();
    (text, flags, headers()).hash(&mut hasher);
    hasher.finish()
}

/// All headers: a change in one, which is rare, compiles everything again.
fn headers() -> u64 {
    static HEADERS: OnceLock<u64> = OnceLock::new();
    *HEADERS.get_or_init(|| {
        let mut paths = Vec::new();
        headers_below(&sources(), &mut paths);
        paths.sort();
        let mut hasher = DefaultHasher::new();
        for path in paths {
            fs::read(&path).expect("read a header").hash(&mut hasher);
        }
        (FLAGS, version_of_compiler()).hash(&mut hasher);
        hasher.finish()
    })
}

fn headers_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("list the programs") {
        let path = entry.expect("list the programs").path();
        if path.is_dir() {
            headers_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "h") {
            found.push(path);
        }
    }
}

fn version_of_compiler() -> Vec<u8> {
    let output = Command::new("cc").arg("--version").output();
    output.expect("the tests need a C compiler called cc").stdout
}
