//! What `/proc/PID/task/TID/status` tells about a thread.

use crate::error::{Error, Kind, Result};
use crate::kernel::pid::HostPid;

/// The lines that are needed, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// The same of the group.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Inheritable capabilities.
    pub inheritable: u64,
    /// Permitted capabilities.
    pub permitted: u64,
    /// Effective capabilities.
    pub effective: u64,
    /// The bounding set.
    pub bounding: u64,
    /// Ambient capabilities.
    pub ambient: u64,
    /// Whether executing programs can give no more rights.
    pub no_new_privs: bool,
    /// Mode of seccomp: 0 none, 1 strict, 2 filters.
    pub seccomp: u32,
    /// Who traces the thread.
    pub tracer: HostPid,
    /// Whether it runs on a shadow stack.
    pub shadow_stack: bool,
}

impl Status {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self> {
        let lines: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.split_once(':')).collect();
        let line = |name: &str| {
            let found = lines.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| *value).ok_or_else(|| broken(name))
        };
        let set = |name| u64::from_str_radix(line(name)?.trim(), 16).map_err(|_| broken(name));
        let number = |name| line(name)?.trim().parse::<u32>().map_err(|_| broken(name));
        Ok(Self {
            uids: ids(line("Uid")?)?.try_into().map_err(|_| broken("Uid"))?,
            gids: ids(line("Gid")?)?.try_into().map_err(|_| broken("Gid"))?,
            groups: ids(line("Groups")?)?,
            inheritable: set("CapInh")?,
            permitted: set("CapPrm")?,
            effective: set("CapEff")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb")?,
            no_new_privs: number("NoNewPrivs")? != 0,
            seccomp: number("Seccomp")?,
            tracer: HostPid::new(number("TracerPid")?.cast_signed()),
            shadow_stack: line("x86_Thread_features")
                .is_ok_and(|features| features.split_whitespace().any(|word| word == "shstk")),
        })
    }
}

fn ids(text: &str) -> Result<Vec<u32>> {
    text.split_whitespace().map(|id| id.parse().map_err(|_| broken("ids"))).collect()
}

fn broken(name: &str) -> Error {
    Error::new(Kind::System, format!("/proc/PID/status: \"{name}\" is not understood"))
}

#[cfg(test)]
pub(super) const SAVED: &str = "\
Name:	odd (leader)
Umask:	0022
State:	S (sleeping)
Tgid:	14720
Pid:	14720
PPid:	1
TracerPid:	77
Uid:	2001	2002	2003	2002
Gid:	1001	1002	1003	1004
FDSize:	256
Groups:	5 1000 70000 
NStgid:	14720
SigQ:	0/96365
CapInh:	0000000000002000
CapPrm:	0000000000002020
CapEff:	0000000000000020
CapBnd:	000001fffebfffff
CapAmb:	0000000000002000
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	3
x86_Thread_features:	shstk wrss 
x86_Thread_features_locked:	
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_saved_file_is_read() {
        let status = Status::parse(SAVED).unwrap();
        assert_eq!(status.uids, [2001, 2002, 2003, 2002]);
        assert_eq!(status.gids, [1001, 1002, 1003, 1004]);
        assert_eq!(status.groups, [5, 1000, 70000]);
        assert_eq!((status.permitted, status.bounding), (0x2020, 0x1ff_febf_ffff));
        assert_eq!((status.seccomp, status.tracer), (2, HostPid::new(77)));
        assert!(status.no_new_privs && status.shadow_stack);
    }

    #[test]
    fn optional_lines_may_be_missing_and_others_not() {
        let older = SAVED.replace("x86_Thread_features", "other");
        assert!(!Status::parse(&older).unwrap().shadow_stack);
        let text = Status::parse("Uid:	1	2	3	4\n").unwrap_err().to_string();
        assert_eq!(text, "/proc/PID/status: \"Gid\" is not understood");
    }
}
