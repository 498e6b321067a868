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
            // Without blanks, as a field may stand on a line of its own.
            let text: String = text.split_whitespace().collect();
            let after = text.split("options.").skip(1);
            let name = |rest: &str| {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                rest[..end.unwrap_or(rest.len())].to_owned()
            };
            let names: BTreeSet<String> = after.map(name).collect();
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
        let asked_for = !row.honoured.is_empty() || row.partly;
        assert!(asked_for, "the engine reads {field}, which is refused on every verb");
    }
}

/// A value that each flag takes.
fn example(row: &Row) -> Given<'static> {
    match row.argument {
        Argument::None | Argument::Negatable | Argument::Optional(_) => Given::Yes,
        Argument::Required("PID" | "NUM" | "FD" | "PORT" | "SECONDS") => Given::Text("7"),
        Argument::Required("SIZE") => Given::Text("2M"),
        Argument::Required("net") => Given::Text("net"),
        Argument::Required("IN=OUT") => Given::Text("eth0=veth0"),
        Argument::Required("KEY:VALUE") => Given::Text("/mnt:name"),
        Argument::Required("fd[NUM]:RES") => Given::Text("fd[3]:pipe:[5]"),
        Argument::Required("NS:{PID|FILE}[,EXTRA]") => Given::Text("net:1"),
        Argument::Required("METHOD") if row.name == "network_lock" => Given::Text("skip"),
        Argument::Required("METHOD") => Given::Text("buildid"),
        Argument::Required("MODE") => Given::Text("read"),
        Argument::Required(_) => Given::Text("text"),
    }
}

#[test]
fn every_flag_takes_its_value_and_what_is_not_honoured_is_refused_by_name() {
    for row in rows().filter(|row| !row.long.is_empty()) {
        let mut options = Options::default();
        (row.from_text)(example(row), &mut options)
            .unwrap_or_else(|error| panic!("{row:?}: {error}"));
        for verb in VERBS.iter().filter(|verb| row.verbs.contains(verb)) {
            let honoured = row.honoured.contains(verb) || !(row.asks)(&options);
            match check(*verb, &options) {
                Ok(()) => assert!(honoured, "{row:?} on {verb:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::BadOptions);
                    let named = error.to_string().contains(row.long[0]);
                    let together = row.name.starts_with("ps.");
                    assert!(!honoured || together, "{row:?} on {verb:?}: {error}");
                    assert!(named || together, "{row:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn all_that_is_refused_is_named_at_once() {
    let options =
        Options { tcp_established: Some(true), force_irmap: Some(true), ..Options::default() };
    let text = check(Verb::Dump, &options).unwrap_err().to_string();
    assert_eq!(
        text,
        "option --force-irmap (force_irmap): look for the paths of inotify watches in the file \
         system: is not honoured on dump by this version; leave it out\n\
         option --tcp-established (tcp_established): carry established TCP connections: \
         is not honoured on dump by this version; leave it out"
    );
}

#[test]
fn a_verb_that_is_not_carried_out_is_refused() {
    let error = check(Verb::PreDump, &Options::default()).unwrap_err();
    assert!(error.to_string().starts_with("pre-dump: this verb is not carried out"), "{error}");
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
    assert_eq!(level(Given::Text("vvv")), 6);
    assert_eq!(level(Given::Text("4")), 4);
    assert_eq!(level(Given::Text("erbosity=0")), 0);
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
