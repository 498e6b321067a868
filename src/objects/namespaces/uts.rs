//! The UTS namespace: host name and domain name.
//!
//! Kernel facts: uname() of a thread inside reads both; sethostname/setdomainname write them and
//! need CAP_SYS_ADMIN. Image: utsns-ID.img.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use nix::sys::utsname::uname;

use super::{Carried, NamespaceKind, Recipe, Space, stored};
use crate::error::{Context, Refusals, Result};
use crate::images::proto::UtsnsEntry;
use crate::images::snapshot::Snapshot;
use crate::kernel::{namespace, sys};
use crate::objects::pids;

pub const KIND: NamespaceKind = NamespaceKind {
    name: "uts",
    flag: CloneFlags::CLONE_NEWUTS,
    has_for_children: false,
    nests: false,
    id: |ids| &mut ids.uts_ns_id,
    can_be_joined: true,
    carried: Some(Carried {
        engines_too: false,
        capture,
        validate: |space, snapshot| stored(&snapshot.utsns, space, "utsns"),
        recipe,
        missing: |_, _| Ok(None),
    }),
};

fn capture(space: &Space, snapshot: &mut Snapshot, _: &mut Refusals) -> Result<()> {
    let fd = namespace::open(&format!("/proc/{}/ns/uts", pids::host(space.members[0])))?;
    snapshot.utsns.insert(space.id, namespace::inside(&[fd], read)?);
    Ok(())
}

fn read() -> Result<UtsnsEntry> {
    let names = uname().doing(|| "uname")?;
    Ok(UtsnsEntry {
        nodename: names.nodename().to_string_lossy().into_owned(),
        domainname: names.domainname().to_string_lossy().into_owned(),
    })
}

fn recipe(space: &Space, snapshot: &Snapshot) -> Option<Recipe> {
    let entry = snapshot.utsns.get(&space.id)?.clone();
    Some(Recipe { needs_process: true, make: Box::new(move |_| rebuild(&entry)) })
}

/// Makes a namespace with these names.
fn rebuild(entry: &UtsnsEntry) -> Result<OwnedFd> {
    namespace::create(KIND.flag, || {
        nix::unistd::sethostname(&entry.nodename)
            .doing(|| format!("sethostname {}", entry.nodename))?;
        sys::setdomainname(entry.domainname.as_bytes())
            .doing(|| format!("setdomainname {}", entry.domainname))?;
        namespace::of_thread("uts")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let entry = UtsnsEntry { nodename: "alpha".into(), domainname: "beta".into() };
        let fd = rebuild(&entry).unwrap();
        assert_eq!(namespace::inside(&[fd], read).unwrap(), entry);
    }
}
