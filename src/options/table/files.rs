//! Options about files, terminals and unix sockets.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Argument, Given, Row, access};
use crate::error::{Result, shown};
use crate::images::proto;
use crate::options::Options;
use crate::options::Verb::*;
use crate::options::values::{FileValidation, InheritFd};

pub(super) const ROWS: &[Row] = &[
    Row { from_text: ext_unix_sk_from_text, ..flag!(ext_unix_sk) }
        .rpc(&[4])
        .long(&["ext-unix-sk"], Argument::Optional("INODES"))
        .short('x')
        .setters(&["set_ext_unix_sk"])
        .verbs(&[Dump, Restore])
        .permits(&[Dump, Restore], NO_SOCKETS)
        .help("unix sockets may have a peer outside the tree"),
    Row {
        name: "unix_sk_ino",
        from_rpc: |message, options| {
            options.unix_sk_ino.extend(message.unix_sk_ino.iter().map(|socket| socket.inode));
            Ok(())
        },
        to_rpc: |options, message| {
            let sockets = options.unix_sk_ino.iter().map(|inode| proto::UnixSk { inode: *inode });
            message.unix_sk_ino = sockets.collect();
        },
        asks: |options| !options.unix_sk_ino.is_empty(),
        ..access::EMPTY
    }
    .rpc(&[33])
    .setters(&["add_unix_sk"])
    .verbs(&[Dump])
    .permits(&[Dump], NO_SOCKETS)
    .help("unix sockets, by inode, that may have a peer outside the tree"),
    flag!(evasive_devices)
        .rpc(&[6])
        .long(&["evasive-devices"], Argument::Negatable)
        .setters(&["set_evasive_devices"])
        .verbs(&[Dump])
        .permits(
            &[Dump],
            "a device that its path does not lead to any more is refused all the same",
        )
        .help("a device may be opened by another path than the dumped one"),
    flag!(link_remap)
        .rpc(&[18])
        .long(&["link-remap"], Argument::Negatable)
        .setters(&["set_link_remap"])
        .verbs(&[Dump])
        .honoured(&[Dump])
        .help(
            "give a file that has lost the name it was opened by, but no other one, a link beside \
             it, which the restore removes",
        ),
    Row {
        from_rpc: |message, options| {
            options.ghost_limit = message.ghost_limit.map(u64::from).or(options.ghost_limit);
            Ok(())
        },
        // The message has room for 4 GiB.
        to_rpc: |options, message| {
            let limit = options.ghost_limit;
            message.ghost_limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        },
        name: "ghost_limit",
        from_text: |given, options| {
            options.ghost_limit = Some(access::size(given)?);
            Ok(())
        },
        asks: |options| options.ghost_limit.is_some(),
        ..access::EMPTY
    }
    .rpc(&[35])
    .long(&["ghost-limit"], Argument::Required("SIZE"))
    .setters(&["set_ghost_limit"])
    .default("1M")
    .verbs(&[Dump])
    .honoured(&[Dump])
    .help("the largest unlinked file whose contents go into the images"),
    // Holes of large files are never stored, by whatever call they are found.
    local_flag!(ghost_fiemap)
        .long(&["ghost-fiemap"], Argument::Negatable)
        .verbs(&[Dump])
        .honoured(&[Dump])
        .help("copy unlinked files without their holes, as is done anyway"),
    flag!(file_locks)
        .rpc(&[8])
        .long(&["file-locks"], Argument::Negatable)
        .short('l')
        .setters(&["set_file_locks"])
        .verbs(&[Dump, Restore])
        .honoured(&[Dump, Restore])
        .help("carry file locks"),
    flag!(skip_file_rwx_check)
        .rpc(&[66])
        .long(&["skip-file-rwx-check"], Argument::Negatable)
        .setters(&["set_skip_file_rwx_check"])
        .verbs(&[Restore])
        .honoured(&[Restore])
        .help("permission bits of files may have changed since the dump"),
    choice!(file_validation, FileValidation, "filesize, buildid")
        .long(&["file-validation"], Argument::Required("METHOD"))
        .default("buildid")
        .verbs(&[Dump])
        .honoured(&[Dump])
        .help("how files met again are compared: filesize, buildid"),
    flag!(force_irmap)
        .rpc(&[21])
        .long(&["force-irmap"], Argument::Negatable)
        .setters(&["set_force_irmap"])
        .verbs(&[Dump, PreDump])
        .permits(&[Dump], NO_INOTIFY)
        .help("look for the paths of inotify watches in the file system"),
    names!(irmap_scan_paths)
        .rpc(&[36])
        .long(&["irmap-scan-path"], Argument::Required("PATH"))
        .setters(&["add_irmap_path"])
        .verbs(&[Dump, PreDump])
        .permits(&[Dump], NO_INOTIFY)
        .help("where the paths of inotify watches are looked for"),
    Row { from_rpc: external_from_rpc, from_text: external_from_text, ..names!(external) }
        .rpc(&[37])
        .long(&["external"], Argument::Required("RES"))
        .setters(&["add_external"])
        .verbs(&[Dump, Restore])
        .honoured(&[Dump, Restore])
        .help(
            "an object that belongs to the outside, as file[MOUNT:INODE] or tty[RDEV:DEV]; a key \
             that nothing in the tree has says nothing",
        ),
    Row {
        name: "inherit_fd",
        from_rpc: |message, options| {
            let item = |item: &proto::InheritFd| InheritFd {
                key: access::from_bytes(&item.key),
                fd: item.fd,
            };
            options.inherit_fd.extend(message.inherit_fd.iter().map(item));
            Ok(())
        },
        to_rpc: |options, message| {
            let inherited = options.inherit_fd.iter();
            message.inherit_fd = inherited
                .map(|item| proto::InheritFd { key: access::to_bytes(&item.key), fd: item.fd })
                .collect();
        },
        from_text: inherit_fd_from_text,
        asks: |options| !options.inherit_fd.is_empty(),
        ..access::EMPTY
    }
    .rpc(&[27])
    .long(&["inherit-fd"], Argument::Required("fd[NUM]:RES"))
    .setters(&["add_inherit_fd"])
    .verbs(&[Restore])
    .honoured(&[Restore])
    .help(
        "descriptor NUM stands for RES: pipe:[INODE], file[MOUNT:INODE], tty[RDEV:DEV], \
         /memfd:NAME, or a path without its first slash",
    ),
    flag!(orphan_pts_master)
        .rpc(&[50])
        .setters(&["set_orphan_pts_master"])
        .verbs(&[Restore])
        .honoured(&[Restore])
        .help("the master of a terminal left without one is sent to the caller"),
];

const NO_SOCKETS: &str = "no socket is carried: a process that has one is refused";
const NO_INOTIFY: &str = "no inotify watch is carried: a process that has one is refused";

/// `mnt[]`, with an `m` or an `s` behind a colon, is another way to say other options.
fn add_external(key: &OsStr, options: &mut Options) -> Result<()> {
    let Some(letters) = key.as_bytes().strip_prefix(b"mnt[]") else {
        options.external.push(key.to_owned());
        return Ok(());
    };
    options.auto_ext_mnt = Some(true);
    match letters.strip_prefix(b":").and_then(|letters| letters.first()) {
        Some(b'm') => options.ext_masters = Some(true),
        Some(b's') => options.ext_sharing = Some(true),
        None => {}
        Some(_) => {
            let key = shown(key);
            let cause = format!("`{key}' has another letter than m (masters) or s (sharing)");
            return Err(access::bad(cause));
        }
    }
    Ok(())
}

fn external_from_rpc(message: &proto::CriuOpts, options: &mut Options) -> Result<()> {
    message.external.iter().try_for_each(|key| add_external(OsStr::from_bytes(key), options))
}

fn external_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    add_external(access::name(given)?, options)
}

/// `-x`, or `-xINODE,INODE`.
fn ext_unix_sk_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    options.ext_unix_sk = Some(given != Given::No);
    let Given::Text(_) = given else { return Ok(()) };
    for item in access::text(given)?.split(',').filter(|item| !item.is_empty()) {
        match item.parse() {
            Ok(inode) if inode != 0 => options.unix_sk_ino.push(inode),
            _ => {
                let cause = format!("`{item}' is not the number of a socket's inode");
                return Err(access::bad(cause).remedy("ss -xe lists them as ino"));
            }
        }
    }
    Ok(())
}

/// `fd[3]:pipe[123]`.
fn inherit_fd_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let text = access::name(given)?;
    let parsed = access::split(text, b':').and_then(|(fd, key)| {
        let number = fd.to_str()?.strip_prefix("fd[")?.strip_suffix(']')?;
        Some((number.parse::<i32>().ok()?, key))
    });
    match parsed {
        Some((fd, key)) if fd >= 0 && !key.is_empty() => {
            options.inherit_fd.push(InheritFd { key: key.to_owned(), fd });
            Ok(())
        }
        _ => Err(access::bad(format!("`{}' does not have the form fd[NUM]:RES", shown(text)))),
    }
}
