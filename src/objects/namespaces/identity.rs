//! Which namespaces a task is in.
//!
//! Kernel facts: a namespace is known by the inode of /proc/PID/ns/NAME; `*_for_children` differ
//! from the task's own between unshare and the first fork (pid, time).

use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;

use super::{KINDS, NamespaceKind};
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::TaskKobjIdsEntry;
use crate::kernel::pid::HostPid;

/// Inodes of the namespaces and the ids they have in the images.
#[derive(Debug)]
pub struct Ids {
    engine: [u64; KINDS.len()],
    /// Namespaces that are not the engine's: kind, as a place in the table, and inode.
    foreign: Vec<(usize, u64)>,
}

impl Ids {
    /// The engine's own namespaces have the ids from 1 on.
    pub fn of_engine() -> Result<Self> {
        let mut engine = [0; KINDS.len()];
        let all = Directory::open(HostPid::own())?;
        for (place, kind) in engine.iter_mut().zip(KINDS) {
            *place = all.inode(kind.name)?;
        }
        Ok(Self { engine, foreign: Vec::new() })
    }

    /// Writes the engine's ids.
    pub fn fill_engine(&self, ids: &mut TaskKobjIdsEntry) {
        for (id, kind) in (1..).zip(KINDS) {
            *(kind.id)(ids) = Some(id);
        }
    }

    /// Writes the ids of `pid`; namespaces that cannot be carried are refused.
    pub fn identify(
        &mut self,
        pid: HostPid,
        ids: &mut TaskKobjIdsEntry,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let all = Directory::open(pid)?;
        for (index, kind) in KINDS.iter().enumerate() {
            let inode = all.inode(kind.name)?;
            *(kind.id)(ids) = Some(self.id(index, inode));
            if inode != self.engine[index] && kind.carried.is_none() {
                refuse_foreign(pid, kind.name, inode, refusals);
            }
            if kind.has_for_children {
                check_for_children(pid, &all, kind, inode, refusals)?;
            }
        }
        Ok(())
    }

    fn id(&mut self, index: usize, inode: u64) -> u32 {
        if inode == self.engine[index] {
            return index as u32 + 1;
        }
        let known = self.foreign.iter().position(|known| *known == (index, inode));
        let place = known.unwrap_or_else(|| {
            self.foreign.push((index, inode));
            self.foreign.len() - 1
        });
        (KINDS.len() + place) as u32 + 1
    }
}

fn refuse_foreign(pid: HostPid, name: &str, inode: u64, refusals: &mut Refusals) {
    refusals.refuse(
        format!("pid {pid}"),
        format!("{name} namespace {name}:[{inode}]"),
        "the task is in another namespace than criu",
        format!("run criu in it (nsenter --{name}=/proc/{pid}/ns/{name})"),
    );
}

fn check_for_children(
    pid: HostPid,
    all: &Directory,
    kind: &NamespaceKind,
    own: u64,
    refusals: &mut Refusals,
) -> Result<()> {
    if all.inode(&format!("{}_for_children", kind.name))? != own {
        refusals.refuse(
            format!("pid {pid}"),
            format!("{} namespace for its children", kind.name),
            "differs from its own (unshare without a fork since)",
            "",
        );
    }
    Ok(())
}

/// `/proc/PID/ns`.
struct Directory {
    path: String,
    fd: OwnedFd,
}

impl Directory {
    fn open(pid: HostPid) -> Result<Self> {
        let path = format!("/proc/{pid}/ns");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path.as_str(), flags, Mode::empty()).doing(|| format!("open {path}"))?;
        Ok(Self { path, fd })
    }

    /// The inode of a namespace: in the link's text, `NAME:[INODE]`, which is cheaper than a stat.
    fn inode(&self, name: &str) -> Result<u64> {
        let doing = || format!("read the link {}/{name}", self.path);
        let link = readlinkat(&self.fd, name).doing(doing)?;
        let number = link.to_str().and_then(|link| link.split_once(":[")?.1.strip_suffix(']'));
        number.and_then(|number| number.parse().ok()).ok_or_else(|| {
            let text = format!("{}: {} is not understood", doing(), link.display());
            Error::new(Kind::Internal, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_own_namespaces_are_numbered_as_criu_does() {
        let mut known = Ids::of_engine().unwrap();
        let (mut engine, mut own) = (TaskKobjIdsEntry::default(), TaskKobjIdsEntry::default());
        known.fill_engine(&mut engine);
        let mut refusals = Refusals::default();
        known.identify(HostPid::own(), &mut own, &mut refusals).unwrap();
        refusals.check().unwrap();
        assert_eq!(own, engine);
        assert_eq!((own.pid_ns_id, own.ipc_ns_id, own.cgroup_ns_id), (Some(1), Some(3), Some(8)));
    }

    #[test]
    fn a_namespace_that_is_seen_again_keeps_its_number() {
        let mut known = Ids::of_engine().unwrap();
        assert_eq!(
            [(2, 5), (3, 5), (2, 5), (3, 6)].map(|(kind, inode)| known.id(kind, inode)),
            [9, 10, 9, 11]
        );
    }
}
