//! What a connection may ask for.
//!
//! A worker ([`Rights::Worker`]) was started by its caller and has no more rights than it (one with
//! the set-user-ID bit gives them up): it does all that it is asked for. A service has root's rights and serves whoever may connect, so (root
//! being who has user id 0, the service's user namespace and all of its capabilities):
//!
//! | asked over the service | root | any other user |
//! |---|---|---|
//! | dump, pre-dump | any tree | own processes, into directories that the user may write |
//! | restore, page server, cpuinfo | yes | no |
//! | check, features, version | yes | yes, without files |
//! | config_file, action scripts | no | no |
//! | rst_sibling, inherit_fd, a page server's fd | no | no |
//! | names of files and directories | yes | no: descriptors only |
//!
//! What a user who is not root may have done is not left to comparisons alone: before the first
//! file is touched the serving process becomes that user for good ([`Rights::assume`]), and the
//! kernel decides about every process traced and every file made.

use super::peer::{self, Peer};
use super::wire::Channel;
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::{CriuOpts, CriuReqType};
use crate::kernel::pid::HostPid;
use crate::kernel::{proc, process};
use crate::objects::task::status::Status;
use crate::options::{Options, Verb, table};

/// Whom a connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// The caller who started this worker, or who runs the engine itself.
    Worker,
    /// Root, by a service.
    Root,
    /// Another user, by a service.
    User { uid: u32, gid: u32 },
}

/// What root cannot have over a service either, and why.
const NOT_BY_SERVICE: &[(&str, &str)] = &[
    ("config_file", "a service takes no configuration and no action scripts from its peers"),
    ("rst_sibling", "a service is not the peer's child"),
    ("inherit_fd", "a service has not inherited the peer's descriptors"),
    ("ps.fd", "a service has not inherited the peer's descriptors"),
];

/// What other users may say beside.
const OF_USERS: &[&str] = &[
    "pid",
    "leave_running",
    "leave_stopped",
    "images_dir_fd",
    "work_dir_fd",
    "log_file",
    "log_level",
    "shell_job",
    "external",
    "file_locks",
    "ghost_limit",
    "link_remap",
    "notify_scripts",
    "timeout",
    "track_mem",
    "unprivileged",
];

/// What other users may say with a check, which is made with the service's own rights.
const OF_USERS_CHECKS: &[&str] = &["log_level"];

impl Rights {
    /// The rights of a service's peer.
    pub fn over_service(peer: &Peer) -> Self {
        if peer.uid == 0 && peer.is_our_equal() {
            Rights::Root
        } else {
            Rights::User { uid: peer.uid, gid: peer.gid }
        }
    }

    /// Refuses, by name, what may not be asked for.
    pub fn check(self, kind: CriuReqType, message: Option<&CriuOpts>) -> Result<()> {
        if let Rights::User { uid, .. } = self {
            may_request(kind, uid)?;
        }
        let Some(message) = message.filter(|_| self != Rights::Worker) else { return Ok(()) };
        let options =
            Options::from_rpc(message).map_err(|error| error.with_kind(Kind::BadOptions))?;
        let mut refusals = Refusals::default();
        for (name, why) in NOT_BY_SERVICE.iter().filter(|(name, _)| is_asked(name, &options)) {
            let what = format!("option {name} is refused over the service");
            refusals.refuse(what, "", *why, "use criu swrk");
        }
        if let Rights::User { uid, .. } = self {
            refuse_unlisted(kind, uid, &options, &mut refusals);
        }
        refusals.check().map_err(|error| error.with_kind(Kind::BadOptions))
    }

    /// Takes the rights of the peer, if it is not root, for good.
    pub fn assume(self, channel: &Channel) -> Result<()> {
        let Rights::User { uid, gid } = self else { return Ok(()) };
        process::become_peer(uid, gid, &peer::groups(channel)?)
    }

    /// Refuses to dump the tree of somebody else, whose root is `target`. Whether the tree is the
    /// peer's own the kernel decides later, for each thread; asking first makes the message better
    /// and spares others' processes being looked at.
    pub fn check_target(self, target: Option<i32>) -> Result<()> {
        match (self, target) {
            (Rights::User { uid, gid }, Some(pid)) => check_owner(HostPid::new(pid), uid, gid),
            _ => Ok(()),
        }
    }

    /// Configuration files speak for who starts a worker, not for the peers of a service.
    pub fn reads_configuration(self) -> bool {
        self == Rights::Worker
    }
}

fn may_request(kind: CriuReqType, uid: u32) -> Result<()> {
    let remedy = match kind {
        CriuReqType::Restore => "run criu restore as root: a restore makes processes of any kind",
        CriuReqType::PageServer
        | CriuReqType::PageServerChld
        | CriuReqType::CpuinfoDump
        | CriuReqType::CpuinfoCheck => "ask as root",
        _ => return Ok(()),
    };
    let cause = format!("{} over the service is for root, not for user {uid}", kind.as_str_name());
    Err(Error::new(Kind::Denied, cause).remedy(remedy))
}

fn refuse_unlisted(kind: CriuReqType, uid: u32, options: &Options, refusals: &mut Refusals) {
    let Some(verb) = verb_with_options(kind) else { return };
    let allowed = if verb == Verb::Check { OF_USERS_CHECKS } else { OF_USERS };
    // What only permits something has no effect that somebody would need rights for.
    let says_something =
        |row: &&table::Row| row.verbs.contains(&verb) && !row.is_permitted_on(verb);
    let asked = table::rows().filter(says_something).filter(|row| (row.asks)(options));
    let mut asked: Vec<&str> = asked.map(|row| row.name).collect();
    // Descriptors are nothing that the table counts as asking.
    if verb == Verb::Check {
        asked.extend(options.images_dir_fd.map(|_| "images_dir_fd"));
        asked.extend(options.work_dir_fd.map(|_| "work_dir_fd"));
    }
    let refused_already = |name: &str| NOT_BY_SERVICE.iter().any(|(known, _)| *known == name);
    asked.sort_unstable();
    asked.dedup();
    for name in asked.iter().filter(|name| !allowed.contains(*name) && !refused_already(name)) {
        let what = format!("option {name} is refused over the service");
        let why = format!("with {} it is for root, not for user {uid}", kind.as_str_name());
        let remedy = if name.contains("dir") { "give a descriptor of it" } else { "leave it out" };
        refusals.refuse(what, "", why, remedy);
    }
}

/// The verb of a request that a user may make and that looks at its options.
fn verb_with_options(kind: CriuReqType) -> Option<Verb> {
    match kind {
        CriuReqType::Dump => Some(Verb::Dump),
        CriuReqType::PreDump | CriuReqType::SinglePreDump => Some(Verb::PreDump),
        CriuReqType::Check => Some(Verb::Check),
        _ => None,
    }
}

fn is_asked(name: &str, options: &Options) -> bool {
    if name == "ps.fd" {
        return options.ps.as_ref().is_some_and(|server| server.fd.is_some());
    }
    table::rows().any(|row| row.name == name && (row.asks)(options))
}

/// All ids of the process are the peer's own.
fn check_owner(pid: HostPid, uid: u32, gid: u32) -> Result<()> {
    let Ok(text) = proc::text(&format!("/proc/{pid}/status")) else {
        return Err(proc::gone(pid));
    };
    let status = Status::parse(&text).doing(|| format!("pid {pid}"))?;
    if status.uids.iter().all(|id| *id == uid) && status.gids.iter().all(|id| *id == gid) {
        return Ok(());
    }
    let cause = format!("pid {pid}: user {uid} and group {gid} may dump their own processes only");
    let whose = format!("its user ids are {:?}, its groups {:?}", status.uids, status.gids);
    Err(Error::new(Kind::Denied, cause).remedy(whose))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Rights = Rights::User { uid: 4242, gid: 4242 };

    fn options() -> CriuOpts {
        CriuOpts { images_dir_fd: -1, ..CriuOpts::default() }
    }

    fn refusal(rights: Rights, kind: CriuReqType, message: &CriuOpts) -> String {
        rights.check(kind, Some(message)).unwrap_err().to_string()
    }

    #[test]
    fn a_worker_does_all_that_it_is_asked_for() {
        let message = CriuOpts {
            config_file: Some("/c".into()),
            rst_sibling: Some(true),
            images_dir: Some("/d".into()),
            ..options()
        };
        Rights::Worker.check(CriuReqType::Restore, Some(&message)).unwrap();
    }

    #[test]
    fn a_service_takes_no_configuration_from_anybody() {
        let message = CriuOpts { config_file: Some("/c".into()), ..options() };
        for rights in [Rights::Root, USER] {
            let text = refusal(rights, CriuReqType::Dump, &message);
            assert!(text.starts_with("option config_file is refused over the service: "), "{text}");
        }
    }

    #[test]
    fn root_is_refused_what_a_service_cannot_do() {
        let message = CriuOpts {
            rst_sibling: Some(true),
            inherit_fd: vec![crate::images::proto::InheritFd { key: "k".into(), fd: 3 }],
            ..options()
        };
        let text = refusal(Rights::Root, CriuReqType::Restore, &message);
        assert!(text.contains("rst_sibling") && text.contains("inherit_fd"), "{text}");
        let message = CriuOpts { images_dir: Some("/d".into()), ..options() };
        Rights::Root.check(CriuReqType::Restore, Some(&message)).unwrap();
    }

    #[test]
    fn others_get_listed_options_only() {
        let message = CriuOpts {
            images_dir: Some("/d".into()),
            log_to_stderr: Some(true),
            display_stats: Some(true),
            // Of no meaning to a dump, and of none to this tree.
            root: Some("/r".into()),
            tcp_established: Some(true),
            pid: Some(7),
            leave_running: Some(true),
            ..options()
        };
        let text = refusal(USER, CriuReqType::Dump, &message);
        for name in ["images_dir", "log_to_stderr", "display_stats"] {
            assert!(text.contains(&format!("option {name} is refused")), "{text}");
        }
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn others_ask_for_no_restore_and_no_page_server() {
        for kind in [CriuReqType::Restore, CriuReqType::PageServer, CriuReqType::CpuinfoDump] {
            let error = USER.check(kind, None).unwrap_err();
            assert_eq!(error.kind(), Kind::Denied);
            assert!(error.to_string().contains(kind.as_str_name()), "{error}");
        }
        USER.check(CriuReqType::Version, None).unwrap();
        USER.check(CriuReqType::Check, Some(&options())).unwrap();
        let message = CriuOpts { work_dir_fd: Some(3), log_file: Some("l".into()), ..options() };
        let text = refusal(USER, CriuReqType::Check, &message);
        assert!(text.contains("work_dir_fd") && text.contains("log_file"), "{text}");
    }

    #[test]
    fn the_ids_of_a_process_are_compared() {
        let me = HostPid::own();
        assert_eq!(check_owner(me, 4242, 4242).unwrap_err().kind(), Kind::Denied);
        assert_eq!(
            check_owner(HostPid::new(i32::MAX), 4242, 4242).unwrap_err().kind(),
            Kind::NoSuchTask
        );
    }

    #[test]
    fn every_name_here_is_one_of_the_table() {
        let known = |name: &&str| *name == "ps.fd" || table::rows().any(|row| row.name == *name);
        assert!(OF_USERS.iter().all(known));
        assert!(NOT_BY_SERVICE.iter().map(|(name, _)| name).all(known));
    }
}
