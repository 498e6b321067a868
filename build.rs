//! Generates the image messages from `proto/` and gives the shared library its soname.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcriu.so.2");
    compile_messages();
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
