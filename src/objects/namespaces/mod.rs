//! Namespaces of the tasks.
//!
//! Kernel facts: a namespace is known by the inode of /proc/PID/ns/NAME; `*_for_children` differ
//! from the task's own between unshare and the first fork (pid, time).

pub mod ipc;
pub mod time;
pub mod uts;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;

use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::{IpcVarEntry, TaskKobjIdsEntry, TimensEntry, UtsnsEntry};
use crate::images::snapshot::Snapshot;
use crate::kernel::namespace;
use crate::kernel::threads::{Helper, Later};
use crate::options::values::JoinNs;

/// Names under /proc/PID/ns, in the order in which CRIU numbers them.
const NAMES: [&str; 8] = ["pid", "net", "ipc", "uts", "time", "mnt", "user", "cgroup"];

/// Inodes of the namespaces and the ids they have in the images.
#[derive(Debug)]
pub struct Ids {
    engine: [u64; NAMES.len()],
    /// Inode and id of namespaces that are not the engine's.
    foreign: Vec<(usize, u64, u32)>,
}

impl Ids {
    /// The engine's own namespaces have the ids 1 to 8.
    pub fn of_engine() -> Result<Self> {
        let mut engine = [0; NAMES.len()];
        let all = Directory::open(std::process::id().cast_signed())?;
        for (place, name) in engine.iter_mut().zip(NAMES) {
            *place = all.inode(name)?;
        }
        Ok(Self { engine, foreign: Vec::new() })
    }

    /// Writes the engine's ids.
    pub fn fill_engine(&self, ids: &mut TaskKobjIdsEntry) {
        for index in 0..NAMES.len() {
            *field(ids, index) = Some(index as u32 + 1);
        }
    }

    /// Writes the ids of `pid`; namespaces that cannot be carried are refused.
    pub fn identify(
        &mut self,
        pid: i32,
        ids: &mut TaskKobjIdsEntry,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let all = Directory::open(pid)?;
        for (index, name) in NAMES.iter().enumerate() {
            let inode = all.inode(name)?;
            *field(ids, index) = Some(self.id(index, inode));
            if inode != self.engine[index] && !matches!(*name, "uts" | "ipc" | "time") {
                refusals.refuse(
                    format!("pid {pid}"),
                    format!("{name} namespace {name}:[{inode}]"),
                    "the task is in another namespace than criu",
                    format!("run criu in it (nsenter --{name}=/proc/{pid}/ns/{name})"),
                );
            }
            if matches!(*name, "pid" | "time") {
                check_for_children(pid, &all, name, inode, refusals)?;
            }
        }
        Ok(())
    }

    fn id(&mut self, index: usize, inode: u64) -> u32 {
        if inode == self.engine[index] {
            return index as u32 + 1;
        }
        let same = |(i, known, _): &&(usize, u64, u32)| *i == index && *known == inode;
        if let Some((_, _, id)) = self.foreign.iter().find(same) {
            return *id;
        }
        let id = (NAMES.len() + self.foreign.len()) as u32 + 1;
        self.foreign.push((index, inode, id));
        id
    }
}

fn check_for_children(
    pid: i32,
    all: &Directory,
    name: &str,
    own: u64,
    refusals: &mut Refusals,
) -> Result<()> {
    if all.inode(&format!("{name}_for_children"))? != own {
        refusals.refuse(
            format!("pid {pid}"),
            format!("{name} namespace for its children"),
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
    fn open(pid: i32) -> Result<Self> {
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
            Error::new(Kind::Internal, format!("{}: {} is not understood", doing(), link.display()))
        })
    }
}

/// The inode of a namespace of a task.
pub fn inode(pid: i32, name: &str) -> Result<u64> {
    Directory::open(pid)?.inode(name)
}

fn field(ids: &mut TaskKobjIdsEntry, index: usize) -> &mut Option<u32> {
    match NAMES[index] {
        "pid" => &mut ids.pid_ns_id,
        "net" => &mut ids.net_ns_id,
        "ipc" => &mut ids.ipc_ns_id,
        "uts" => &mut ids.uts_ns_id,
        "time" => &mut ids.time_ns_id,
        "mnt" => &mut ids.mnt_ns_id,
        "user" => &mut ids.user_ns_id,
        _ => &mut ids.cgroup_ns_id,
    }
}

/// Captures the namespaces of the tree's root that are not the engine's; every other task has to be
/// in the same ones.
pub fn capture(snapshot: &mut Snapshot, refusals: &mut Refusals) -> Result<()> {
    let root = snapshot.root().pid;
    let engine = snapshot.inventory.root_ids.unwrap_or_default();
    let ids = snapshot.tasks[&root].ids.unwrap_or_default();
    let pid = root.cast_signed();
    let time_id = if ids.time_ns_id == engine.time_ns_id { 0 } else { ids.time_ns_id() };
    snapshot.timens.insert(time_id, time::capture(pid)?);
    if ids.uts_ns_id != engine.uts_ns_id {
        snapshot.utsns.insert(ids.uts_ns_id(), uts::capture(pid)?);
    }
    if ids.ipc_ns_id != engine.ipc_ns_id {
        snapshot.ipc_vars.insert(ids.ipc_ns_id(), ipc::capture(pid, refusals)?);
    }
    for (pid, name) in nested(snapshot) {
        refusals.refuse(
            format!("pid {pid}"),
            format!("{name} namespace"),
            "differs from that of the root of the tree",
            "",
        );
    }
    Ok(())
}

/// Tasks in another uts, ipc or time namespace than the root.
fn nested(snapshot: &Snapshot) -> Vec<(u32, &'static str)> {
    let root = snapshot.tasks[&snapshot.root().pid].ids.unwrap_or_default();
    let tasks = snapshot.tasks.iter().filter_map(|(pid, task)| Some((*pid, task.ids?)));
    tasks
        .flat_map(|(pid, ids)| {
            let same = [
                ("uts", ids.uts_ns_id == root.uts_ns_id),
                ("ipc", ids.ipc_ns_id == root.ipc_ns_id),
                ("time", ids.time_ns_id == root.time_ns_id),
            ];
            same.into_iter().filter(|(_, same)| !same).map(move |(name, _)| (pid, name))
        })
        .collect()
}

/// The namespaces that the restored root enters: those named by `join_ns`, and new ones for those
/// that the tree had of its own.
#[derive(Debug)]
pub struct Wanted {
    join: Vec<JoinNs>,
    uts: Option<UtsnsEntry>,
    ipc: Option<IpcVarEntry>,
    clocks: Option<TimensEntry>,
}

impl Wanted {
    /// What the images say of them.
    pub fn of(snapshot: &Snapshot, join: &[JoinNs]) -> Result<Self> {
        let engine = snapshot.inventory.root_ids.unwrap_or_default();
        let ids = snapshot.tasks[&snapshot.root().pid].ids.unwrap_or_default();
        let joined = |kind: &str| join.iter().any(|join| join.kind == kind);
        let (mut uts, mut ipc) = (None, None);
        if ids.uts_ns_id != engine.uts_ns_id && !joined("uts") {
            uts = Some(image(&snapshot.utsns, ids.uts_ns_id(), "utsns")?.clone());
        }
        if ids.ipc_ns_id != engine.ipc_ns_id && !joined("ipc") {
            ipc = Some(image(&snapshot.ipc_vars, ids.ipc_ns_id(), "ipcns-var")?.clone());
        }
        let clocks = clocks(snapshot, join).filter(|_| time::can_be_made()).copied();
        Ok(Self { join: join.to_vec(), uts, ipc, clocks })
    }

    /// Opens or makes them, as soon as `helper` gets to it if no process is needed for it: that
    /// might have a number of the tree's.
    pub fn get(self, helper: &Helper<'_, '_>) -> Later<Vec<OwnedFd>> {
        if self.uts.is_some() || self.ipc.is_some() || !helper.has_thread() {
            return Later::Now(self.make(time::rebuild));
        }
        helper.give(|| self.make(time::rebuild_here))
    }

    fn make(self, time: impl FnMut(&TimensEntry) -> Result<OwnedFd>) -> Result<Vec<OwnedFd>> {
        let joined = self.join.iter().map(open_joined);
        let uts = self.uts.iter().map(uts::rebuild);
        let ipc = self.ipc.iter().map(ipc::rebuild);
        let time = self.clocks.iter().map(time);
        joined.chain(uts).chain(ipc).chain(time).collect()
    }
}

/// What the clocks of the tree showed, unless it is to join others.
fn clocks<'a>(snapshot: &'a Snapshot, join: &[JoinNs]) -> Option<&'a TimensEntry> {
    let engine = snapshot.inventory.root_ids.unwrap_or_default();
    let ids = snapshot.tasks[&snapshot.root().pid].ids.unwrap_or_default();
    let own = ids.time_ns_id.filter(|_| ids.time_ns_id != engine.time_ns_id).unwrap_or(0);
    snapshot.timens.get(&own).filter(|_| join.iter().all(|join| join.kind != "time"))
}

/// How far the tree's monotonic clocks will jump ahead; none if they go on from the dump. That they
/// would go back is an error.
pub fn clock_jump(snapshot: &Snapshot, join: &[JoinNs]) -> Result<Option<Duration>> {
    let clocks = clocks(snapshot, join).filter(|_| !time::can_be_made());
    clocks.map(time::jump).transpose()
}

/// Namespaces that no image of ours can describe, refused before anything is started.
pub fn validate(snapshot: &Snapshot, join: &[JoinNs], refusals: &mut Refusals) {
    let engine = snapshot.inventory.root_ids.unwrap_or_default();
    for (pid, task) in &snapshot.tasks {
        let Some(ids) = &task.ids else { continue };
        let own = [
            ("pid", ids.pid_ns_id, engine.pid_ns_id),
            ("net", ids.net_ns_id, engine.net_ns_id),
            ("mnt", ids.mnt_ns_id, engine.mnt_ns_id),
            ("user", ids.user_ns_id, engine.user_ns_id),
            ("cgroup", ids.cgroup_ns_id, engine.cgroup_ns_id),
        ];
        for (name, _, _) in own.into_iter().filter(|(_, own, engine)| own != engine) {
            let reason = "a namespace of the tree's own of this kind is not restored";
            refusals.refuse(format!("pid {pid}"), format!("{name} namespace"), reason, "");
        }
    }
    for (pid, name) in nested(snapshot) {
        let reason = "differs from that of the root of the tree";
        refusals.refuse(format!("pid {pid}"), format!("{name} namespace"), reason, "");
    }
    for join in join.iter().filter(|join| !matches!(join.kind.as_str(), "uts" | "ipc" | "time")) {
        refusals.refuse(
            "option --join-ns",
            format!("{}:{}", join.kind, join.file),
            "only uts, ipc and time namespaces can be joined",
            "",
        );
    }
}

fn image<'a, T>(all: &'a BTreeMap<u32, T>, id: u32, name: &str) -> Result<&'a T> {
    all.get(&id).ok_or_else(|| {
        Error::image(format!("{name}-{id}.img"), "is missing: the dump is not whole")
    })
}

fn open_joined(join: &JoinNs) -> Result<OwnedFd> {
    let path = match join.file.parse::<u32>() {
        Ok(pid) => format!("/proc/{pid}/ns/{}", join.kind),
        Err(_) => join.file.clone(),
    };
    namespace::open(&path).map_err(|error| {
        error.context(format!("join_ns {}", join.kind)).remedy("give the path of a namespace file")
    })
}
