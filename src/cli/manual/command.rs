//! criu(8).

use super::roff::Page;
use crate::cli::commands::COMMANDS;
use crate::cli::help;
use crate::engine::check;
use crate::engine::hooks::Stage;
use crate::options::getopt;
use crate::options::table::{self, Argument, Row};

const DESCRIPTION: &str = "\
criu writes a tree of running processes into files (a dump), and makes the same tree anew from them \
(a restore), on this machine or on another. Images, options, exit statuses and the protocol are those \
of CRIU 4.2; dumps of either program are restored by the other. Dump and restore take root, or a \
program that is lent to users (see below).";

const OPTIONS: &str = "\
Options and other words may be mixed; `--' ends the options. A long name may be shortened as long as \
it stays clear. An option without an argument that has `--no-NAME' beside it can be negated so. An \
option that this version knows and does not honour is refused by name where it is asked for. One that \
speaks of objects which are not carried is accepted: it means nothing to a tree that has none of them, \
and a tree that has one is refused by the object's name.";

const CONFIGURATION: &str = "\
A configuration file has one option a line, named as on the command line without the dashes, and its \
argument after a blank. Double quotes keep blanks, \\\" is a quote, # begins a comment. What has no \
argument may be followed by yes; its opposite is no-NAME. A file that is not there says nothing, which \
the log tells of one that was named. A later source overrides an earlier one:";

const CONFIGURATION_FILES: [(&str, &str); 6] = [
    ("/etc/criu/default.conf", "for all users; not with --config or --no-default-config"),
    ("$HOME/.criu/default.conf", "of the user; not with --config or --no-default-config"),
    ("$CRIU_CONFIG_FILE", "the file that the environment names"),
    ("--config FILE", "the file that the command line names"),
    ("the command line, or the RPC request", "of which a request overrides the files above"),
    ("config_file of an RPC request", "overrides the request itself"),
];

const SCRIPTS: &str = "\
Each --action-script is run at every stage below, the one given last first. A script that does not \
end with 0 stops the work; after post-resume it is too late for that. Its environment has \
CRTOOLS_SCRIPT_ACTION, the stage; CRTOOLS_IMAGE_DIR, the image directory; and CRTOOLS_INIT_PID, the \
root of the tree, where there is one by then. The stages are";

const USERS: &str = "\
With the set-user-ID bit of root, or with the file capability cap_checkpoint_restore+ep, criu serves \
every user: dump, restore, check, swrk and what needs no privileges. Before it reads or writes \
anything it becomes the user who started it, for good, and keeps CAP_CHECKPOINT_RESTORE alone. So the \
kernel lets it trace the user's own processes only, and images, logs, pid files, configuration files \
and scripts have to be in reach of the user: the images directory above all has to be one that the \
user may write. Restored processes have the credentials of the image and nothing of what was lent. An \
image with user or group ids, supplementary groups, capabilities, securebits or limits that the user \
has not is refused. As there is no CAP_SYS_ADMIN, seccomp filters are refused, and there is no time \
namespace: monotonic clocks jump ahead by the time that has passed since the dump. A restore that \
would set them back, after a reboot or on another machine, is refused.";

const FILES: [(&str, &str); 7] = [
    ("DIR/*.img", "the images; inventory.img makes the dump whole"),
    ("DIR/manifest", "sizes and checksums of the others, which a restore compares"),
    ("DIR/task-extras", "what the format of CRIU has no field for"),
    ("WORK/stats-dump, WORK/stats-restore", "times in microseconds, and counts of pages"),
    ("WORK/LOG", "the log that --log-file names"),
    ("WORK/LOG.PID", "that of one restored task, with --log-pid"),
    ("WORK/PIDFILE", "the pid of the root, with --pidfile; the file must not exist"),
];

const EXIT: [(&str, &str); 3] = [
    ("0", "done"),
    ("1", "failed; the log, or standard error, says what, on which object, why, and what helps"),
    ("255", "an action script refused post-dump, cpuinfo dump failed, or the command was exec"),
];

const EXAMPLES: [(&str, &str); 7] = [
    (
        "A job of this shell is put away, and goes on later:",
        "criu dump -t 1234 -D /tmp/images -j\n\
      criu restore -D /tmp/images -j",
    ),
    (
        "A daemon is copied to disk and runs on:",
        "criu dump -t 1234 -D /var/lib/images -R -v4 -o dump.log",
    ),
    (
        "It comes back in the background:",
        "criu restore -D /var/lib/images -d --pidfile root.pid -o restore.log",
    ),
    (
        "The restorer becomes a supervisor, the parent of the tree:",
        "criu restore -D images --exec-cmd -- /usr/sbin/supervisor --child",
    ),
    (
        "The other end of a pipe is another one now (fd 5 of the shell):",
        "criu restore -D images -d --inherit-fd 'fd[5]:pipe:[4711]'",
    ),
    (
        "Does it fit to the processor of the other machine?",
        "criu cpuinfo dump -D images\ncriu cpuinfo check -D images --cpu-cap=ins",
    ),
    ("What is in a dump, and what does the kernel lack?", "criu show images\ncriu check --all"),
];

const JSON: &str = "With --json one object on standard output, in one line, says what a command came \
to. Each has `command' and `success'; one that failed has `error' with `kind', `errno' and `message'. \
A dump or restore has `pid', `images' and `stats', times of which end in _us (microseconds) while the \
rest are pages. A check has `verdict' (good, limited or bad) and `features', each with `name', `need', \
`cost', `supported' and, where it is missing, `error'. What is shown has `made_by', `time' (seconds \
since 1970), `damage', `saved' (bytes), `tasks', each with its `memory', `files' and `sockets', and \
`files', the image files, each with `name' and `entries'.";

/// The page's source.
pub fn page() -> String {
    let mut page = Page::new("CRIU", "8", "System Administration");
    page.section("Name");
    page.text("criu - checkpoint and restore of processes");
    page.section("Synopsis");
    let carried_out = COMMANDS.iter().filter(|command| command.is_carried_out());
    let lines = carried_out.map(|command| format!("criu {} {}", command.name, command.arguments));
    page.code(&lines.collect::<Vec<_>>().join("\n"));
    page.section("Description");
    page.text(DESCRIPTION);
    commands(&mut page);
    options(&mut page);
    surroundings(&mut page);
    page.section("JSON");
    page.text(JSON);
    page.section("Examples");
    for (what, how) in EXAMPLES {
        page.text(what);
        page.code(how);
    }
    page.section("See also");
    page.text("libcriu(3), ptrace(2), namespaces(7), crit(1)");
    page.finish()
}

fn commands(page: &mut Page) {
    page.section("Commands");
    for command in &COMMANDS {
        let note = if command.is_carried_out() { "" } else { " This version refuses it." };
        page.item(command.name, &format!("{}{note}", command.about));
    }
}

fn options(page: &mut Page) {
    page.section("Options");
    page.text(OPTIONS);
    for (title, rows) in table::SECTIONS {
        page.subsection(title);
        rows.iter().filter(|row| !row.long.is_empty()).for_each(|row| option(page, row));
    }
    page.subsection("Other options");
    for (long, short, argument, help) in getopt::own_rows() {
        page.item(&flags(&[long], short, argument), &sentence(help));
    }
    page.subsection("Features that --feature knows, and what the lack of each costs");
    page.text("`--feature list' lists them.");
    for feature in check::FEATURES {
        let need = sentence(feature.need.words());
        page.item(feature.name, &format!("{need} Without it, {}.", feature.cost));
    }
}

fn option(page: &mut Page, row: &Row) {
    let mut text = sentence(row.help);
    if !matches!(row.default, "" | "no") {
        text += &format!(" Default: {}.", row.default);
    }
    let names = |wanted: &dyn Fn(&crate::options::Verb) -> bool| {
        let verbs = row.verbs.iter().filter(|verb| table::VERBS.contains(verb) && wanted(verb));
        verbs.map(|verb| verb.name()).collect::<Vec<_>>().join(", ")
    };
    let honoured = names(&|verb| row.honoured.contains(verb));
    let permitted = names(&|verb| row.is_permitted_on(*verb));
    let refused = names(&|verb| !row.is_accepted_on(*verb));
    let all = table::VERBS.iter().all(|verb| row.honoured.contains(verb));
    if !honoured.is_empty() && !all {
        text += &format!("\nFor {honoured}.");
    }
    if !permitted.is_empty() {
        text += &format!("\nAccepted on {permitted}; {}.", row.permits.1);
    }
    if !refused.is_empty() {
        text += &format!("\nRefused on {refused}; {}.", row.refused);
    }
    if let Some((_, why)) = row.except {
        text += &format!("\nWhat cannot be honoured is refused: {why}.");
    }
    page.item(&flags(row.long, row.short, row.argument), &text);
}

/// As the manual spells them: `-j, --shell-job, --no-shell-job`.
fn flags(long: &[&str], short: Option<char>, argument: Argument) -> String {
    let short = short.map(|letter| format!("-{letter}"));
    let value = help::value(argument);
    let long = long.iter().flat_map(|name| {
        let negated = (argument == Argument::Negatable).then(|| format!("--no-{name}"));
        std::iter::once(format!("--{name}{value}")).chain(negated)
    });
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

/// Help texts are notes: here they begin and end as sentences do.
fn sentence(help: &str) -> String {
    let mut letters = help.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if help.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

fn surroundings(page: &mut Page) {
    page.section("Configuration files");
    page.text(CONFIGURATION);
    CONFIGURATION_FILES.iter().for_each(|(source, what)| page.item(source, what));
    page.section("Action scripts");
    page.text(SCRIPTS);
    let stages: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
    page.text(&format!("{}.", stages.join(", ")));
    page.section("Use by users other than root");
    page.text(USERS);
    page.section("Files");
    page.text("DIR is the image directory, WORK the work directory.");
    FILES.iter().for_each(|(file, what)| page.item(file, what));
    page.section("Exit status");
    EXIT.iter().for_each(|(status, what)| page.item(status, what));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_command_is_described() {
        let text = page().replace("\\-", "-");
        for long in table::rows().flat_map(|row| row.long) {
            assert!(text.contains(&format!("--{long}")), "{long}");
        }
        for command in &COMMANDS {
            assert!(text.contains(&format!("\\fB{}\\fR", command.name)), "{}", command.name);
        }
    }

    #[test]
    fn flags_are_spelled_out() {
        let row = |name: &str| table::rows().find(|row| row.name == name).unwrap();
        let of = |row: &Row| flags(row.long, row.short, row.argument);
        assert_eq!(of(row("pid")), "-t, --tree PID");
        assert_eq!(of(row("shell_job")), "-j, --shell-job, --no-shell-job");
        assert_eq!(of(row("cpu_cap")), "--cpu-cap[=CAP]");
    }
}
