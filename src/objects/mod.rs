//! Kinds of kernel objects, one file each: its messages, capture, validation, rebuild, refusals and
//! round-trip test side by side.

pub mod cgroup;
pub mod cpu;
pub mod files;
pub mod memory;
pub mod namespaces;
pub mod phases;
pub mod pids;
pub mod place;
pub mod task;
pub mod validate;
