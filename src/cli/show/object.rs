//! A dump for machines.

use std::time::UNIX_EPOCH;

use super::model::{self, About, Mapping, Open, Size};
use crate::cli::json::{Value, object};
use crate::cli::report;
use crate::images::proto::PstreeEntry;
use crate::images::sections::Listed;
use crate::images::snapshot::{Snapshot, TaskImage};

/// The whole dump; sizes in bytes.
pub fn render(snapshot: &Snapshot, about: &About) -> Value {
    let since = about.time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let tasks = snapshot
        .tree
        .iter()
        .filter_map(|entry| Some(task(snapshot, entry, snapshot.tasks.get(&entry.tree_pid())?)));
    object([
        ("command", "show".into()),
        ("success", true.into()),
        ("images", about.path.clone().into()),
        ("made_by", about.made_by.clone().into()),
        ("time", since.map(|since| since.as_secs()).into()),
        ("stats", about.stats.as_ref().map_or(Value::Null, report::stats_json)),
        ("damage", about.damage.clone().into()),
        ("saved", model::saved(snapshot).into()),
        ("tasks", tasks.collect()),
        ("files", snapshot.files().iter().map(file).collect()),
    ])
}

fn file(file: &Listed) -> Value {
    object([
        ("name", file.name.clone().into()),
        ("entries", u64::try_from(file.entries).unwrap_or(u64::MAX).into()),
    ])
}

fn task(snapshot: &Snapshot, entry: &PstreeEntry, task: &TaskImage) -> Value {
    let creds = task.core.thread_core.as_ref().and_then(|core| core.creds.as_ref());
    let path = |id: u32| snapshot.path_entry(id).map(|reg| reg.name.clone());
    let open = model::descriptors(snapshot, task);
    let (sockets, files): (Vec<_>, Vec<_>) =
        open.iter().partition(|open| open.description.is_socket);
    object([
        ("pid", entry.pid.into()),
        ("parent", entry.ppid.into()),
        ("group", entry.pgid.into()),
        ("session", entry.sid.into()),
        ("threads", entry.threads.clone().into()),
        ("name", model::comm(task).into()),
        ("state", model::state(task).into()),
        ("uid", creds.map(|creds| creds.euid).into()),
        ("gid", creds.map(|creds| creds.egid).into()),
        ("program", task.mm.as_ref().and_then(|mm| path(mm.exe_file_id)).into()),
        ("directory", task.fs.as_ref().and_then(|fs| path(fs.cwd_id)).into()),
        ("root", task.fs.as_ref().and_then(|fs| path(fs.root_id)).into()),
        ("memory", memory(&model::mappings(snapshot, task))),
        ("files", files.into_iter().map(descriptor).collect()),
        ("sockets", sockets.into_iter().map(descriptor).collect()),
    ])
}

fn memory(mappings: &[Mapping<'_>]) -> Value {
    let mut sum = Size::default();
    mappings.iter().for_each(|mapping| sum.add(mapping.size));
    let mapping = |mapping: &Mapping<'_>| {
        object([
            ("start", mapping.vma.start.into()),
            ("end", mapping.vma.end.into()),
            ("prot", mapping.vma.prot.into()),
            ("flags", mapping.vma.flags.into()),
            ("name", mapping.name.clone().into()),
            ("saved", mapping.size.saved.into()),
            ("in_parent", mapping.size.in_parent.into()),
        ])
    };
    object([
        ("mapped", sum.mapped.into()),
        ("saved", sum.saved.into()),
        ("in_parent", sum.in_parent.into()),
        ("mappings", mappings.iter().map(mapping).collect()),
    ])
}

fn descriptor(open: &Open<'_>) -> Value {
    let what = &open.description;
    object([
        ("fd", open.fd.into()),
        ("id", open.file.map(|file| file.id).into()),
        ("kind", what.kind.into()),
        ("access", Some(what.access).filter(|access| !access.is_empty()).into()),
        ("closed_on_exec", (!open.on_exec).into()),
        ("text", what.text().into()),
    ])
}
