//! The commands, for help, manual and completion.

use crate::options::Verb;

/// One command of the program.
#[derive(Debug)]
pub struct Command {
    /// As it is typed.
    pub name: &'static str,
    /// What follows the name.
    pub arguments: &'static str,
    /// A line for the help.
    pub summary: &'static str,
    /// A paragraph for the manual.
    pub about: &'static str,
    /// None where it is no request to the engine.
    pub verb: Option<Verb>,
}

/// All of them, the usual ones first.
pub const COMMANDS: [Command; 13] = [
    Command {
        name: "dump",
        arguments: "-t PID [-D DIR] [OPTION...]",
        summary: "write a process tree into a directory of images",
        about: "Stops the tree of processes below PID, writes everything about it into the image \
                directory, and ends it, unless --leave-running or --leave-stopped is given. A dump \
                is complete or absent: inventory.img appears last. What cannot be carried is \
                refused, all of it at once and by name, before anything is changed.",
        verb: Some(Verb::Dump),
    },
    Command {
        name: "restore",
        arguments: "[-D DIR] [OPTION...]",
        summary: "make the tree anew from its images",
        about: "Makes the processes of a dump again, with their pids, and lets them go on where \
                they were. The command waits for the root of the tree, unless --restore-detached \
                is given. A restore that fails leaves no process behind.",
        verb: Some(Verb::Restore),
    },
    Command {
        name: "check",
        arguments: "[--extra | --experimental | --all | --feature NAME]",
        summary: "check whether the kernel has what is needed",
        about: "Tries each feature of the kernel and tells what is missing and what that costs. \
                The exit status is 0 if all that is needed (or was asked for) is there.",
        verb: Some(Verb::Check),
    },
    Command {
        name: "show",
        arguments: "[DIR]",
        summary: "show a dump as a tree of processes; -v3 with each mapping",
        about: "Prints what is in an image directory: the processes with their memory, files and \
                sockets. With --json as one JSON document.",
        verb: None,
    },
    Command {
        name: "continue",
        arguments: "-t PID",
        summary: "set a tree going that --leave-stopped left stopped",
        about: "Sends SIGCONT to every process of the tree below PID, children first.",
        verb: Some(Verb::Continue),
    },
    Command {
        name: "dedup",
        arguments: "[-D DIR]",
        summary: "free the pages of older dumps that a newer one has",
        about: "The directory's entry `parent' names the dump before it, and so on. Pages that the \
                newest dump has itself are taken out of the older ones by making holes: files keep \
                their sizes and give their blocks back. After that an older dump cannot be \
                restored by itself. A directory without parent is left as it is.",
        verb: Some(Verb::Dedup),
    },
    Command {
        name: "cpuinfo dump",
        arguments: "[-D DIR]",
        summary: "write facts of the processor into cpuinfo.img",
        about: "Writes what the processor can do into cpuinfo.img.",
        verb: Some(Verb::CpuinfoDump),
    },
    Command {
        name: "cpuinfo check",
        arguments: "[-D DIR] [--cpu-cap=CAP]",
        summary: "compare cpuinfo.img with this processor",
        about: "Compares cpuinfo.img with the processor it runs on, and tells each difference. \
                --cpu-cap says what counts.",
        verb: Some(Verb::CpuinfoCheck),
    },
    Command {
        name: "service",
        arguments: "[--address PATH] [--daemon] [--pidfile FILE]",
        summary: "serve RPC requests on a socket",
        about: "Listens on a SOCK_SEQPACKET socket and serves each client in a process of its own. \
                A client that is not root may dump only what is its own.",
        verb: Some(Verb::Service),
    },
    Command {
        name: "swrk",
        arguments: "FD",
        summary: "serve RPC requests on a descriptor",
        about: "The worker that libcriu, runc and go-criu start: FD is a connected SOCK_SEQPACKET \
                socket that was handed down to it.",
        verb: None,
    },
    Command {
        name: "pre-dump",
        arguments: "-t PID [-D DIR]",
        summary: "write memory ahead of a dump",
        about: "Writes the memory of a tree while it runs, so that a dump has less to write.",
        verb: Some(Verb::PreDump),
    },
    Command {
        name: "page-server",
        arguments: "--port PORT [-D DIR]",
        summary: "take the pages of a dump on another machine",
        about: "Receives pages from a dump on another machine and stores them.",
        verb: Some(Verb::PageServer),
    },
    Command {
        name: "lazy-pages",
        arguments: "-D DIR",
        summary: "bring the pages of a running restore",
        about: "Serves pages to a tree that was restored with --lazy-pages.",
        verb: Some(Verb::LazyPages),
    },
];

impl Command {
    /// Whether this version does what it says.
    pub fn is_carried_out(&self) -> bool {
        self.verb.is_none_or(|verb| crate::options::table::VERBS.contains(&verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_its_command() {
        for verb in Verb::ALL {
            let named = COMMANDS.iter().find(|command| command.name == verb.name());
            assert_eq!(named.and_then(|command| command.verb), Some(verb), "{verb:?}");
        }
    }
}
