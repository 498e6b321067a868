//! Probes of ptrace, on a child that does nothing.

use nix::errno::Errno;

use super::missing;
use crate::error::{Context, Result};
use crate::kernel::probe::{self, Bystander};
use crate::kernel::ptrace::{self, Queue};

fn bystander(options: i32) -> Result<Bystander> {
    Bystander::traced(options).doing(|| "seize a child of our own")
}

pub(super) fn peeksiginfo() -> Result<()> {
    let child = bystander(0)?;
    ptrace::peek_siginfo(child.pid(), Queue::Private).doing(|| "PTRACE_PEEKSIGINFO").map(drop)
}

pub(super) fn get_rseq_conf() -> Result<()> {
    let child = bystander(0)?;
    ptrace::rseq_configuration(child.pid()).doing(|| "PTRACE_GET_RSEQ_CONFIGURATION").map(drop)
}

pub(super) fn seccomp_suspend() -> Result<()> {
    Bystander::traced(ptrace::O_SUSPEND_SECCOMP)
        .doing(|| "PTRACE_SEIZE with PTRACE_O_SUSPEND_SECCOMP")
        .map(drop)
}

/// A task without a filter has none to read, for which the request fails with EINVAL or ENOENT. An
/// unknown request fails with another error.
pub(super) fn seccomp_filters() -> Result<()> {
    match probe::seccomp_filter(&bystander(0)?) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno).doing(|| "PTRACE_SECCOMP_GET_FILTER"),
    }
}

pub(super) fn breakpoints() -> Result<()> {
    let child = bystander(0)?;
    let registers = ptrace::getregs(child.pid()).doing(|| "PTRACE_GETREGS")?;
    match probe::set_breakpoint(&child, registers.rip) {
        Ok(()) => Ok(()),
        Err(errno) => missing(format!("a hardware breakpoint cannot be set: {}", errno.desc())),
    }
}
