//! What the fuzz targets share: the harness, and a limit on memory.

pub mod harness;

use std::alloc::System;

/// No input is longer than a few KiB. Whoever allocates this much believed a number that it read.
const LIMIT: usize = 512 << 20;

#[global_allocator]
static ALLOCATOR: cap::Cap<System> = cap::Cap::new(System, LIMIT);
