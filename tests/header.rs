//! The committed C header is the one that the sources give, and all places name one version.

use std::path::PathBuf;

const GENERATED: &str = include_str!(concat!(env!("OUT_DIR"), "/criu.h"));

fn include(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("include/criu").join(name)
}

/// With `CRIU_WRITE_HEADER` set (`make header`), the header is written instead of compared.
#[test]
fn header_is_current() {
    let header = include("criu.h");
    if std::env::var_os("CRIU_WRITE_HEADER").is_some() {
        std::fs::write(&header, GENERATED).expect("include/criu is writable");
    }
    let committed = std::fs::read_to_string(&header).unwrap_or_default();
    assert!(committed == GENERATED, "include/criu/criu.h is out of date; run `make header`");
}

#[test]
fn versions_agree() {
    let header = std::fs::read_to_string(include("version.h")).expect("include/criu/version.h");
    let own = concat!("#define LIBCRIU_OWN_VERSION \"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(header.contains(own), "version.h and Cargo.toml differ: {own} is missing");
}
