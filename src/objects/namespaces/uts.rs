//! The UTS namespace: host name and domain name.
//!
//! Kernel facts: uname() of a thread inside reads both; sethostname/setdomainname write them and
//! need CAP_SYS_ADMIN. Image: utsns-ID.img.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use nix::sys::utsname::uname;

use crate::error::{Context, Result};
use crate::images::proto::UtsnsEntry;
use crate::kernel::{namespace, sys};

/// Reads the names of the namespace that `pid` is in.
pub fn capture(pid: i32) -> Result<UtsnsEntry> {
    let fd = namespace::open(&format!("/proc/{pid}/ns/uts"))?;
    namespace::inside(&[fd], read)
}

fn read() -> Result<UtsnsEntry> {
    let names = uname().doing(|| "uname")?;
    Ok(UtsnsEntry {
        nodename: names.nodename().to_string_lossy().into_owned(),
        domainname: names.domainname().to_string_lossy().into_owned(),
    })
}

/// Makes a namespace with these names.
pub fn rebuild(entry: &UtsnsEntry) -> Result<OwnedFd> {
    namespace::create(CloneFlags::CLONE_NEWUTS, || {
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
