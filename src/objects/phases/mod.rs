//! The order of a restore, once.
//!
//! Every kind of open file and every attribute of a task says in which [`Phase`] each of its steps
//! belongs. [`ORDER`] says in which order the phases come, who takes each of them, what has to be over
//! before, and why. Nobody else knows an order: the engine and the unit tests are taken through the
//! table by the same [`Walk`].
//!
//! What several phases do in one process is one [`Turn`] of it where the tree has not to wait in
//! between, and its system calls are one batch. So a small process is quick without a second way
//! through a restore.

mod turn;
mod walk;

use std::fmt::{self, Write};

pub use self::turn::Turn;
pub use self::walk::{Walk, World};

/// A place in the order of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Inodes that memory may map: memfds, and files that have no name any more.
    Inodes,
    /// The processes with their parents, sessions and groups, as blanks.
    Processes,
    /// Open file descriptions that the engine can make.
    Open,
    /// Controlling terminals and foreground groups of sessions; `/dev/tty`.
    Terminals,
    /// What watches other files.
    Watch,
    /// Contents of memory that several processes map, or that only descriptors lead to.
    SharedMemory,
    /// Layout and contents of each address space.
    Memory,
    /// What needs descriptor numbers that are free by chance only in an empty table.
    EmptyTable,
    /// Recorded places of the address space (brk, arguments, auxiliary vector) and the executable.
    Places,
    /// Root, working directory, umask.
    Directories,
    /// Descriptor tables.
    Tables,
    /// All threads but the leader.
    Threads,
    /// What a thread registers with the kernel: addresses in its memory, its name.
    Registrations,
    /// Who gets the signals of open files.
    Owners,
    /// Locks that belong to open file descriptions.
    FileLocks,
    /// Seals of memfds.
    Seals,
    /// Locks that belong to processes.
    ProcessLocks,
    /// Advice, guards and locks of memory.
    Advice,
    /// A descriptor of the engine's on each memory, by which it stays within reach.
    Reach,
    /// Memory closed to everybody who has it not open yet.
    Shield,
    /// Seccomp, and what only a privileged task may write about itself.
    Confinement,
    /// Numbers of POSIX timers.
    TimerNumbers,
    /// Capabilities and ids of every thread.
    Credentials,
    /// The deaths of those who are zombies in the image.
    Zombies,
    /// Actions on signals; SIGCHLD of children that died meanwhile is forgotten.
    Actions,
    /// Pending signals.
    Pending,
    /// Timers that run.
    Timers,
    /// Resource limits and whatever else hinders what comes before it.
    Limits,
    /// What lets the user or the memory of a task interfere with it.
    Exposure,
    /// Policy and priority.
    Scheduling,
}

/// Who takes a phase, and what has to be over before.
#[derive(Clone, Copy, Debug)]
pub enum Taken {
    /// The engine takes it, once for the tree: all that comes before is over in every process.
    Once,
    /// The same, for such a tree. Another one does not have the phase.
    OnceIf(Condition),
    /// Every process takes it.
    Each(Barrier),
}

/// What has to be over before a process takes a phase.
#[derive(Clone, Copy, Debug)]
pub enum Barrier {
    /// The phases before, in this process.
    Process,
    /// The phases before, in the whole tree.
    Tree,
    /// The phases before in the whole tree, if the tree is such; else in this process.
    TreeIf(Condition),
}

/// Says whether a tree is such.
pub type Condition = fn(&Circumstances) -> bool;

/// What decides about phases and barriers that are not always needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Some process of the image is a zombie.
    pub zombies: bool,
    /// The engine has capabilities that must not get into other hands.
    pub lent_rights: bool,
    /// Some processes have one address space in common.
    pub shared_address_space: bool,
}

impl Circumstances {
    /// Whether one process could use rights that another one has not given up yet.
    fn rights_could_be_used(&self) -> bool {
        self.lent_rights || self.shared_address_space
    }
}

/// One row of [`ORDER`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which phase this is about.
    pub phase: Phase,
    /// Who takes it, and when.
    pub taken: Taken,
    /// Why the phase stands here.
    pub reason: &'static str,
}

const fn once(phase: Phase, reason: &'static str) -> Row {
    Row { phase, taken: Taken::Once, reason }
}

const fn each(phase: Phase, barrier: Barrier, reason: &'static str) -> Row {
    Row { phase, taken: Taken::Each(barrier), reason }
}

/// All phases in their order.
pub const ORDER: &[Row] = {
    use Barrier::{Process, Tree, TreeIf};
    use Phase::*;
    const LENT: Barrier = TreeIf(|tree| tree.lent_rights);
    const RIGHTS: Barrier = TreeIf(Circumstances::rights_could_be_used);
    &[
        once(
            Inodes,
            "memory maps them, and a parent that shares pages is filled before it clones its child",
        ),
        once(Processes, "a child shares pages with its parent only by being cloned from it"),
        once(Open, "files of /proc/PID can be opened when the processes are there"),
        once(Terminals, "/dev/tty can only be opened in a session that has its terminal"),
        once(Watch, "an epoll file may watch any other file, /dev/tty included"),
        once(SharedMemory, "it is filled once, through descriptors, whoever maps it"),
        each(
            Memory,
            Tree,
            "descriptor tables are empty, so that a mapped file can be handed over at any number",
        ),
        each(
            EmptyTable,
            Tree,
            "what is set up under a number must not meet a descriptor of the task, nor one that is \
             handed over to map it",
        ),
        each(Places, Process, "the executable is handed over before the table is full"),
        each(Directories, Process, "they are handed over before the table is full"),
        each(Tables, Process, "descriptors move down to their numbers, where nothing may stand"),
        each(Threads, Process, "they share the table and the memory of their leader"),
        each(Registrations, Process, "what a thread registers points into its memory"),
        once(Owners, "the owner of a file may be any thread of the tree"),
        once(FileLocks, "the open file descriptions are there"),
        once(Seals, "seals forbid to fill and to map"),
        each(ProcessLocks, Process, "they are put through descriptors of the process"),
        each(
            Advice,
            Process,
            "some advice changes what a clone inherits; to lock memory may take a privilege",
        ),
        each(Reach, Process, "memory that is shielded cannot be opened"),
        each(
            Shield,
            LENT,
            "processes may share one memory, and all have to reach it; without a shield its user \
             could write it as soon as one thread has given up its privileges",
        ),
        each(Confinement, Process, "it takes privileges"),
        each(TimerNumbers, Process, "they may take several batches; all that follows takes one"),
        each(Credentials, Process, "all that takes privileges is done"),
        Row {
            phase: Zombies,
            taken: Taken::OnceIf(|tree| tree.zombies),
            reason: "their parents have the default action for SIGCHLD",
        },
        each(Actions, Process, "no child ends any more, so that its SIGCHLD can be forgotten"),
        each(Pending, Process, "an action may be to ignore a signal, which is not queued then"),
        each(Timers, Process, "a timer that expires at once queues its signal behind the others"),
        each(Limits, Process, "they hinder all that comes before"),
        each(Exposure, RIGHTS, "nobody has a right or a limit left to be had by interfering"),
        each(Scheduling, Process, "from now on the scheduler may prefer a task to the engine"),
    ]
};

impl Phase {
    /// The last of all.
    pub const LAST: Self = ORDER[ORDER.len() - 1].phase;

    /// Whether the engine takes it, once for the tree.
    pub const fn is_taken_once(self) -> bool {
        matches!(ORDER[self as usize].taken, Taken::Once | Taken::OnceIf(_))
    }
}

impl fmt::Display for Phase {
    /// In words: "empty table".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, letter) in format!("{self:?}").char_indices() {
            if at > 0 && letter.is_ascii_uppercase() {
                f.write_char(' ')?;
            }
            f.write_char(letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_one_row_in_its_order() {
        let phases: Vec<Phase> = ORDER.iter().map(|row| row.phase).collect();
        assert!(phases.is_sorted_by(|one, next| one < next), "the enum lists phases as they come");
        assert_eq!(Phase::LAST as usize + 1, ORDER.len());
    }

    #[test]
    fn phases_have_names_in_words() {
        assert_eq!(Phase::EmptyTable.to_string(), "empty table");
        assert_eq!(Phase::Open.to_string(), "open");
    }
}
