//! What the restoring kernel and program have to give.

use super::credentials::{entry, set};
use super::rlimits;
use super::status::Status;
use crate::error::{Context, Result};
use crate::images::proto::{CredsEntry, TaskRlimitsEntry};
use crate::kernel::capability::{self, only};
use crate::kernel::process;

/// SECBIT_KEEP_CAPS, which an exec takes off.
const KEEP_CAPS: u32 = 1 << 4;

/// What the engine can give to a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// The highest capability that the kernel knows.
    pub(super) last_cap: u32,
    /// Credentials of the engine: every new process begins with them.
    pub(super) ours: CredsEntry,
    /// Permitted capabilities of the engine that it may not give to anybody.
    pub(super) lent: u64,
    /// Limits of the engine.
    pub(super) limits: TaskRlimitsEntry,
}

impl Reach {
    /// What this process has.
    pub fn ours() -> Result<Self> {
        let secbits = capability::securebits().doing(|| "get the securebits")? & !KEEP_CAPS;
        let ours = entry(&Status::parse(&text("/proc/self/status")?)?, secbits);
        let last_cap = text("/proc/sys/kernel/cap_last_cap")?.trim().parse().unwrap_or(63);
        let lent = process::lent_capabilities().doing(|| "capget")?;
        Ok(Self { last_cap, ours, lent, limits: rlimits::parse(&text("/proc/self/limits")?)? })
    }

    /// Whether the engine has capabilities that must not get into other hands.
    pub fn is_lent(&self) -> bool {
        self.lent != 0
    }

    /// Whether the engine has a capability that is its user's own.
    pub fn has(&self, cap: u32) -> bool {
        self.own() & only(cap) != 0
    }

    /// The engine's limits, which no process can have more than; none if it may give any.
    pub fn limits(&self) -> Option<&TaskRlimitsEntry> {
        (!self.has(capability::SYS_RESOURCE)).then_some(&self.limits)
    }

    /// Capabilities that the engine can give.
    pub(super) fn own(&self) -> u64 {
        set(&self.ours.cap_prm) & !self.lent
    }

    /// All capabilities that this kernel has.
    pub(super) fn known(&self) -> u64 {
        u64::MAX >> (63 - self.last_cap.min(63))
    }
}

fn text(path: &str) -> Result<String> {
    std::fs::read_to_string(path).doing(|| format!("read {path}"))
}
