//! The tests that run the `criu` binary on real processes: one program, so that the harness is
//! compiled and linked once. `cargo test --test main NAME` runs those whose name begins with, or
//! contains, NAME. See `tests/README.md`.

mod common;

mod command_line;
mod crash_safety;
mod exchange;
mod failure;
mod files;
mod fuzz_corpus;
mod header;
mod inherited;
mod logs;
mod manual;
mod namespaces;
mod options;
mod people;
mod programs;
mod readme;
mod refusals;
mod rpc;
mod rpc_terminals;
mod service;
mod set_user_id;
mod states;
mod terminals;
mod tree;
mod writes;
