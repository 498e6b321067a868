//! Options about namespaces, mounts and security profiles.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Argument, Given, Row, access};
use crate::error::{Result, shown};
use crate::images::proto;
use crate::objects::namespaces;
use crate::options::Options;
use crate::options::Verb::*;
use crate::options::values::{JoinNs, Pair};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "join_ns",
        from_rpc: |message, options| {
            let join = |join: &proto::JoinNamespace| JoinNs {
                kind: access::from_bytes(&join.ns).display().to_string(),
                file: access::from_bytes(&join.ns_file),
                extra: join.extra_opt.as_deref().map(access::from_bytes),
            };
            options.join_ns.extend(message.join_ns.iter().map(join));
            options.join_ns.iter().try_for_each(check_join_ns)
        },
        to_rpc: |options, message| {
            let join = |join: &JoinNs| proto::JoinNamespace {
                ns: join.kind.clone().into_bytes(),
                ns_file: access::to_bytes(&join.file),
                extra_opt: join.extra.as_ref().map(access::to_bytes),
            };
            message.join_ns = options.join_ns.iter().map(join).collect();
        },
        from_text: join_ns_from_text,
        ..access::EMPTY
    }
    .rpc(&[39])
    .long(&["join-ns"], Argument::Required("NS:{PID|FILE}[,EXTRA]"))
    .short('J')
    .setters(&["join_ns_add"])
    .verbs(&[Restore])
    .honoured(&[Restore])
    .except(
        |options| options.join_ns.iter().any(|join| !namespaces::can_be_joined(&join.kind)),
        "only uts, ipc and time namespaces can be joined",
    )
    .help("restore into an existing namespace (uts, ipc and time; no net, mnt, user, pid)"),
    Row {
        from_rpc: empty_ns_from_rpc,
        from_text: empty_ns_from_text,
        ..scalar!(empty_ns, access::number)
    }
    .rpc(&[38])
    .long(&["empty-ns"], Argument::Required("net"))
    .setters(&["set_empty_ns"])
    .verbs(&[Dump, Restore])
    .asks(|options| options.empty_ns() != 0)
    .permits(
        &[Dump, Restore],
        "no network namespace is carried: a tree that has one of its own is refused",
    )
    .help("make a namespace, but restore nothing in it"),
    name!(root)
        .rpc(&[13])
        .long(&["root"], Argument::Required("PATH"))
        .short('r')
        .setters(&["set_root"])
        .verbs(&[Restore])
        .permits(&[Restore], NO_MOUNTS)
        .help("root of the restored tasks' file system, in a mount namespace"),
    Row {
        name: "ext_mnt",
        from_rpc: |message, options| {
            let pair = |mount: &proto::ExtMountMap| Pair {
                first: access::from_bytes(&mount.key),
                second: access::from_bytes(&mount.val),
            };
            options.ext_mnt.extend(message.ext_mnt.iter().map(pair));
            Ok(())
        },
        to_rpc: |options, message| {
            let pair = |mount: &Pair| proto::ExtMountMap {
                key: access::to_bytes(&mount.first),
                val: access::to_bytes(&mount.second),
            };
            message.ext_mnt = options.ext_mnt.iter().map(pair).collect();
        },
        from_text: ext_mnt_from_text,
        asks: |options| !options.ext_mnt.is_empty(),
        ..access::EMPTY
    }
    .rpc(&[23])
    .long(&["ext-mount-map"], Argument::Required("KEY:VALUE"))
    .short('M')
    .setters(&["add_ext_mount"])
    .verbs(&[Dump, Restore])
    .permits(&[Dump, Restore], NO_MOUNTS)
    .help("a mount that belongs to the outside; `auto' finds them"),
    flag!(auto_ext_mnt)
        .rpc(&[28])
        .setters(&["set_auto_ext_mnt"])
        .verbs(&[Dump, Restore])
        .permits(&[Dump, Restore], NO_MOUNTS)
        .help("find the mounts that belong to the outside"),
    flag!(ext_sharing)
        .rpc(&[29])
        .long(&["enable-external-sharing"], Argument::None)
        .setters(&["set_ext_sharing"])
        .verbs(&[Dump, Restore])
        .permits(&[Dump, Restore], NO_MOUNTS)
        .help("mounts may share propagation with mounts outside"),
    flag!(ext_masters)
        .rpc(&[30])
        .long(&["enable-external-masters"], Argument::None)
        .setters(&["set_ext_masters"])
        .verbs(&[Dump, Restore])
        .permits(&[Dump, Restore], NO_MOUNTS)
        .help("mounts may have a master outside"),
    names!(skip_mnt)
        .rpc(&[31])
        .long(&["skip-mnt"], Argument::Required("PATH"))
        .setters(&["add_skip_mnt"])
        .verbs(&[Dump])
        .permits(&[Dump], NO_MOUNTS)
        .help("leave out a mount point"),
    names!(enable_fs)
        .rpc(&[32])
        .long(&["enable-fs"], Argument::Required("NAMES"))
        .setters(&["add_enable_fs"])
        .verbs(&[Dump, Restore])
        .permits(&[Dump, Restore], NO_MOUNTS)
        .help("carry mounts of file systems that are not known"),
    flag!(mntns_compat_mode)
        .rpc(&[65])
        .long(&["mntns-compat-mode"], Argument::Negatable)
        .setters(&["set_mntns_compat_mode"])
        .verbs(&[Restore])
        .permits(&[Restore], NO_MOUNTS)
        .help("restore mounts the older way"),
    flag!(weak_sysctls)
        .rpc(&[47])
        .long(&["weak-sysctls"], Argument::Negatable)
        .setters(&["set_weak_sysctls"])
        .verbs(&[Restore])
        .permits(&[Restore], "sysctls of a network namespace are not restored")
        .help("leave out sysctls that do not exist here"),
    name!(lsm_profile)
        .rpc(&[53])
        .long(&["lsm-profile"], Argument::Required("TYPE:NAME"))
        .setters(&["set_lsm_profile"])
        .verbs(&[Restore])
        .honoured(&[Restore])
        .except(
            |options| options.lsm_profile.as_deref().is_some_and(|said| !is_no_profile(said)),
            "this version gives restored tasks no security profile",
        )
        .help("security profile of the restored tasks"),
    name!(lsm_mount_context)
        .rpc(&[63])
        .long(&["lsm-mount-context"], Argument::Required("CTX"))
        .setters(&["set_lsm_mount_context"])
        .verbs(&[Restore])
        .permits(&[Restore], NO_MOUNTS)
        .help("security context of restored mounts"),
];

const NO_MOUNTS: &str =
    "no mount is carried: a tree that has a mount namespace of its own is refused";

/// `none:` stands for no profile at all.
fn is_no_profile(said: &OsStr) -> bool {
    said.as_bytes().starts_with(b"none:")
}

/// Names that are no namespace, and files that are not there, are bad options, not refusals.
fn check_join_ns(join: &JoinNs) -> Result<()> {
    if !namespaces::is_kind(&join.kind) {
        let cause = format!("`{}', a namespace to join, is no kind of namespace", join.kind);
        return Err(access::bad(cause).remedy("the kinds are uts, ipc and time"));
    }
    let is_pid = join.file.to_str().is_some_and(|text| text.parse::<u32>().is_ok());
    if !is_pid && !std::path::Path::new(&join.file).exists() {
        let file = shown(&join.file);
        let cause = format!("{file}, the file of a namespace to join, does not exist");
        return Err(access::bad(cause).remedy("give a file of /proc/PID/ns, or a pid"));
    }
    Ok(())
}

fn join_ns_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let Pair { first, second } = access::pair(given, b':')?;
    let (file, extra) = match access::split(&second, b',') {
        Some((file, extra)) => (file.to_owned(), Some(extra.to_owned())),
        None => (second, None),
    };
    let join = JoinNs { kind: first.display().to_string(), file, extra };
    check_join_ns(&join)?;
    options.join_ns.push(join);
    Ok(())
}

fn empty_ns_from_rpc(message: &proto::CriuOpts, options: &mut Options) -> Result<()> {
    let Some(asked) = message.empty_ns else { return Ok(()) };
    let other = asked & !(libc::CLONE_NEWNET as u32);
    if other != 0 {
        let cause =
            format!("empty_ns has the bits {other:#x}: only a network namespace is made empty");
        return Err(access::bad(cause).remedy("give CLONE_NEWNET (0x40000000) or 0"));
    }
    options.empty_ns = Some(asked);
    Ok(())
}

fn empty_ns_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    match access::text(given)? {
        "net" => {
            options.empty_ns = Some(options.empty_ns() | libc::CLONE_NEWNET as u32);
            Ok(())
        }
        other => Err(access::bad(format!("a namespace `{other}' cannot be made empty; net can"))),
    }
}

fn ext_mnt_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    if given == Given::Text(OsStr::new("auto")) {
        options.auto_ext_mnt = Some(true);
        return Ok(());
    }
    options.ext_mnt.push(access::pair(given, b':')?);
    Ok(())
}
