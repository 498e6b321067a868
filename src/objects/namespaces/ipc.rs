//! The IPC namespace: its limits. Objects in it (System V memory, semaphores, message queues) are
//! refused.
//!
//! Kernel facts: /proc/sys/kernel/* and fs/mqueue/* of a thread are those of its IPC namespace, and
//! so is /proc/sysvipc. The `*_next_id` files show -1 unless somebody wrote them, and -1 cannot be
//! written. Image: ipcns-var-ID.img.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;

use super::{Carried, NamespaceKind, Recipe, Space, stored};
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::IpcVarEntry;
use crate::images::snapshot::Snapshot;
use crate::kernel::namespace;
use crate::objects::pids;

pub const KIND: NamespaceKind = NamespaceKind {
    name: "ipc",
    flag: CloneFlags::CLONE_NEWIPC,
    has_for_children: false,
    nests: false,
    id: |ids| &mut ids.ipc_ns_id,
    can_be_joined: true,
    carried: Some(Carried {
        engines_too: false,
        capture,
        validate: |space, snapshot| stored(&snapshot.ipc_vars, space, "ipcns-var"),
        recipe,
        missing: |_, _| Ok(None),
    }),
};

/// Reads the limits of the namespace, and refuses the objects in it.
fn capture(space: &Space, snapshot: &mut Snapshot, refusals: &mut Refusals) -> Result<()> {
    let pid = pids::host(space.members[0]);
    let fd = namespace::open(&format!("/proc/{pid}/ns/ipc"))?;
    let (entry, objects) = namespace::inside(&[fd], || Ok((read_limits()?, count_objects()?)))?;
    for (table, count) in objects {
        if count > 0 {
            refusals.refuse(
                format!("pid {pid}"),
                format!("{count} entries in /proc/sysvipc/{table} of its ipc namespace"),
                "System V IPC objects are not carried",
                "remove them (ipcrm) before the dump",
            );
        }
    }
    snapshot.ipc_vars.insert(space.id, entry);
    Ok(())
}

fn recipe(space: &Space, snapshot: &Snapshot) -> Option<Recipe> {
    let entry = snapshot.ipc_vars.get(&space.id)?.clone();
    Some(Recipe { needs_process: true, make: Box::new(move |_| rebuild(&entry)) })
}

/// Makes an empty namespace with these limits.
fn rebuild(entry: &IpcVarEntry) -> Result<OwnedFd> {
    namespace::create(KIND.flag, || {
        for (name, value) in settings(entry) {
            write_sysctl(name, &value)?;
        }
        namespace::of_thread("ipc")
    })
}

fn settings(entry: &IpcVarEntry) -> Vec<(&'static str, String)> {
    let sem: Vec<String> = entry.sem_ctls.iter().map(u32::to_string).collect();
    let mut all = vec![
        ("kernel/sem", sem.join("\t")),
        ("kernel/msgmax", entry.msg_ctlmax.to_string()),
        ("kernel/msgmnb", entry.msg_ctlmnb.to_string()),
        ("kernel/msgmni", entry.msg_ctlmni.to_string()),
        ("kernel/shmmax", entry.shm_ctlmax.to_string()),
        ("kernel/shmall", entry.shm_ctlall.to_string()),
        ("kernel/shmmni", entry.shm_ctlmni.to_string()),
        ("kernel/shm_rmid_forced", entry.shm_rmid_forced.to_string()),
        ("fs/mqueue/queues_max", entry.mq_queues_max.to_string()),
        ("fs/mqueue/msg_max", entry.mq_msg_max.to_string()),
        ("fs/mqueue/msgsize_max", entry.mq_msgsize_max.to_string()),
    ];
    let optional = [
        ("fs/mqueue/msg_default", entry.mq_msg_default),
        ("fs/mqueue/msgsize_default", entry.mq_msgsize_default),
        ("kernel/msg_next_id", entry.msg_next_id),
        ("kernel/sem_next_id", entry.sem_next_id),
        ("kernel/shm_next_id", entry.shm_next_id),
    ];
    all.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))));
    all
}

fn read_limits() -> Result<IpcVarEntry> {
    let sem = read_sysctl("kernel/sem")?;
    Ok(IpcVarEntry {
        sem_ctls: sem.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        msg_ctlmax: number("kernel/msgmax")?,
        msg_ctlmnb: number("kernel/msgmnb")?,
        msg_ctlmni: number("kernel/msgmni")?,
        auto_msgmni: number("kernel/auto_msgmni")?,
        shm_ctlmax: number("kernel/shmmax")?,
        shm_ctlall: number("kernel/shmall")?,
        shm_ctlmni: number("kernel/shmmni")?,
        shm_rmid_forced: number("kernel/shm_rmid_forced")?,
        mq_queues_max: number("fs/mqueue/queues_max")?,
        mq_msg_max: number("fs/mqueue/msg_max")?,
        mq_msgsize_max: number("fs/mqueue/msgsize_max")?,
        mq_msg_default: Some(number("fs/mqueue/msg_default")?),
        mq_msgsize_default: Some(number("fs/mqueue/msgsize_default")?),
        msg_next_id: next_id("kernel/msg_next_id")?,
        sem_next_id: next_id("kernel/sem_next_id")?,
        shm_next_id: next_id("kernel/shm_next_id")?,
    })
}

fn next_id(name: &str) -> Result<Option<u32>> {
    let id: i64 = number(name)?;
    Ok(u32::try_from(id).ok())
}

fn number<T: std::str::FromStr>(name: &str) -> Result<T> {
    let text = read_sysctl(name)?;
    text.trim().parse().map_err(|_| {
        Error::new(Kind::System, format!("/proc/sys/{name}: {:?} is no number", text.trim()))
    })
}

fn read_sysctl(name: &str) -> Result<String> {
    let path = format!("/proc/sys/{name}");
    std::fs::read_to_string(&path).doing(|| format!("read {path}"))
}

fn write_sysctl(name: &str, value: &str) -> Result<()> {
    // What a new namespace has already need not be written, and on some systems may not be.
    if read_sysctl(name)?.trim() == value {
        return Ok(());
    }
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value).doing(|| format!("write {value:?} to {path}"))
}

/// How many objects there are in the calling thread's namespace.
fn count_objects() -> Result<Vec<(&'static str, usize)>> {
    ["shm", "msg", "sem"]
        .into_iter()
        .map(|table| {
            let path = format!("/proc/sysvipc/{table}");
            let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
            Ok((table, text.lines().count().saturating_sub(1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back() {
        let mut entry = capture_here();
        entry.msg_ctlmax = 4321;
        let fd = rebuild(&entry).unwrap();
        assert_eq!(namespace::inside(&[fd], read_limits).unwrap(), entry);
    }

    fn capture_here() -> IpcVarEntry {
        let mut entry = read_limits().unwrap();
        (entry.msg_next_id, entry.sem_next_id, entry.shm_next_id) = (None, None, None);
        entry
    }
}
