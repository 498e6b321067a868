//! Probes of the kernel's features.

/// Whether the kernel has the feature `name`.
pub fn has(name: &str) -> bool {
    let _ = name;
    false
}
