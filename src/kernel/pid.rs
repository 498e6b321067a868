//! Numbers of processes and threads as this process sees them.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A process or thread, by its number in the pid namespace of the engine.
///
/// The numbers that images hold have a type of their own: they count in the namespace of the dumped
/// tree, and are only the same where the engine is in that one, too.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct HostPid(i32);

impl HostPid {
    /// Init of the engine's pid namespace, which inherits orphans.
    pub const INIT: Self = Self(1);

    /// Nobody: what the kernel says of a parent, an owner or a group that is not there, and in some
    /// system calls the caller itself.
    pub const NONE: Self = Self(0);

    /// The process or thread with this number.
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// This process.
    pub fn own() -> Self {
        Self(std::process::id().cast_signed())
    }

    /// The bare number, for a system call.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The same for the library that wraps system calls.
    pub fn nix(self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0)
    }
}

impl fmt::Display for HostPid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for HostPid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for HostPid {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
