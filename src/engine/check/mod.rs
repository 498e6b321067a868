//! Probes of the kernel's features.
