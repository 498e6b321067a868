//! Generates the image messages from `proto/` and the C header from `src/capi/`, and gives the shared
//! library its soname and its entry point.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcriu.so.2");
    // The dynamic linker can run the library: see src/capi/entry.rs.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-e,criu_worker_start");
    compile_messages();
    generate_header();
}

/// protox is a protobuf compiler in Rust: no `protoc` has to be installed.
fn compile_messages() {
    let mut sources: Vec<PathBuf> = std::fs::read_dir("proto")
        .expect("proto/ is part of the source tree")
        .map(|entry| entry.expect("proto/ is readable").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "proto"))
        .collect();
    sources.sort();
    let descriptors = protox::compile(&sources, ["proto"]).expect("proto/ compiles");
    prost_build::Config::new().compile_fds(descriptors).expect("prost generates the messages");
}

/// The modules with exported functions, in the order of the header.
const C_API: [&str; 11] = [
    "types",
    "settings",
    "set_service",
    "set_flags",
    "set_numbers",
    "set_strings",
    "set_lists",
    "notes",
    "verbs",
    "snapshot",
    "queries",
];

/// Into `OUT_DIR`; `tests/header.rs` compares it with the committed one.
fn generate_header() {
    let config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml is valid");
    let source = |module| format!("src/capi/{module}.rs");
    let builder = C_API
        .into_iter()
        .map(source)
        .fold(cbindgen::Builder::new().with_config(config), |builder, file| builder.with_src(file));
    let mut header = Vec::new();
    builder.generate().expect("src/capi has a C header").write(&mut header);
    let header = String::from_utf8(header).expect("the header is text");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&out).join("criu.h"), for_c(&header)).expect("OUT_DIR is writable");
}

/// "# Safety" sections speak to Rust callers; a C header says the same in its first comment.
/// Comments and enums are those of C90.
fn for_c(header: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut in_note = false;
    for line in header.lines() {
        match line.trim() {
            "* # Safety" => {
                in_note = true;
                // The empty line before the section.
                kept.pop_if(|line| line.trim() == "*");
            }
            "*/" => in_note = false,
            _ => {}
        }
        if !in_note {
            kept.push(line);
        }
    }
    let text = kept.join("\n") + "\n";
    text.replace("// __cplusplus", "/* __cplusplus */").replace(",\n}", "\n}")
}
