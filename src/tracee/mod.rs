//! The tracer: processes that are made to run system calls for the engine.
//!
//! Much of a process can be asked or changed only by the process itself. So the engine writes a
//! [`batch`] into it, an array of system calls with the data that they point to, and lets one of
//! its threads run a stub that makes the calls. Two kinds of process run batches:
//!
//! * a [`dumpee`] belongs to somebody else. Whatever the engine does to it must be invisible
//!   afterwards, and if the engine dies at any instant the dumpee restores itself and goes on.
//!
//!   ```text
//!   running --seize--> FrozenTask --release--> running
//!                  inject |   ^ finish
//!                         v   |
//!                       Injection
//!   ```
//!
//! * a [`blank`] is made by the engine, and a dumped process is written into it. It never runs code
//!   of its own before it is launched, and until then it dies with the engine.
//!
//!   ```text
//!   Blank::spawn or clone --batches--> Blank --arm--> Armed --launch--> running
//!                                        `--into_zombie--> zombie
//!   ```
//!
//! Invariants:
//! * ptrace belongs to the thread that seized a tracee, so the values of a dumpee or a blank stay in
//!   the thread that made them;
//! * dropping a value is always safe: a dumpee runs on as it was, a blank is killed;
//! * no breakpoint is set and no single step is made, because the kernel forces their SIGTRAP;
//! * the death of a tracee is an error of its own,
//!   [`Kind::TaskDied`](crate::error::Kind::TaskDied).

pub mod batch;
pub mod blank;
pub mod dumpee;
