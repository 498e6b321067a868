//! Credentials of a thread: user and group ids, capabilities, securebits, no_new_privs.
//!
//! Everything but the securebits is in `/proc/PID/task/TID/status`. The kernel keeps credentials
//! per thread and the raw system calls change one thread only, so every thread sets its own.
//!
//! The order of the rebuild is the only one that works from root to anything: ids while the
//! capabilities to set them are there (and NO_SETUID_FIXUP, lest changing the user id drops
//! them), then the bounding set, ambient capabilities while raising them is allowed, the final
//! securebits while CAP_SETPCAP is there, and the capabilities themselves last.

use once_cell::sync::Lazy;

use super::attribute::{Attribute, Seen, Step, ThreadReply};
use super::draft::ThreadDraft;
use super::status::Status;
use super::{Reach, Rebuild, Recorded, RecordedThread};
use crate::args;
use crate::error::{Context, Error, Kind, Refusals, Result};
use crate::images::proto::CredsEntry;
use crate::kernel::capability::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAP_AMBIENT_RAISE, Request, SETGID, SETPCAP,
    SETUID, members,
};
use crate::kernel::pid::HostPid;
use crate::kernel::proc;
use crate::objects::phases::Phase;
use crate::tracee::batch::Batch;

/// Words of a capability set in an image.
const WORDS: usize = 2;
/// SECBIT_NO_SETUID_FIXUP: changing the user id leaves the capabilities alone.
const NO_SETUID_FIXUP: u32 = 1 << 2;
/// More groups the kernel does not take.
const GROUPS_MAX: usize = 65536;

pub struct Credentials;

impl Attribute for Credentials {
    fn ask_thread(&self, batch: &mut Batch) -> Option<ThreadReply> {
        let call = batch.call(libc::SYS_prctl, args![libc::PR_GET_SECUREBITS, 0, 0, 0, 0]);
        Some(Box::new(move |outcome, thread| {
            let securebits = outcome.ret(call).doing(|| "get the securebits")?;
            thread.entry.creds.get_or_insert_default().secbits = securebits as u32;
            Ok(())
        }))
    }

    fn read_thread(
        &self,
        seen: &Seen<'_>,
        thread: &mut ThreadDraft,
        refusals: &mut Refusals,
    ) -> Result<()> {
        if labels_exist() {
            let path = format!("/proc/{}/task/{}/attr/current", seen.pid, thread.tid);
            refuse_label(thread.tid, &proc::text(&path).unwrap_or_default(), refusals);
        }
        thread.entry.creds = Some(entry(&seen.status, 0));
        Ok(())
    }

    fn validate_thread(&self, thread: &RecordedThread<'_>) -> Result<()> {
        let creds = thread.entry.creds.as_ref();
        validate(&thread.file(), creds.ok_or_else(|| thread.missing("the credentials"))?)
    }

    fn check_reach(&self, task: &Recorded<'_>, reach: &Reach) -> Result<()> {
        task.threads.iter().try_for_each(|thread| match &thread.entry.creds {
            Some(creds) => check_reach(&thread.file(), creds, reach),
            None => Ok(()),
        })
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[
            (Phase::Credentials, Step::Threads(rebuild)),
            (Phase::Limits, Step::Threads(rebuild_no_new_privs)),
        ]
    }
}

/// The message, from what is known.
pub(super) fn entry(status: &Status, secbits: u32) -> CredsEntry {
    CredsEntry {
        uid: status.uids[0],
        euid: status.uids[1],
        suid: status.uids[2],
        fsuid: status.uids[3],
        gid: status.gids[0],
        egid: status.gids[1],
        sgid: status.gids[2],
        fsgid: status.gids[3],
        cap_inh: words(status.inheritable),
        cap_prm: words(status.permitted),
        cap_eff: words(status.effective),
        cap_bnd: words(status.bounding),
        cap_amb: words(status.ambient),
        secbits,
        groups: status.groups.clone(),
        no_new_privs: status.no_new_privs.then_some(1),
        ..CredsEntry::default()
    }
}

fn words(set: u64) -> Vec<u32> {
    vec![set as u32, (set >> 32) as u32]
}

/// The set that an image holds as words.
pub(super) fn set(words: &[u32]) -> u64 {
    words.iter().rev().fold(0, |set, word| set << 32 | u64::from(*word))
}

/// Whether this kernel has a security module that labels tasks (Linux Security Modules,
/// `security_getprocattr`): without one, the file of every task gives EINVAL.
fn labels_exist() -> bool {
    static EXIST: Lazy<bool> = Lazy::new(|| proc::contents("/proc/self/attr/current").is_ok());
    *EXIST
}

/// Refuses a thread that a security module confines: labels are not carried.
fn refuse_label(tid: HostPid, label: &str, refusals: &mut Refusals) {
    let label = label.trim_end_matches(['\0', '\n']);
    if !matches!(label, "" | "unconfined" | "kernel") {
        let object = format!("security label \"{label}\"");
        refusals.refuse(format!("thread {tid}"), object, "labels are not carried", "");
    }
}

/// Checks sizes, and that no capability is demanded that its superset lacks.
fn validate(file: &str, creds: &CredsEntry) -> Result<()> {
    let sets = [&creds.cap_inh, &creds.cap_prm, &creds.cap_eff, &creds.cap_bnd];
    if sets.iter().any(|set| set.len() != WORDS) || creds.cap_amb.len() > WORDS {
        return Err(Error::image(file, "a capability set has not two words"));
    }
    if creds.groups.len() > GROUPS_MAX {
        return Err(Error::image(file, format!("{} groups", creds.groups.len())));
    }
    let (permitted, inheritable) = (set(&creds.cap_prm), set(&creds.cap_inh));
    if set(&creds.cap_eff) & !permitted != 0 {
        return Err(Error::image(file, "effective capabilities that are not permitted"));
    }
    if set(&creds.cap_amb) & !(permitted & inheritable) != 0 {
        return Err(Error::image(file, "ambient capabilities that are not inheritable"));
    }
    match [&creds.lsm_profile, &creds.lsm_sockcreate].into_iter().flatten().next() {
        Some(label) => {
            Err(Error::image(file, format!("security label \"{label}\" is not carried")))
        }
        None => Ok(()),
    }
}

/// Checks that the engine has what the thread is to have: nobody can give more.
fn check_reach(file: &str, creds: &CredsEntry, reach: &Reach) -> Result<()> {
    let (known, ours) = (reach.known(), &reach.ours);
    let denied = |cause: String, remedy: &str| {
        Err(Error::new(Kind::Denied, format!("{file}: {cause}")).remedy(remedy))
    };
    for (name, wanted, have) in [
        ("permitted", set(&creds.cap_prm), reach.own()),
        ("bounding", set(&creds.cap_bnd), set(&ours.cap_bnd)),
    ] {
        let missing = wanted & known & !have;
        if missing != 0 {
            let cause = format!("the thread has {name} capabilities {missing:#x} we lack");
            return denied(cause, "restore with at least the capabilities of the dumped program");
        }
    }
    for (what, name, cap) in changes(creds, reach) {
        if !reach.has(cap) {
            let cause = format!("the thread's {what} can only be had with {name}");
            return denied(cause, "restore as root, or as a user who has just these");
        }
    }
    if ours.no_new_privs() != 0 && creds.no_new_privs() == 0 {
        let cause = "the thread has no no_new_privs, which we cannot take off".to_owned();
        return denied(cause, "start the restore without no_new_privs");
    }
    Ok(())
}

/// What of the credentials is not as with us, and the capability that is needed to change it.
fn changes(creds: &CredsEntry, reach: &Reach) -> Vec<(String, &'static str, u32)> {
    let (known, ours) = (reach.known(), &reach.ours);
    let (users, groups) = (user_ids(creds), group_ids(creds));
    let bounding = set(&creds.cap_bnd) & known;
    let inheritable = set(&creds.cap_inh) & known;
    let differences = [
        (users != user_ids(ours), format!("user ids {users:?}"), "CAP_SETUID", SETUID),
        (groups != group_ids(ours), format!("group ids {groups:?}"), "CAP_SETGID", SETGID),
        (
            creds.groups != ours.groups,
            format!("supplementary groups {:?}", creds.groups),
            "CAP_SETGID",
            SETGID,
        ),
        (
            bounding != set(&ours.cap_bnd) & known,
            format!("bounding set {bounding:#x}"),
            "CAP_SETPCAP",
            SETPCAP,
        ),
        (
            inheritable & !(set(&ours.cap_inh) | reach.own()) != 0,
            format!("inheritable capabilities {inheritable:#x}"),
            "CAP_SETPCAP",
            SETPCAP,
        ),
        (
            creds.secbits != ours.secbits,
            format!("securebits {:#x}", creds.secbits),
            "CAP_SETPCAP",
            SETPCAP,
        ),
    ];
    let changed = differences.into_iter().filter(|(differs, ..)| *differs);
    changed.map(|(_, what, name, cap)| (what, name, cap)).collect()
}

fn user_ids(creds: &CredsEntry) -> [u32; 4] {
    [creds.uid, creds.euid, creds.suid, creds.fsuid]
}

fn group_ids(creds: &CredsEntry) -> [u32; 4] {
    [creds.gid, creds.egid, creds.sgid, creds.fsgid]
}

fn rebuild(process: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    if let Some(creds) = &thread.entry.creds {
        change(batch, creds, process.reach);
    }
}

/// Turns a thread with the engine's credentials into one with these. What is so already is left
/// alone: without privileges it could not even be set to what it is.
fn change(batch: &mut Batch, creds: &CredsEntry, reach: &Reach) {
    let secbits = rebuild_ids(batch, creds, &reach.ours);
    let known = reach.known();
    let dropped = set(&reach.ours.cap_bnd) & known & !set(&creds.cap_bnd);
    for cap in members(dropped) {
        let what = format!("drop capability {cap} from the bounding set");
        batch.must(what, libc::SYS_prctl, args![libc::PR_CAPBSET_DROP, cap, 0, 0, 0]);
    }
    let inheritable = set(&creds.cap_inh) & known;
    let ours = set(&reach.ours.cap_prm);
    capset(batch, ours, ours, inheritable);
    rebuild_ambient(batch, set(&creds.cap_amb) & known);
    if creds.secbits != secbits {
        let call = args![libc::PR_SET_SECUREBITS, creds.secbits, 0, 0, 0];
        batch.must(format!("set securebits {:#x}", creds.secbits), libc::SYS_prctl, call);
    }
    capset(batch, set(&creds.cap_eff) & known, set(&creds.cap_prm) & known, inheritable);
}

/// Sets the ids; returns the securebits that this leaves.
fn rebuild_ids(batch: &mut Batch, creds: &CredsEntry, ours: &CredsEntry) -> u32 {
    if creds.groups != ours.groups {
        let groups: Vec<u8> = creds.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        let place = batch.bytes(&groups);
        batch.must("set the groups", libc::SYS_setgroups, args![creds.groups.len(), place]);
    }
    if (user_ids(creds), group_ids(creds)) == (user_ids(ours), group_ids(ours)) {
        return ours.secbits;
    }
    let call = args![libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0];
    batch.must("keep capabilities over a change of user", libc::SYS_prctl, call);
    let (gid, egid, sgid) = (creds.gid, creds.egid, creds.sgid);
    let what = format!("set the group ids {gid} {egid} {sgid}");
    batch.must(what, libc::SYS_setresgid, args![gid, egid, sgid]);
    let (uid, euid, suid) = (creds.uid, creds.euid, creds.suid);
    let what = format!("set the user ids {uid} {euid} {suid}");
    batch.must(what, libc::SYS_setresuid, args![uid, euid, suid]);
    // These return the former id and no error; they come last as the calls above set them, too.
    batch.call(libc::SYS_setfsuid, args![creds.fsuid]);
    batch.call(libc::SYS_setfsgid, args![creds.fsgid]);
    NO_SETUID_FIXUP
}

fn rebuild_ambient(batch: &mut Batch, ambient: u64) {
    let call = args![PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0];
    batch.must("clear the ambient capabilities", libc::SYS_prctl, call);
    for cap in members(ambient) {
        let call = args![PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0];
        batch.must(format!("raise the ambient capability {cap}"), libc::SYS_prctl, call);
    }
}

fn capset(batch: &mut Batch, effective: u64, permitted: u64, inheritable: u64) {
    let (header, data) = Request::new(effective, permitted, inheritable).to_bytes();
    let (header, data) = (batch.bytes(&header), batch.bytes(&data));
    let what = format!("set capabilities {effective:#x} of {permitted:#x}");
    batch.must(what, libc::SYS_capset, args![header, data]);
}

/// Forbids gaining rights by exec; after the credentials, which it would hinder.
fn rebuild_no_new_privs(_: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    if thread.entry.creds.as_ref().is_some_and(|creds| creds.no_new_privs() != 0) {
        let call = args![libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0];
        batch.must("set no_new_privs", libc::SYS_prctl, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::proto::TaskRlimitsEntry;
    use crate::objects::task::status::SAVED;

    fn odd() -> CredsEntry {
        entry(&Status::parse(SAVED).unwrap(), 0x24)
    }

    #[test]
    fn a_saved_status_becomes_credentials() {
        let creds = odd();
        assert_eq!((creds.uid, creds.euid, creds.suid, creds.fsuid), (2001, 2002, 2003, 2002));
        assert_eq!((creds.gid, creds.egid, creds.sgid, creds.fsgid), (1001, 1002, 1003, 1004));
        assert_eq!(
            (creds.cap_prm.as_slice(), creds.cap_eff.as_slice()),
            (&[0x2020, 0][..], &[0x20, 0][..])
        );
        assert_eq!(creds.cap_bnd, [0xfebf_ffff, 0x1ff]);
        assert_eq!(set(&creds.cap_bnd), 0x1ff_febf_ffff);
        assert_eq!((creds.secbits, creds.no_new_privs), (0x24, Some(1)));
        assert_eq!(creds.groups, [5, 1000, 70000]);
        validate("core-1.img", &creds).unwrap();
    }

    #[test]
    fn impossible_credentials_are_refused() {
        let effective = CredsEntry { cap_eff: vec![0x40, 0], ..odd() };
        let ambient = CredsEntry { cap_amb: vec![0x20, 0], ..odd() };
        let short = CredsEntry { cap_bnd: vec![1], ..odd() };
        let labelled = CredsEntry { lsm_profile: Some("docker".into()), ..odd() };
        for (creds, words) in [
            (effective, "not permitted"),
            (ambient, "not inheritable"),
            (short, "two words"),
            (labelled, "docker"),
        ] {
            let text = validate("core-1.img", &creds).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn capabilities_that_we_lack_are_refused_with_the_remedy() {
        let mut reach = like_us();
        reach.ours.cap_prm = vec![0x2000, 0];
        let text = check_reach("core-1.img", &odd(), &reach).unwrap_err().to_string();
        assert!(text.contains("permitted capabilities 0x20 we lack; restore with"), "{text}");
        reach.ours.cap_prm = vec![0x2020, 0];
        check_reach("core-1.img", &odd(), &reach).unwrap();
        // Not even to its own user.
        reach.lent = 0x20;
        assert!(check_reach("core-1.img", &odd(), &reach).is_err());
    }

    /// An engine with these credentials.
    fn like_us() -> Reach {
        Reach { last_cap: 40, ours: odd(), lent: 0, limits: TaskRlimitsEntry::default() }
    }

    #[test]
    fn what_is_so_already_takes_no_privilege() {
        let reach = like_us();
        let other = odd();
        for (creds, words) in [
            (
                CredsEntry { suid: 0, ..odd() },
                "user ids [2001, 2002, 0, 2002] can only be had with",
            ),
            (CredsEntry { fsgid: 0, ..odd() }, "group ids"),
            (CredsEntry { groups: vec![5], ..odd() }, "supplementary groups [5]"),
            (CredsEntry { cap_bnd: vec![0, 0], ..odd() }, "bounding set 0x0"),
            (CredsEntry { cap_inh: vec![0x8000_0000, 0], ..odd() }, "inheritable capabilities"),
            (CredsEntry { secbits: 0, ..odd() }, "securebits 0x0 can only be had with CAP_SETPCAP"),
            (CredsEntry { no_new_privs: None, ..odd() }, "cannot take off"),
        ] {
            let text = check_reach("core-1.img", &creds, &reach).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
        check_reach("core-1.img", &other, &reach).unwrap();
        let mut batch = Batch::new();
        change(&mut batch, &other, &reach);
        let ambient = members(set(&other.cap_amb)).count();
        assert_eq!(batch.len(), 3 + ambient, "capabilities twice, ambient ones");
    }

    #[test]
    fn a_confined_thread_is_refused_by_its_label() {
        let mut refusals = Refusals::default();
        refuse_label(HostPid::new(7), "unconfined\n", &mut refusals);
        refuse_label(HostPid::new(7), "", &mut refusals);
        refuse_label(HostPid::new(7), "docker-default (enforce)\n", &mut refusals);
        let text = refusals.check().unwrap_err().to_string();
        let want = "thread 7: security label \"docker-default (enforce)\": labels are not carried";
        assert_eq!(text, want);
    }
}
