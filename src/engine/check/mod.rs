//! Whether the kernel has what dumps and restores need. Each feature has a probe of its own.
//!
//! [`FEATURES`] names what the kernel may or may not have, as `criu check --feature` does, and what its
//! lack costs. Probes change nothing; each says why it fails.
//!
//! Nothing is remembered from one run to the next. All probes together take 3 ms, and 30 ms more
//! where an asynchronous I/O context is asked about, since its end waits for the other processors.
//! The probes that every dump and restore needs take 1 ms, those of an RPC feature check 0.5 ms. A
//! file with their answers would save less than it costs: it would have to be found, locked, trusted,
//! and told from that of another kernel, container or set of privileges.

mod kernel;
mod network;
mod tracing;

use crate::error::{Error, Kind, Result};
use crate::log::Log;
use crate::options::Options;

/// Who needs a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every dump and restore.
    Always,
    /// Trees that use what the feature is about.
    Some,
    /// Nobody yet.
    Experimental,
}

impl Need {
    /// The words for people.
    pub fn words(self) -> &'static str {
        match self {
            Need::Always => "always needed",
            Need::Some => "sometimes needed",
            Need::Experimental => "experimental",
        }
    }
}

/// Something that the kernel may have or lack.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub need: Need,
    /// What does not work without it.
    pub cost: &'static str,
    probe: fn() -> Result<()>,
}

const fn always(name: &'static str, cost: &'static str, probe: fn() -> Result<()>) -> Feature {
    Feature { name, need: Need::Always, cost, probe }
}

const fn some(name: &'static str, cost: &'static str, probe: fn() -> Result<()>) -> Feature {
    Feature { name, need: Need::Some, cost, probe }
}

const fn later(name: &'static str, cost: &'static str, probe: fn() -> Result<()>) -> Feature {
    Feature { name, need: Need::Experimental, cost, probe }
}

/// All features; those that every dump and restore needs come first.
pub const FEATURES: &[Feature] = &[
    always("map_files", "mapped files cannot be opened", kernel::map_files),
    always("kcmp", "shared descriptors cannot be told from equal ones", kernel::kcmp),
    always(
        "set_mm_map",
        "brk, arguments and auxiliary vector cannot be restored",
        kernel::set_mm_map,
    ),
    always("peeksiginfo", "pending signals cannot be read", tracing::peeksiginfo),
    always("pidfd_store", "descriptors cannot be taken over", kernel::pidfd_store),
    always("clone3_set_tid", "processes cannot be given their pids", kernel::clone3_set_tid),
    always("can_map_vdso", "the vDSO cannot be put where it was", kernel::can_map_vdso),
    always("pagemap_scan", "pages to dump cannot be found", kernel::pagemap_scan),
    always("get_rseq_conf", "restartable sequences cannot be read", tracing::get_rseq_conf),
    some("mnt_id", "the mount of an open file cannot be told", kernel::mnt_id),
    some("mem_dirty_track", "pre-dumps cannot tell changed pages", kernel::mem_dirty_track),
    some("aio_remap", "asynchronous I/O contexts cannot be restored", kernel::aio_remap),
    some("timerfd", "timerfds cannot be dumped", kernel::timerfd),
    some("tun", "tun and tap devices cannot be carried", network::tun),
    some("tun_ns", "the network namespace of a tun device cannot be told", network::tun_ns),
    some("userns", "user namespaces cannot be carried", kernel::userns),
    some("fdinfo_lock", "file locks cannot be dumped", kernel::fdinfo_lock),
    some("seccomp_suspend", "tasks under seccomp cannot be dumped", tracing::seccomp_suspend),
    some("seccomp_filters", "seccomp filters cannot be dumped", tracing::seccomp_filters),
    some("loginuid", "the login uid cannot be restored", kernel::loginuid),
    some("cgroupns", "control group namespaces cannot be carried", kernel::cgroupns),
    later("autofs", "automounts cannot be carried", kernel::autofs),
    some(
        "tcp_half_closed",
        "half-closed TCP connections cannot be carried",
        network::tcp_half_closed,
    ),
    later("compat_cr", "32-bit tasks cannot be carried", kernel::compat_cr),
    some("uffd", "much memory is filled more slowly, and none on demand", kernel::uffd),
    some("uffd-noncoop", "pages cannot be restored on demand", kernel::uffd_noncoop),
    some("sk_ns", "the network namespace of a socket cannot be told", network::sk_ns),
    some("sk_unix_file", "the file of a unix socket cannot be opened", network::sk_unix_file),
    some("net_diag_raw", "raw sockets cannot be found", network::net_diag_raw),
    some("nsid", "network namespaces cannot be told by id", network::nsid),
    some(
        "link_nsid",
        "devices of other network namespaces cannot be asked for",
        network::link_nsid,
    ),
    some("kcmp_epoll", "epoll files cannot be dumped", kernel::kcmp_epoll),
    some("timens", "time namespaces cannot be carried", kernel::timens),
    some(
        "external_net_ns",
        "a network namespace cannot belong to the outside",
        kernel::external_net_ns,
    ),
    some("newifindex", "devices cannot be moved with their index", network::newifindex),
    some("nftables", "nftables rules cannot be carried", network::nftables),
    some("has_ipt_legacy", "legacy iptables rules cannot be carried", network::ipt_legacy),
    some("ns_pid", "pids of inner namespaces cannot be told", kernel::ns_pid),
    some(
        "apparmor_stacking",
        "stacked AppArmor profiles cannot be carried",
        kernel::apparmor_stacking,
    ),
    some("network_lock_nftables", "TCP cannot be silenced by nftables", network::nftables),
    some(
        "sockopt_buf_lock",
        "locks of socket buffer sizes cannot be carried",
        network::sockopt_buf_lock,
    ),
    some("memfd_hugetlb", "memfds of huge pages cannot be carried", kernel::memfd_hugetlb),
    some(
        "move_mount_set_group",
        "propagation groups cannot be restored simply",
        kernel::move_mount_set_group,
    ),
    some("openat2", "paths cannot be opened below a root safely", kernel::openat2),
    some(
        "ipv6_freebind",
        "IPv6 sockets of absent addresses cannot be carried",
        network::ipv6_freebind,
    ),
    some("timer_cr_ids", "POSIX timers get their ids by trying", kernel::timer_cr_ids),
    some("overlayfs_maps", "files mapped from overlays cannot be told", kernel::overlayfs_maps),
    some(
        "breakpoints",
        "nothing changes: this version sets no hardware breakpoints",
        tracing::breakpoints,
    ),
    some(
        "pagemap_scan_guard_pages",
        "guard pages cannot be found",
        kernel::pagemap_scan_guard_pages,
    ),
];

/// The names that `--feature` takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    FEATURES.iter().map(|feature| feature.name)
}

/// Whether a caller can count on the feature `name`. Nobody can count on one with an unknown name.
pub fn has(name: &str) -> bool {
    feature(name).is_ok_and(|feature| (feature.probe)().is_ok())
}

fn feature(name: &str) -> Result<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name).ok_or_else(|| {
        Error::new(Kind::BadOptions, format!("Unknown feature {name}"))
            .remedy("criu check --feature list lists them")
    })
}

/// A feature that was looked for.
#[derive(Debug)]
pub struct Finding {
    pub feature: &'static Feature,
    /// Why it is missing, if it is.
    pub missing: Option<Error>,
}

/// What a check found.
#[derive(Debug)]
pub struct Survey {
    pub findings: Vec<Finding>,
    /// Whether features were asked for by name.
    asked: bool,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Good,
    /// Features are missing that some trees need.
    Limited,
    /// Features are missing that every dump and restore needs, or that were asked for by name.
    Bad,
}

impl Survey {
    /// What the caller may do to find more features: a probe that was forbidden says nothing about the
    /// kernel.
    pub fn remedy(&self) -> Option<&'static str> {
        let missing = self.findings.iter().filter_map(|finding| finding.missing.as_ref());
        let denied = missing.map(Error::kind).any(|kind| kind == Kind::Denied);
        (denied && !nix::unistd::geteuid().is_root()).then_some("run it as root")
    }

    /// The result of all findings.
    pub fn verdict(&self) -> Verdict {
        let missing = self.findings.iter().filter(|finding| finding.missing.is_some());
        let fatal = |finding: &Finding| self.asked || finding.feature.need == Need::Always;
        missing
            .map(|finding| if fatal(finding) { Verdict::Bad } else { Verdict::Limited })
            .max()
            .unwrap_or(Verdict::Good)
    }

    /// The answer for people and scripts, a line for each feature that was asked for by name.
    pub fn text(&self) -> String {
        match self.verdict() {
            _ if self.asked => {
                let is = |finding: &Finding| match finding.missing {
                    None => "is supported",
                    Some(_) => "is NOT supported",
                };
                let line = |finding| format!("{} {}", Finding::name(finding), is(finding));
                self.findings.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Verdict::Good => "Looks good.".to_owned(),
            Verdict::Limited => "Looks good but some kernel features are missing\n\
                which, depending on your process tree, may cause\n\
                dump or restore failure."
                .to_owned(),
            Verdict::Bad => "Does not look good.".to_owned(),
        }
    }
}

impl Finding {
    fn of(feature: &'static Feature) -> Self {
        Self { feature, missing: (feature.probe)().err() }
    }

    /// Why the feature is missing, and what that costs; none if it is not.
    fn complaint(&self) -> Option<String> {
        let Feature { name, cost, .. } = self.feature;
        Some(format!("{name} ({cost}): {}", self.missing.as_ref()?))
    }

    fn name(&self) -> &'static str {
        self.feature.name
    }
}

/// Looks for the features that `options` ask about. An unknown name is an error.
pub fn survey(options: &Options) -> Result<Survey> {
    if !options.features.is_empty() {
        let asked = options.features.iter().map(|name| feature(name).map(Finding::of));
        return Ok(Survey { findings: asked.collect::<Result<_>>()?, asked: true });
    }
    let wanted = |feature: &&Feature| match feature.need {
        Need::Always => true,
        Need::Some => options.check_extra(),
        Need::Experimental => options.check_experimental(),
    };
    let findings = FEATURES.iter().filter(wanted).map(Finding::of).collect();
    Ok(Survey { findings, asked: false })
}

/// Looks for them, and tells `log` which are missing, as [`tell`] does.
pub fn run(options: &Options, log: &Log) -> Result<Survey> {
    let survey = survey(options)?;
    tell(&survey, log).map(|()| survey)
}

/// Warns of missing features that some trees need. A missing feature that every dump and restore needs,
/// or that was asked for by name, is an error.
pub fn tell(survey: &Survey, log: &Log) -> Result<()> {
    let complaints = survey.findings.iter().filter_map(Finding::complaint);
    if survey.verdict() != Verdict::Bad {
        complaints.for_each(|complaint| log.warn(complaint));
        return Ok(());
    }
    let all = complaints.collect::<Vec<_>>().join("\n");
    Err(match survey.remedy() {
        Some(remedy) => Error::new(Kind::Denied, all).remedy(remedy),
        None => Error::new(Kind::System, all),
    })
}

/// The error of a probe that has found out why a feature is missing.
fn missing(why: impl Into<String>) -> Result<()> {
    Err(Error::new(Kind::System, why))
}

/// Ok if `file` is there.
fn exists(file: &str) -> Result<()> {
    match std::fs::metadata(file) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io(format!("stat {file}"), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that CRIU 4.2 knows.
    const KNOWN: &str = "mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock \
        seccomp_suspend seccomp_filters loginuid cgroupns autofs tcp_half_closed compat_cr uffd \
        uffd-noncoop can_map_vdso sk_ns sk_unix_file net_diag_raw nsid link_nsid kcmp_epoll timens \
        external_net_ns clone3_set_tid newifindex nftables has_ipt_legacy pidfd_store ns_pid \
        apparmor_stacking network_lock_nftables sockopt_buf_lock memfd_hugetlb \
        move_mount_set_group openat2 get_rseq_conf ipv6_freebind pagemap_scan timer_cr_ids \
        overlayfs_maps breakpoints pagemap_scan_guard_pages";

    #[test]
    fn every_known_name_is_a_feature_once() {
        for name in KNOWN.split_whitespace() {
            let count = FEATURES.iter().filter(|feature| feature.name == name).count();
            assert_eq!(count, 1, "{name}");
        }
    }

    #[test]
    fn what_all_need_is_here() {
        let survey = run(&Options::default(), &Log::none()).unwrap();
        assert_eq!((survey.verdict(), survey.text().as_str()), (Verdict::Good, "Looks good."));
    }

    #[test]
    fn a_feature_asked_for_is_answered_and_an_unknown_one_refused() {
        let ask = |name: &str| Options { features: vec![name.to_owned()], ..Options::default() };
        let survey = run(&ask("openat2"), &Log::none()).unwrap();
        assert_eq!(survey.text(), "openat2 is supported");
        let error = run(&ask("zzz"), &Log::none()).unwrap_err();
        assert!(error.to_string().starts_with("Unknown feature zzz"), "{error}");
    }

    #[test]
    fn what_is_missing_decides() {
        const THERE: Feature = always("there", "nothing works", || Ok(()));
        const GONE: Feature = always("gone", "nothing works", || missing("it is not there"));
        const SPECIAL: Feature = some("special", "one thing fails", || missing("it is not there"));
        let survey = |features: &[&'static Feature], asked| Survey {
            findings: features.iter().map(|feature| Finding::of(feature)).collect(),
            asked,
        };
        assert_eq!(survey(&[&THERE], false).verdict(), Verdict::Good);
        let limited = survey(&[&THERE, &SPECIAL], false);
        assert_eq!(limited.verdict(), Verdict::Limited);
        assert!(limited.text().starts_with("Looks good but some"), "{}", limited.text());
        let bad = survey(&[&GONE, &SPECIAL], false);
        assert_eq!((bad.verdict(), bad.text().as_str()), (Verdict::Bad, "Does not look good."));
        let asked = survey(&[&THERE, &SPECIAL], true);
        assert_eq!(asked.verdict(), Verdict::Bad);
        assert_eq!(asked.text(), "there is supported\nspecial is NOT supported");
    }

    /// Runs `what` in a thread with a descriptor table of its own, which other tests do not change.
    fn in_own_table(what: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            what();
        });
        thread.join().unwrap();
    }

    #[test]
    fn probes_leave_no_descriptor_and_say_why_they_fail() {
        in_own_table(|| {
            let open = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
            let before = open();
            for feature in FEATURES {
                if let Some(text) = Finding::of(feature).complaint() {
                    assert!(text.starts_with(feature.name), "{text}");
                    assert!(text.len() > feature.name.len() + feature.cost.len() + 5, "{text}");
                }
                assert_eq!(open(), before, "{} leaves a descriptor", feature.name);
            }
        });
    }
}
