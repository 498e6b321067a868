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

use super::status::Status;
use crate::args;
use crate::error::{Context, Error, Refusals, Result};
use crate::images::proto::CredsEntry;
use crate::kernel::proc;
use crate::kernel::remote::{Batch, CallId, Outcome};

/// Words of a capability set in an image.
const WORDS: usize = 2;
/// Version 3 of the capability calls: two words per set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// SECBIT_NO_SETUID_FIXUP: changing the user id leaves the capabilities alone.
const NO_SETUID_FIXUP: u32 = 1 << 2;
const PR_CAP_AMBIENT: i32 = 47;
const PR_CAP_AMBIENT_RAISE: i32 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: i32 = 4;
/// More groups the kernel does not take.
const GROUPS_MAX: usize = 65536;

/// The question to a thread: its securebits.
pub struct Answer(CallId);

/// Asks for the securebits.
pub fn ask(batch: &mut Batch) -> Answer {
    Answer(batch.call(libc::SYS_prctl, args![libc::PR_GET_SECUREBITS, 0, 0, 0, 0]))
}

impl Answer {
    /// The credentials as an image holds them.
    pub fn to_image(&self, outcome: &Outcome, status: &Status) -> Result<CredsEntry> {
        let securebits = outcome.ret(self.0).doing(|| "get the securebits")?;
        Ok(entry(status, securebits as u32))
    }
}

fn entry(status: &Status, secbits: u32) -> CredsEntry {
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

fn set(words: &[u32]) -> u64 {
    words.iter().rev().fold(0, |set, word| set << 32 | u64::from(*word))
}

/// Whether this kernel has a security module that labels tasks (Linux Security Modules,
/// `security_getprocattr`): without one, the file of every task gives EINVAL.
pub fn labels_exist() -> bool {
    static EXIST: Lazy<bool> = Lazy::new(|| proc::contents("/proc/self/attr/current").is_ok());
    *EXIST
}

/// Refuses a thread that a security module confines: labels are not carried.
pub fn refuse_label(tid: i32, label: &str, refusals: &mut Refusals) {
    let label = label.trim_end_matches(['\0', '\n']);
    if !matches!(label, "" | "unconfined" | "kernel") {
        let object = format!("security label \"{label}\"");
        refusals.refuse(format!("thread {tid}"), object, "labels are not carried", "");
    }
}

/// Checks sizes, and that no capability is demanded that its superset lacks.
pub fn validate(file: &str, creds: &CredsEntry) -> Result<()> {
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

/// What the restoring kernel and program have to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The highest capability that the kernel knows.
    pub last_cap: u32,
    /// Permitted capabilities of the engine, hence of every new process.
    pub permitted: u64,
    /// Its bounding set.
    pub bounding: u64,
}

impl Reach {
    /// What this process has.
    pub fn ours() -> Result<Self> {
        let path = "/proc/self/status";
        let text = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
        let status = Status::parse(&text)?;
        let path = "/proc/sys/kernel/cap_last_cap";
        let text = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
        let last_cap = text.trim().parse().unwrap_or(63);
        Ok(Self { last_cap, permitted: status.permitted, bounding: status.bounding })
    }

    fn known(&self) -> u64 {
        u64::MAX >> (63 - self.last_cap.min(63))
    }
}

/// Checks that the engine has what the thread is to have: nobody can give more.
pub fn check_reach(file: &str, creds: &CredsEntry, reach: &Reach) -> Result<()> {
    let known = reach.known();
    for (name, wanted, ours) in [
        ("permitted", set(&creds.cap_prm), reach.permitted),
        ("bounding", set(&creds.cap_bnd), reach.bounding),
    ] {
        let missing = wanted & known & !ours;
        if missing != 0 {
            let cause = format!("{file}: the thread has {name} capabilities {missing:#x} we lack");
            return Err(Error::new(crate::error::Kind::Denied, cause)
                .remedy("restore with at least the capabilities of the dumped program"));
        }
    }
    Ok(())
}

/// Turns a thread of root into one with these credentials.
pub fn rebuild(batch: &mut Batch, creds: &CredsEntry, reach: &Reach) {
    rebuild_ids(batch, creds);
    let known = reach.known();
    let bounding = set(&creds.cap_bnd);
    for cap in (0..=reach.last_cap).filter(|cap| bounding & (1 << cap) == 0) {
        if reach.bounding & (1 << cap) != 0 {
            let what = format!("drop capability {cap} from the bounding set");
            batch.must(what, libc::SYS_prctl, args![libc::PR_CAPBSET_DROP, cap, 0, 0, 0]);
        }
    }
    let inheritable = set(&creds.cap_inh) & known;
    capset(batch, reach.permitted, reach.permitted, inheritable);
    rebuild_ambient(batch, set(&creds.cap_amb) & known);
    let call = args![libc::PR_SET_SECUREBITS, creds.secbits, 0, 0, 0];
    batch.must(format!("set securebits {:#x}", creds.secbits), libc::SYS_prctl, call);
    capset(batch, set(&creds.cap_eff) & known, set(&creds.cap_prm) & known, inheritable);
}

fn rebuild_ids(batch: &mut Batch, creds: &CredsEntry) {
    let groups: Vec<u8> = creds.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
    let place = batch.bytes(&groups);
    batch.must("set the groups", libc::SYS_setgroups, args![creds.groups.len(), place]);
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
}

fn rebuild_ambient(batch: &mut Batch, ambient: u64) {
    let call = args![PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0];
    batch.must("clear the ambient capabilities", libc::SYS_prctl, call);
    for cap in (0..64u32).filter(|cap| ambient & (1 << cap) != 0) {
        let call = args![PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0];
        batch.must(format!("raise the ambient capability {cap}"), libc::SYS_prctl, call);
    }
}

fn capset(batch: &mut Batch, effective: u64, permitted: u64, inheritable: u64) {
    let header = [CAPABILITY_VERSION, 0].map(u32::to_le_bytes).concat();
    let sets = [effective, permitted, inheritable];
    let word = |index: u32| sets.map(|set| ((set >> (32 * index)) as u32).to_le_bytes()).concat();
    let header = batch.bytes(&header);
    let data = batch.bytes(&[word(0), word(1)].concat());
    let what = format!("set capabilities {effective:#x} of {permitted:#x}");
    batch.must(what, libc::SYS_capset, args![header, data]);
}

/// Forbids gaining rights by exec; after the credentials, which it would hinder.
pub fn rebuild_no_new_privs(batch: &mut Batch, creds: &CredsEntry) {
    if creds.no_new_privs() != 0 {
        let call = args![libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0];
        batch.must("set no_new_privs", libc::SYS_prctl, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let reach = Reach { last_cap: 40, permitted: 0x2000, bounding: u64::MAX };
        let text = check_reach("core-1.img", &odd(), &reach).unwrap_err().to_string();
        assert!(text.contains("permitted capabilities 0x20 we lack; restore with"), "{text}");
        check_reach("core-1.img", &odd(), &Reach { permitted: 0x2020, ..reach }).unwrap();
    }

    #[test]
    fn a_confined_thread_is_refused_by_its_label() {
        let mut refusals = Refusals::default();
        refuse_label(7, "unconfined\n", &mut refusals);
        refuse_label(7, "", &mut refusals);
        refuse_label(7, "docker-default (enforce)\n", &mut refusals);
        let text = refusals.check().unwrap_err().to_string();
        let want = "thread 7: security label \"docker-default (enforce)\": labels are not carried";
        assert_eq!(text, want);
    }
}
