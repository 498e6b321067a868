//! Options of every request: what is dumped, where the files go, what happens at the end.

use std::ffi::OsStr;

use super::{Argument, Given, Row, access};
use crate::error::Result;
use crate::objects::cpu::cpu_cap;
use crate::options::Options;
use crate::options::Verb::{self, *};

const RESTORES: &[Verb] = &[Restore];
const BOTH: &[Verb] = &[Dump, PreDump, Restore];

pub(super) const ROWS: &[Row] = &[
    Row { from_text: pid_from_text, ..scalar!(pid, access::number) }
        .rpc(&[2])
        .long(&["tree"], Argument::Required("PID"))
        .short('t')
        .setters(&["set_pid"])
        .default("the caller itself (RPC)")
        .verbs(&[Dump, PreDump, Continue])
        .honoured(&[Dump, Continue])
        .help("the tree of processes whose root is PID"),
    Row {
        from_rpc: |message, options| {
            if message.leave_running == Some(true) {
                leave(options, Fate::Running);
            }
            Ok(())
        },
        from_text: |_, options| {
            leave(options, Fate::Running);
            Ok(())
        },
        ..flag!(leave_running)
    }
    .rpc(&[3])
    .long(&["leave-running"], Argument::None)
    .short('R')
    .setters(&["set_leave_running"])
    .verbs(&[Dump])
    .honoured(&[Dump])
    .help("the tree runs on after its dump"),
    Row {
        from_rpc: |message, options| {
            if message.leave_stopped == Some(true) {
                leave(options, Fate::Stopped);
            }
            Ok(())
        },
        from_text: |_, options| {
            leave(options, Fate::Stopped);
            Ok(())
        },
        ..flag!(leave_stopped)
    }
    .rpc(&[69])
    .long(&["leave-stopped"], Argument::None)
    .short('s')
    .setters(&["set_leave_stopped"])
    .verbs(&[Dump, Restore])
    .honoured(&[Dump, Restore])
    .help("the tree stays stopped after its dump or restore"),
    local_flag!(restore_detached)
        .long(&["restore-detached", "daemon"], Argument::Negatable)
        .short('d')
        .default("no on the command line, yes elsewhere")
        .verbs(&[Restore, Service])
        .honoured(&[Restore, Service])
        .help("do not wait for the restored root task; serve in the background"),
    flag!(rst_sibling)
        .rpc(&[26])
        .long(&["restore-sibling"], Argument::Negatable)
        .short('S')
        .verbs(RESTORES)
        .honoured(RESTORES)
        .help("restore the root task as a child of the caller"),
    Row {
        name: "images_dir_fd",
        from_rpc: |message, options| {
            let said = Some(message.images_dir_fd).filter(|fd| *fd != -1);
            options.images_dir_fd = said.or(options.images_dir_fd);
            Ok(())
        },
        to_rpc: |options, message| message.images_dir_fd = options.images_dir_fd.unwrap_or(-1),
        ..access::EMPTY
    }
    .rpc(&[1])
    .setters(&["set_images_dir_fd"])
    .verbs(&Verb::ALL)
    .honoured(&Verb::ALL)
    .help("directory of the images, as a descriptor of the caller"),
    name!(images_dir)
        .rpc(&[68])
        .long(&["images-dir"], Argument::Required("DIR"))
        .short('D')
        .default("the current directory (command line)")
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .help("directory of the images"),
    Row { from_text: |_, _| Ok(()), ..scalar!(work_dir_fd, access::number) }
        .rpc(&[17])
        .setters(&["set_work_dir_fd"])
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .help("directory of log, pid file and statistics, as a descriptor of the caller"),
    local_name!(work_dir)
        .long(&["work-dir"], Argument::Required("DIR"))
        .short('W')
        .default("the directory of the images")
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .help("directory of log, pid file and statistics"),
    local_name!(pidfile)
        .long(&["pidfile"], Argument::Required("FILE"))
        .verbs(&[Restore, PageServer, LazyPages, Service])
        .honoured(&[Restore, Service])
        .help("write the pid of the root task, or of the service, to FILE"),
    flag!(shell_job)
        .rpc(&[7])
        .long(&["shell-job"], Argument::Negatable)
        .short('j')
        .setters(&["set_shell_job"])
        .verbs(&[Dump, Restore])
        .honoured(&[Dump, Restore])
        .help("session and terminal may be outside the tree"),
    scalar!(timeout, access::number)
        .rpc(&[45])
        .long(&["timeout"], Argument::Required("SECONDS"))
        .setters(&["set_timeout"])
        .default("10")
        .verbs(&[Dump, PreDump, Service])
        .honoured(&[Dump, Service])
        .help("how long stopping the tree may take; how long a service waits for a user"),
    flag!(notify_scripts)
        .rpc(&[12])
        .verbs(BOTH)
        .honoured(BOTH)
        .setters(&["set_notify_cb"])
        .help("the caller is asked at every stage"),
    local_names!(action_scripts)
        .long(&["action-script"], Argument::Required("FILE"))
        .verbs(&[Dump, PreDump, Restore, Service])
        .honoured(&[Dump, PreDump, Restore, Service])
        .help("run FILE at every stage"),
    Row { from_text: |_, _| Ok(()), ..names!(exec_cmd) }
        .rpc(&[22])
        .setters(&["set_exec_cmd"])
        .verbs(RESTORES)
        .honoured(RESTORES)
        .help("after the restore, become the command given; it is the parent of the root task"),
    name!(config_file)
        .rpc(&[51])
        .setters(&["set_config_file"])
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .help("a configuration file that overrides the request"),
    Row { from_text: log_level_from_text, ..scalar!(log_level, access::number) }
        .rpc(&[9])
        .long(&["verbosity"], Argument::Optional("NUM"))
        .short('v')
        .setters(&["set_log_level"])
        .default("2")
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .help("1 errors, 2 warnings too, 3 information and time stamps too, 4 everything"),
    name!(log_file)
        .rpc(&[10])
        .long(&["log-file"], Argument::Required("FILE"))
        .short('o')
        .setters(&["set_log_file"])
        .default("standard error (command line), criu.log (RPC)")
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .help("log to FILE in the work directory"),
    flag!(log_to_stderr)
        .rpc(&[71])
        .verbs(&Verb::ALL)
        .honoured(&Verb::ALL)
        .setters(&["set_log_to_stderr"])
        .help("log to standard error"),
    local_flag!(log_pid)
        .long(&["log-pid"], Argument::Negatable)
        .verbs(RESTORES)
        .honoured(RESTORES)
        .help("a log of its own for each restored task: the log file's name and the pid"),
    flag!(display_stats)
        .rpc(&[70])
        .long(&["display-stats"], Argument::Negatable)
        .setters(&["set_display_stats"])
        .verbs(BOTH)
        .honoured(&[Dump, Restore])
        .help("print statistics at the end"),
    scalar!(status_fd, access::number)
        .rpc(&[49])
        .long(&["status-fd"], Argument::Required("FD"))
        .setters(&["set_status_fd"])
        .verbs(&[Dump, PageServer, LazyPages, Service])
        .honoured(&[Service])
        .permits(&[Dump], "only a dump with --lazy-pages has something to say there")
        .help("write a zero byte to FD when requests can be served"),
    flag!(unprivileged)
        .rpc(&[67])
        .long(&["unprivileged"], Argument::Negatable)
        .setters(&["set_unprivileged"])
        .verbs(BOTH)
        .honoured(BOTH)
        .help("accept the limits of a caller who is not root"),
    Row {
        // Who names properties wants the image.
        from_rpc: |message, options| {
            options.cpu_cap = message.cpu_cap.map(|caps| caps | cpu_cap::IMAGE).or(options.cpu_cap);
            Ok(())
        },
        from_text: cpu_cap_from_text,
        ..scalar!(cpu_cap, access::number)
    }
    .rpc(&[20])
    .long(&["cpu-cap"], Argument::Optional("CAP"))
    .setters(&["set_cpu_cap"])
    .default("fpu,ins")
    .verbs(&[Dump, Restore, CpuinfoDump, CpuinfoCheck])
    .honoured(&[Dump, Restore, CpuinfoDump, CpuinfoCheck])
    .help("properties of the processor to write and compare: cpu, fpu, ins, all, none"),
    local_name!(libdir)
        .long(&["libdir"], Argument::Required("DIR"))
        .short('L')
        .verbs(BOTH)
        .honoured(BOTH)
        .except(
            |options| options.libdir.as_deref().is_some_and(has_plugins),
            "there are plugins in this directory, and this version loads none",
        )
        .help("directory of plugins: there must be none in it"),
    // No deprecated behaviour exists, so there is nothing that accepting it would change.
    local_flag!(deprecated)
        .long(&["deprecated"], Argument::Negatable)
        .verbs(BOTH)
        .honoured(BOTH)
        .help("accept deprecated behaviour"),
    local_flag!(check_extra)
        .long(&["extra"], Argument::Negatable)
        .verbs(&[Check])
        .honoured(&[Check])
        .help("check features that only some trees need, too"),
    local_flag!(check_experimental)
        .long(&["experimental"], Argument::Negatable)
        .verbs(&[Check])
        .honoured(&[Check])
        .help("check experimental features, too"),
    Row {
        name: "features",
        from_text: |given, options| {
            options.features.push(access::text(given)?.to_owned());
            Ok(())
        },
        asks: |options| !options.features.is_empty(),
        ..access::EMPTY
    }
    .long(&["feature"], Argument::Required("NAME"))
    .verbs(&[Check])
    .honoured(&[Check])
    .help("check this feature only"),
];

/// What becomes of the tree; what is said last holds.
enum Fate {
    Running,
    Stopped,
}

fn leave(options: &mut Options, fate: Fate) {
    let (running, stopped) = match fate {
        Fate::Running => (Some(true), None),
        Fate::Stopped => (None, Some(true)),
    };
    (options.leave_running, options.leave_stopped) = (running, stopped);
}

fn has_plugins(dir: &OsStr) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|end| end == "so"))
}

fn pid_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let pid = access::number::<i32>(given)?;
    if pid <= 0 {
        return Err(access::bad(format!("{pid} is not the id of a process")));
    }
    options.pid = Some(pid);
    Ok(())
}

/// `-v` adds one, `-vvv` three, `-v4` is 4; text that is no number is 0, as getopt users know it.
fn log_level_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let level = match given {
        Given::Text(more) if more.as_encoded_bytes().starts_with(b"v") => {
            let more = i32::try_from(more.len()).unwrap_or(i32::MAX);
            options.log_level().saturating_add(more).saturating_add(1)
        }
        Given::Text(text) => text.to_str().and_then(|text| text.parse().ok()).unwrap_or(0),
        Given::Yes | Given::No => options.log_level().saturating_add(1),
    };
    options.log_level = Some(level);
    Ok(())
}

/// A list of properties; `^` in front of one takes it away. Whoever names any wants the image.
fn cpu_cap_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let Given::Text(_) = given else {
        options.cpu_cap = Some(options.cpu_cap() | cpu_cap::ALL | cpu_cap::IMAGE);
        return Ok(());
    };
    let list = access::text(given)?;
    let mut caps = options.cpu_cap();
    for item in list.split(',') {
        let (inverse, name) = match item.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, item),
        };
        let bits = match name {
            "fpu" => cpu_cap::FPU,
            "cpu" => cpu_cap::CPU,
            "ins" => cpu_cap::INS,
            "all" => cpu_cap::ALL,
            "none" => {
                caps = if inverse { cpu_cap::ALL } else { 0 };
                continue;
            }
            _ => return Err(access::unknown(name, "cpu, fpu, ins, all, none")),
        };
        caps = if inverse { caps & !bits } else { caps | bits };
    }
    options.cpu_cap = Some(if caps == 0 { 0 } else { caps | cpu_cap::IMAGE });
    Ok(())
}
