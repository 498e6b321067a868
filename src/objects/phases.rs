//! The order of a restore, once.
//!
//! Every kind of open file, every attribute of a task and every kind of namespace says in which
//! [`Phase`] each of its steps belongs. [`ORDER`] says in which order the phases come, what has to
//! be over before each begins, and why. Nobody else knows an order: the engine and the unit tests
//! walk this table with the same runner.
//!
//! Phases of one process that no barrier separates are merged into one batch of system calls, so
//! the short way of a small process follows from the table.

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
    /// Capabilities and ids of every thread.
    Credentials,
    /// The deaths of those who are zombies in the image.
    Zombies,
    /// Numbers of POSIX timers.
    TimerNumbers,
    /// Actions on signals; SIGCHLD of children that died meanwhile is forgotten.
    Actions,
    /// Pending signals.
    Pending,
    /// Timers that run.
    Timers,
    /// Resource limits and whatever else hinders what comes before it.
    Limits,
    /// Policy, priority, affinity.
    Scheduling,
    /// What lets the user or the memory of a task interfere with it.
    Exposure,
}

/// What has to be over before a phase begins.
#[derive(Clone, Copy, Debug)]
pub enum Barrier {
    /// The phase before, in this process.
    Process,
    /// The phase before, in the whole tree.
    Tree,
    /// The phase before in the whole tree, if the tree is such; else in this process.
    TreeIf(fn(&Circumstances) -> bool),
}

/// What decides about barriers that are not always needed.
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
    /// What has to be over before.
    pub barrier: Barrier,
    /// Why the phase stands here.
    pub reason: &'static str,
}

const fn row(phase: Phase, barrier: Barrier, reason: &'static str) -> Row {
    Row { phase, barrier, reason }
}

/// All phases in their order.
pub const ORDER: &[Row] = {
    use Barrier::{Process, Tree, TreeIf};
    use Phase::*;
    const RIGHTS: Barrier = TreeIf(Circumstances::rights_could_be_used);
    const LENT: Barrier = TreeIf(|tree| tree.lent_rights);
    const ZOMBIES: Barrier = TreeIf(|tree| tree.zombies || tree.rights_could_be_used());
    &[
        row(
            Inodes,
            Tree,
            "memory maps them, and a parent that shares pages is filled before it clones",
        ),
        row(Processes, Tree, "a child shares pages with its parent only by being cloned from it"),
        row(Open, Tree, "files of /proc/PID can be opened when the processes are there"),
        row(Terminals, Tree, "/dev/tty can only be opened in a session that has its terminal"),
        row(Watch, Tree, "an epoll file may watch any other file, /dev/tty included"),
        row(SharedMemory, Tree, "it is filled once, through descriptors, whoever maps it"),
        row(
            Memory,
            Tree,
            "descriptor tables are empty, so that a mapped file fits under any number",
        ),
        row(
            EmptyTable,
            Tree,
            "what is set up under a number must not meet a descriptor of the task",
        ),
        row(
            Places,
            Process,
            "the executable is handed over by a descriptor, before the table is full",
        ),
        row(Directories, Process, "they are handed over by descriptors, before the table is full"),
        row(Tables, Process, "descriptors move down to their numbers: nothing may stand there"),
        row(Threads, Tree, "clones share the table and the memory of the leader"),
        row(Registrations, Process, "what a thread registers points into its memory"),
        row(Owners, Tree, "the owner of a file may be any thread of the tree"),
        row(FileLocks, Tree, "the open file descriptions are there"),
        row(Seals, Tree, "seals forbid filling and mapping"),
        row(ProcessLocks, Tree, "they are put through the descriptor tables"),
        row(Advice, Process, "advice changes what a clone inherits; locking takes a privilege"),
        row(Reach, LENT, "processes may share a memory: none is closed before each is open"),
        row(Shield, LENT, "with the first thread's credentials its user could write the memory"),
        row(Confinement, LENT, "seccomp and the login uid take privileges"),
        row(Credentials, Process, "all that takes privileges is done"),
        row(Zombies, ZOMBIES, "they die while their parents have the default action for SIGCHLD"),
        row(TimerNumbers, ZOMBIES, "a change of credentials would not let a task make them"),
        row(Actions, Process, "no child will end any more, so that SIGCHLD can be forgotten"),
        row(Pending, Process, "the actions decide what is queued"),
        row(Timers, Process, "an expiring timer queues its signal itself"),
        row(Limits, RIGHTS, "they hinder all that comes before"),
        row(Scheduling, Process, "the scheduler may prefer the task to the engine from now on"),
        row(Exposure, RIGHTS, "nobody has a right or a limit left to be had by it"),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_one_row_in_its_order() {
        let phases: Vec<Phase> = ORDER.iter().map(|row| row.phase).collect();
        assert!(phases.is_sorted_by(|one, next| one < next), "the enum lists phases as they come");
        assert_eq!(phases.last().map(|last| *last as usize + 1), Some(ORDER.len()));
    }
}
