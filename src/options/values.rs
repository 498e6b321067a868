//! Types of option values.

use std::ffi::OsString;

use crate::images::proto;

/// What is done with control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Tasks stay in, or are restored into, the caller's groups.
    Ignore,
    /// Groups are expected to exist and are not changed.
    None,
    /// Groups are expected to exist; their properties are set.
    Props,
    /// Missing groups are made, with properties; existing ones stay as they are.
    Soft,
    /// Groups are made where missing; all properties are set.
    Full,
    /// No group may exist.
    Strict,
    /// Nothing was asked for: as `Ignore`.
    #[default]
    Default,
}

impl CgroupMode {
    /// The RPC's value.
    pub fn from_rpc(value: i32) -> Option<Self> {
        Some(match proto::CriuCgMode::try_from(value).ok()? {
            proto::CriuCgMode::Ignore => Self::Ignore,
            proto::CriuCgMode::CgNone => Self::None,
            proto::CriuCgMode::Props => Self::Props,
            proto::CriuCgMode::Soft => Self::Soft,
            proto::CriuCgMode::Full => Self::Full,
            proto::CriuCgMode::Strict => Self::Strict,
            proto::CriuCgMode::Default => Self::Default,
        })
    }

    /// The value for the RPC.
    pub fn to_rpc(self) -> i32 {
        let value = match self {
            Self::Ignore => proto::CriuCgMode::Ignore,
            Self::None => proto::CriuCgMode::CgNone,
            Self::Props => proto::CriuCgMode::Props,
            Self::Soft => proto::CriuCgMode::Soft,
            Self::Full => proto::CriuCgMode::Full,
            Self::Strict => proto::CriuCgMode::Strict,
            Self::Default => proto::CriuCgMode::Default,
        };
        value as i32
    }

    /// The argument of `--manage-cgroups`.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "none" => Self::None,
            "props" => Self::Props,
            "soft" => Self::Soft,
            "full" => Self::Full,
            "strict" => Self::Strict,
            "ignore" => Self::Ignore,
            _ => return None,
        })
    }
}

/// How the network of the dumpee is silenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkLock {
    #[default]
    Iptables,
    Nftables,
    Skip,
}

impl NetworkLock {
    /// The RPC's value.
    pub fn from_rpc(value: i32) -> Option<Self> {
        Some(match proto::CriuNetworkLockMethod::try_from(value).ok()? {
            proto::CriuNetworkLockMethod::Iptables => Self::Iptables,
            proto::CriuNetworkLockMethod::Nftables => Self::Nftables,
            proto::CriuNetworkLockMethod::Skip => Self::Skip,
        })
    }

    /// The value for the RPC.
    pub fn to_rpc(self) -> i32 {
        let value = match self {
            Self::Iptables => proto::CriuNetworkLockMethod::Iptables,
            Self::Nftables => proto::CriuNetworkLockMethod::Nftables,
            Self::Skip => proto::CriuNetworkLockMethod::Skip,
        };
        value as i32
    }

    /// The argument of `--network-lock`.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "iptables" => Self::Iptables,
            "nftables" => Self::Nftables,
            "skip" | "none" => Self::Skip,
            _ => return None,
        })
    }
}

/// How a pre-dump reads memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreDumpMode {
    #[default]
    Splice,
    Read,
}

impl PreDumpMode {
    /// The RPC's value.
    pub fn from_rpc(value: i32) -> Option<Self> {
        Some(match proto::CriuPreDumpMode::try_from(value).ok()? {
            proto::CriuPreDumpMode::Splice => Self::Splice,
            proto::CriuPreDumpMode::VmRead => Self::Read,
        })
    }

    /// The value for the RPC.
    pub fn to_rpc(self) -> i32 {
        let value = match self {
            Self::Splice => proto::CriuPreDumpMode::Splice,
            Self::Read => proto::CriuPreDumpMode::VmRead,
        };
        value as i32
    }

    /// The argument of `--pre-dump-mode`.
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "splice" => Some(Self::Splice),
            "read" => Some(Self::Read),
            _ => None,
        }
    }
}

/// How a file met again at restore is compared with the one dumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileValidation {
    Filesize,
    #[default]
    Buildid,
}

impl FileValidation {
    /// The argument of `--file-validation`.
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "filesize" => Some(Self::Filesize),
            "buildid" => Some(Self::Buildid),
            _ => None,
        }
    }
}

/// A namespace to restore into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinNs {
    /// `uts`, `ipc`, `time`, `net`, `mnt`, `pid`, `user`, `cgroup`.
    pub kind: String,
    /// A pid, or the path of a namespace file.
    pub file: OsString,
    /// `UID,GID` for a user namespace.
    pub extra: Option<OsString>,
}

/// A descriptor of the worker that stands for an object of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritFd {
    /// `pipe:[123]`, `socket:[5]`, `/path`, ...: the object.
    pub key: OsString,
    pub fd: i32,
}

/// A pair of keys: external mounts, veth pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub first: OsString,
    pub second: OsString,
}

/// The root of the restored tasks in one control group hierarchy, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupRoot {
    pub controller: Option<OsString>,
    pub path: OsString,
}

/// A page server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageServer {
    pub address: Option<OsString>,
    pub port: Option<i32>,
    pub pid: Option<i32>,
    pub fd: Option<i32>,
}
