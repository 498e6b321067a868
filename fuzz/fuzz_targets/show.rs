#![no_main]

use criu_fuzz::harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::show(bytes));
