//! Finds the programs of `tests/programs`, reads their headers, and writes the tests that follow from
//! them, as a macro. A crate of its own, so that a new program does not compile the library again.

#[path = "src/generate.rs"]
mod generate;
#[path = "src/header.rs"]
mod header;

use std::path::{Path, PathBuf};

fn main() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs");
    println!("cargo:rerun-if-changed={}", programs.display());
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let text = match generate::tests(&families(&programs)) {
        Ok(text) => text,
        Err(complaints) => {
            // Cargo shows a failed build script's standard error.
            complaints.iter().for_each(|complaint| eprintln!("tests/programs/{complaint}"));
            std::process::exit(1);
        }
    };
    std::fs::write(PathBuf::from(out).join("states.rs"), text).expect("OUT_DIR is writable");
}

/// The sources of every family, sorted. `helpers` holds the programs that are no states.
fn families(programs: &Path) -> Vec<generate::Family> {
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).expect("tests/programs is readable");
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a program is UTF-8");
        (stem(&path), text)
    };
    let is_source = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let family = |dir: PathBuf| generate::Family {
        name: stem(&dir),
        sources: names(&dir).into_iter().filter(is_source).map(source).collect(),
    };
    let dirs = names(programs).into_iter().filter(|path| path.is_dir());
    dirs.filter(|dir| !dir.ends_with("helpers")).map(family).collect()
}
