//! Options about files, terminals and unix sockets.

use super::{Argument, Given, Row, access};
use crate::error::Result;
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
    .help("unix sockets, by inode, that may have a peer outside the tree"),
    flag!(evasive_devices)
        .rpc(&[6])
        .long(&["evasive-devices"], Argument::Negatable)
        .setters(&["set_evasive_devices"])
        .verbs(&[Dump])
        .honoured(&[Dump])
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
    scalar!(ghost_limit, access::size)
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
    choice!(file_validation, FileValidation, "way to compare files (filesize, buildid)")
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
        .help("look for the paths of inotify watches in the file system"),
    texts!(irmap_scan_paths)
        .rpc(&[36])
        .long(&["irmap-scan-path"], Argument::Required("PATH"))
        .setters(&["add_irmap_path"])
        .verbs(&[Dump, PreDump])
        .help("where the paths of inotify watches are looked for"),
    texts!(external)
        .rpc(&[37])
        .long(&["external"], Argument::Required("RES"))
        .setters(&["add_external"])
        .verbs(&[Dump, Restore])
        .partly(|options| options.external.iter().any(|key| !is_carried(key)))
        .help("an object that belongs to the outside: file[MOUNT:INODE], tty[RDEV:DEV]"),
    Row {
        name: "inherit_fd",
        from_rpc: |message, options| {
            let item = |item: &proto::InheritFd| InheritFd { key: item.key.clone(), fd: item.fd };
            options.inherit_fd.extend(message.inherit_fd.iter().map(item));
            Ok(())
        },
        to_rpc: |options, message| {
            let inherited = options.inherit_fd.iter();
            message.inherit_fd = inherited
                .map(|item| proto::InheritFd { key: item.key.clone(), fd: item.fd })
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

/// External objects of these kinds are known; for a restore a descriptor is given for each.
fn is_carried(key: &str) -> bool {
    ["file[", "tty["].iter().any(|kind| key.starts_with(kind)) && key.ends_with(']')
}

/// `-x`, or `-xINODE,INODE`.
fn ext_unix_sk_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    options.ext_unix_sk = Some(given != Given::No);
    let Given::Text(list) = given else { return Ok(()) };
    for item in list.split(',').filter(|item| !item.is_empty()) {
        match item.parse() {
            Ok(inode) if inode != 0 => options.unix_sk_ino.push(inode),
            _ => return Err(access::bad(format!("`{item}' is not the inode of a socket"))),
        }
    }
    Ok(())
}

/// `fd[3]:pipe[123]`.
fn inherit_fd_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let text = access::required(given)?;
    let parsed = text.strip_prefix("fd[").and_then(|rest| rest.split_once("]:"));
    match parsed.map(|(fd, key)| (fd.parse::<i32>(), key)) {
        Some((Ok(fd), key)) if fd >= 0 && !key.is_empty() => {
            options.inherit_fd.push(InheritFd { key: key.to_owned(), fd });
            Ok(())
        }
        _ => Err(access::bad(format!("`{text}' is not of the form fd[NUM]:RES"))),
    }
}
