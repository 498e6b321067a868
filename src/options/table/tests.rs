use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::options::fields::FIELDS;
use crate::options::values::{CgroupMode, JoinNs};

/// Numbers and names of the fields of `criu_opts`, from the protocol's source.
fn fields_of_criu_opts() -> Vec<(u32, String)> {
    let source = include_str!("../../../proto/rpc.proto");
    let body = source.split("message criu_opts {").nth(1).unwrap().split('}').next().unwrap();
    let field = |line: &str| {
        let (left, right) = line.split_once('=')?;
        let number = right.trim().split([' ', ';']).next()?.parse().ok()?;
        Some((number, left.split_whitespace().last()?.to_owned()))
    };
    body.lines().filter_map(field).collect()
}

#[test]
fn every_rpc_field_has_one_row() {
    let fields = fields_of_criu_opts();
    assert_eq!(fields.len(), 70);
    for (number, name) in fields {
        let count = rows().filter(|row| row.rpc.contains(&number)).count();
        assert_eq!(count, 1, "field {number} {name}");
    }
}

#[test]
fn names_flags_and_setters_are_unique() {
    let mut names = BTreeSet::new();
    let mut flags = BTreeSet::new();
    let mut setters = BTreeSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{row:?}");
        assert!(!row.help.is_empty(), "{row:?}");
        assert!(!row.verbs.is_empty(), "{row:?}");
        let shorts = row.short.iter().map(char::to_string);
        for flag in row.long.iter().map(|long| (*long).to_owned()).chain(shorts) {
            assert!(flags.insert(flag.clone()), "{flag}");
        }
        for setter in row.setters {
            assert!(setters.insert(*setter), "{setter}");
        }
    }
}

#[test]
fn an_option_is_honoured_only_where_it_means_something() {
    for row in rows() {
        assert!(row.honoured.iter().all(|verb| row.verbs.contains(verb)), "{row:?}");
    }
}

/// The fields of [`Options`] that the files below a directory of `src` read.
fn fields_read_by(directory: &str) -> BTreeSet<&'static str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(directory);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{directory}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(fields_read_by(&name));
        } else {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            // A field may stand on a line of its own.
            let after = text.split("options").skip(1);
            let after = after.filter_map(|rest| rest.trim_start().strip_prefix('.'));
            let name = |rest: &'_ str| {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                rest[..end.unwrap_or(rest.len())].to_owned()
            };
            let names: BTreeSet<String> = after.map(str::trim_start).map(name).collect();
            found.extend(FIELDS.iter().filter(|field| names.contains(**field)));
        }
    }
    found
}

/// What the engine does with an option can be asked for: a row that forgets to say so is found.
#[test]
fn what_the_engine_reads_is_honoured() {
    let read: BTreeSet<&str> = ["engine", "objects"].into_iter().flat_map(fields_read_by).collect();
    assert!(read.contains("link_remap") && read.len() > 15, "{read:?}");
    for field in read {
        let row = rows().find(|row| row.name == field);
        let row = row.unwrap_or_else(|| panic!("no row says what {field} is"));
        let accepted = !row.honoured.is_empty() || !row.permits.0.is_empty();
        assert!(accepted, "the engine reads {field}, which is refused on every verb");
    }
}

/// What is done whether or not it is asked for: the engine has no reason to look.
const DONE_ANYWAY: [&str; 3] = ["deprecated", "ghost_fiemap", "unprivileged"];

/// Nothing is called honoured that nobody looks at.
#[test]
fn what_is_honoured_is_read() {
    let faces = ["engine", "objects", "rpc", "capi", "cli"];
    let read: BTreeSet<&str> = faces.into_iter().flat_map(fields_read_by).collect();
    for row in rows().filter(|row| !row.honoured.is_empty() && row.except.is_none()) {
        let known = read.contains(row.name) || DONE_ANYWAY.contains(&row.name);
        assert!(known, "{row:?} is honoured, and nobody reads it");
    }
}

fn text(text: &str) -> Given<'_> {
    Given::Text(OsStr::new(text))
}

/// A value that each flag takes.
fn example(row: &Row) -> Given<'static> {
    match row.argument {
        Argument::None | Argument::Negatable | Argument::Optional(_) => Given::Yes,
        Argument::Required("PID" | "NUM" | "FD" | "PORT" | "SECONDS") => text("7"),
        Argument::Required("SIZE") => text("2M"),
        Argument::Required("net") => text("net"),
        Argument::Required("IN=OUT") => text("eth0=veth0"),
        Argument::Required("KEY:VALUE") => text("/mnt:name"),
        Argument::Required("fd[NUM]:RES") => text("fd[3]:pipe:[5]"),
        Argument::Required("NS:{PID|FILE}[,EXTRA]") => text("net:1"),
        Argument::Required("METHOD") if row.name == "network_lock" => text("skip"),
        Argument::Required("METHOD") => text("buildid"),
        Argument::Required("MODE") => text("read"),
        Argument::Required(_) => text("text"),
    }
}

#[test]
fn every_flag_takes_its_value_and_what_is_not_accepted_is_refused_by_name() {
    for row in rows().filter(|row| !row.long.is_empty()) {
        let mut options = Options::default();
        (row.from_text)(example(row), &mut options)
            .unwrap_or_else(|error| panic!("{row:?}: {error}"));
        for verb in VERBS.iter().filter(|verb| row.verbs.contains(verb)) {
            let accepted =
                row.is_accepted_on(*verb) && row.except.is_none_or(|(f, _)| !f(&options));
            match check(*verb, &options) {
                Ok(()) => assert!(accepted, "{row:?} on {verb:?}"),
                Err(error) => {
                    assert!(!accepted, "{row:?} on {verb:?}: {error}");
                    assert_eq!(error.kind(), Kind::BadOptions);
                    let named = format!("option --{} (", row.long[0]);
                    let local = format!("option --{} is", row.long[0]);
                    let text = error.to_string();
                    assert!(text.starts_with(&named) || text.starts_with(&local), "{text}");
                }
            }
        }
    }
}

/// Each verb of an option that this version knows is honoured, accepted or refused, with words for it.
#[test]
fn every_row_says_what_is_done_with_it() {
    for row in rows() {
        let (permits, clause) = row.permits;
        assert!(permits.iter().all(|verb| row.verbs.contains(verb)), "{row:?}");
        assert!(permits.iter().all(|verb| !row.honoured.contains(verb)), "{row:?}");
        assert_eq!(permits.is_empty(), clause.is_empty(), "{row:?}");
        let refused = VERBS.iter().any(|verb| !row.is_accepted_on(*verb));
        assert_eq!(refused, !row.refused.is_empty(), "{row:?}");
        let words = [clause, row.refused, row.except.map_or("", |(_, why)| why)];
        assert!(words.iter().all(|text| !text.ends_with('.')), "{row:?}");
    }
}

#[test]
fn all_that_is_refused_is_named_at_once() {
    let options = Options {
        lazy_pages: Some(true),
        tcp_established: Some(true),
        track_mem: Some(true),
        ..Options::default()
    };
    let said = check(Verb::Dump, &options).unwrap_err().to_string();
    assert_eq!(
        said,
        "option --track-mem (track_mem) is refused on dump: this version writes all memory with \
         every dump and tracks no changes; leave it out\n\
         option --lazy-pages (lazy_pages) is refused on dump: this version brings all memory back \
         before the tree runs, and none on demand; leave it out"
    );
}

#[test]
fn a_verb_that_is_not_carried_out_is_refused() {
    let error = check(Verb::PreDump, &Options::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("pre-dump is not carried out by this version; "),
        "{error}"
    );
}

#[test]
fn options_pass_through_the_rpc_unchanged() {
    let mut options = Options::default();
    for row in rows().filter(|row| !row.long.is_empty() && !row.rpc.is_empty()) {
        (row.from_text)(example(row), &mut options).unwrap();
    }
    options.images_dir_fd = Some(5);
    options.work_dir_fd = Some(6);
    options.exec_cmd = vec!["true".into()];
    options.unix_sk_ino = vec![9];
    options.use_page_server = Some(true);
    options.pidfd_store_sk = Some(4);
    options.config_file = Some("/c".into());
    options.notify_scripts = Some(true);
    options.log_to_stderr = Some(false);
    options.orphan_pts_master = Some(true);
    options.auto_ext_mnt = Some(true);
    let back = Options::from_rpc(&options.to_rpc()).unwrap();
    assert_eq!(back, options);
}

#[test]
fn values_of_the_rpc_out_of_range_are_bad_options() {
    let message = CriuOpts { images_dir_fd: 3, network_lock: Some(9), ..CriuOpts::default() };
    assert_eq!(Options::from_rpc(&message).unwrap_err().kind(), Kind::BadOptions);
}

#[test]
fn the_older_way_to_ask_for_control_groups_gives_way_to_the_mode() {
    let mut message = CriuOpts { manage_cgroups: Some(true), ..CriuOpts::default() };
    assert_eq!(Options::from_rpc(&message).unwrap().manage_cgroups(), CgroupMode::Soft);
    message.manage_cgroups_mode = Some(CgroupMode::Ignore.to_rpc());
    assert_eq!(Options::from_rpc(&message).unwrap().manage_cgroups(), CgroupMode::Ignore);
}

#[test]
fn verbosity_counts_and_sets() {
    let level = |given: Given<'_>| {
        let mut options = Options::default();
        let row = rows().find(|row| row.name == "log_level").unwrap();
        (row.from_text)(given, &mut options).unwrap();
        options.log_level()
    };
    assert_eq!(level(Given::Yes), 3);
    assert_eq!(level(text("vvv")), 6);
    assert_eq!(level(text("4")), 4);
    assert_eq!(level(text("erbosity=0")), 0);
}

#[test]
fn only_uts_ipc_and_time_can_be_joined() {
    let join = |kind: &str| Options {
        join_ns: vec![JoinNs { kind: kind.into(), file: "1".into(), extra: None }],
        ..Options::default()
    };
    for kind in ["uts", "ipc", "time"] {
        check(Verb::Restore, &join(kind)).unwrap();
    }
    for kind in ["net", "mnt", "user", "pid"] {
        let error = check(Verb::Restore, &join(kind)).unwrap_err().to_string();
        assert!(error.contains("--join-ns"), "{error}");
    }
}

#[test]
fn the_fate_of_the_tree_is_what_is_said_last() {
    let row = |name: &str| rows().find(|row| row.name == name).unwrap();
    let mut options = Options::default();
    (row("leave_stopped").from_text)(Given::Yes, &mut options).unwrap();
    (row("leave_running").from_text)(Given::Yes, &mut options).unwrap();
    assert!(options.leave_running() && !options.leave_stopped());
    let message =
        CriuOpts { leave_running: Some(false), leave_stopped: Some(true), ..CriuOpts::default() };
    options.add_rpc(&message).unwrap();
    assert!(options.leave_stopped() && !options.leave_running());
}

#[test]
fn only_a_network_namespace_is_made_empty() {
    let asked = |bits| CriuOpts { empty_ns: Some(bits), ..CriuOpts::default() };
    assert!(Options::from_rpc(&asked(libc::CLONE_NEWNET as u32)).is_ok());
    let error = Options::from_rpc(&asked(libc::CLONE_NEWPID as u32)).unwrap_err();
    assert!(error.to_string().contains("0x20000000"), "{error}");
}

#[test]
fn external_mounts_are_asked_for_by_a_key() {
    let said = |key: &str| {
        let message = CriuOpts { external: vec![key.into()], ..CriuOpts::default() };
        Options::from_rpc(&message)
    };
    let options = said("mnt[]:m").unwrap();
    assert!(options.auto_ext_mnt() && options.ext_masters() && options.external.is_empty());
    assert!(said("mnt[]:s").unwrap().ext_sharing());
    assert!(said("mnt[]:").unwrap().auto_ext_mnt());
    assert_eq!(said("mnt[/x]:y").unwrap().external, ["mnt[/x]:y"]);
    assert!(said("mnt[]:x").unwrap_err().to_string().contains("mnt[]:x"));
}

#[test]
fn sizes_have_units_and_no_limit_of_their_own() {
    let size = |said: &str| {
        let mut options = Options::default();
        let row = rows().find(|row| row.name == "ghost_limit").unwrap();
        (row.from_text)(text(said), &mut options).map(|()| options.ghost_limit())
    };
    for (said, bytes) in [
        ("4096", 4096),
        ("16B", 16),
        ("512K", 512 << 10),
        ("2m", 2 << 20),
        ("2MB", 2 << 20),
        ("5 GiB", 5 << 30),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(size(said).unwrap(), bytes, "{said}");
    }
    for said in ["", "K", "1X", "-1", "1.5G", "1KK", "18446744073709551615K"] {
        let error = size(said).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{said}' is no number of bytes; ")), "{error}");
    }
    let options = Options { ghost_limit: Some(5 << 30), ..Options::default() };
    assert_eq!(options.to_rpc().ghost_limit, Some(u32::MAX), "the largest that a message can say");
}

#[test]
fn names_of_the_rpc_are_bytes() {
    let message = CriuOpts {
        images_dir_fd: -1,
        images_dir: Some(b"/\xff".to_vec()),
        exec_cmd: vec![b"\xfe".to_vec()],
        external: vec![b"file[1:2]\xfd".to_vec()],
        ..CriuOpts::default()
    };
    assert_eq!(Options::from_rpc(&message).unwrap().to_rpc(), message);
}
