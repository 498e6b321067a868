//! The stages at which the caller is asked, by callback, notification or action script.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::kernel::pid::HostPid;

/// A moment of a dump or restore; the names are those of scripts and notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    PreStream,
    PreDump,
    PostDump,
    PreRestore,
    PostRestore,
    NetworkLock,
    NetworkUnlock,
    SetupNamespaces,
    PostSetupNamespaces,
    PreResume,
    PostResume,
    OrphanPtsMaster,
    StatusReady,
    QueryExtFiles,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Stage; 14] = [
        Stage::PreStream,
        Stage::PreDump,
        Stage::PostDump,
        Stage::PreRestore,
        Stage::PostRestore,
        Stage::NetworkLock,
        Stage::NetworkUnlock,
        Stage::SetupNamespaces,
        Stage::PostSetupNamespaces,
        Stage::PreResume,
        Stage::PostResume,
        Stage::OrphanPtsMaster,
        Stage::StatusReady,
        Stage::QueryExtFiles,
    ];

    /// The name that callers know it by.
    pub fn name(self) -> &'static str {
        match self {
            Stage::PreStream => "pre-stream",
            Stage::PreDump => "pre-dump",
            Stage::PostDump => "post-dump",
            Stage::PreRestore => "pre-restore",
            Stage::PostRestore => "post-restore",
            Stage::NetworkLock => "network-lock",
            Stage::NetworkUnlock => "network-unlock",
            Stage::SetupNamespaces => "setup-namespaces",
            Stage::PostSetupNamespaces => "post-setup-namespaces",
            Stage::PreResume => "pre-resume",
            Stage::PostResume => "post-resume",
            Stage::OrphanPtsMaster => "orphan-pts-master",
            Stage::StatusReady => "status-ready",
            Stage::QueryExtFiles => "query-ext-files",
        }
    }
}

/// What the engine asks its caller. An error stops the operation.
pub trait Hooks {
    /// A stage is reached. `pid` is the root of the tree, if that exists by then.
    fn notify(&mut self, stage: Stage, pid: Option<HostPid>) -> Result<()>;

    /// A stage is reached, and `fd` is for the caller; a caller who takes no descriptors drops it.
    fn notify_with_fd(
        &mut self,
        stage: Stage,
        pid: Option<HostPid>,
        _fd: BorrowedFd<'_>,
    ) -> Result<()> {
        self.notify(stage, pid)
    }

    /// Objects that the caller claims to be external, as the option `external` names them.
    fn query_external(&mut self) -> Result<Vec<OsString>> {
        Ok(Vec::new())
    }
}

/// Nobody is asked.
#[derive(Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn notify(&mut self, _: Stage, _: Option<HostPid>) -> Result<()> {
        Ok(())
    }
}
