//! Versions: the one of CRIU whose interfaces this project has, and its own.

/// Major and minor number of the CRIU whose C library, RPC, command line and images these are.
pub const COMPATIBLE: (i32, i32) = (4, 2);

/// The compatible version as text.
pub fn compatible() -> String {
    format!("{}.{}", COMPATIBLE.0, COMPATIBLE.1)
}

/// The compatible version as `criu_get_version()` gives it.
pub const COMPATIBLE_NUMBER: i32 = COMPATIBLE.0 * 10_000 + COMPATIBLE.1 * 100;

/// The project's own version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");
