//! Compiles the C programs under `tests/programs`, each once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// The compiled form of `tests/programs/NAME.c`, made anew if the source is younger.
pub fn compile(name: &str) -> PathBuf {
    let source = sources().join(format!("{name}.c"));
    let header = sources().join("scene.h");
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program-{name}"));
    let newest = modified(&source).max(modified(&header));
    if modified(&built).is_some() && modified(&built) > newest {
        return built;
    }
    // Test binaries and their threads compile at the same time: each into a file of its own.
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let fresh = built.with_extension(format!("{}-{thread}", std::process::id()));
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-pthread", "-o"])
        .arg(&fresh)
        .arg(&source)
        .output()
        .expect("the tests need a C compiler called cc");
    assert!(
        output.status.success(),
        "{} does not compile:\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::rename(&fresh, &built).expect("move the compiled program in place");
    built
}

/// Where a program that may be absent is; says so if it is.
pub fn installed(program: &str) -> Option<PathBuf> {
    // Not a version manager's wrapper script, which would be what is dumped.
    for dir in ["/usr/bin", "/bin", "/usr/local/bin"] {
        let path = Path::new(dir).join(program);
        if path.exists() {
            return Some(path);
        }
    }
    eprintln!("skipped: {program} is not installed");
    None
}
