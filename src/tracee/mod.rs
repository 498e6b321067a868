//! The tracer: processes that are made to run system calls for the engine.
//!
//! A [`batch`] is an array of system calls and the data that they point to. Two kinds of process run
//! batches: a [`dumpee`], which has to go on afterwards as if nothing had happened, even if the
//! engine dies half-way, and a [`blank`], which the engine makes and writes a dumped process into.
//!
//! ptrace belongs to the thread that seized a tracee, so dumpees and blanks stay in the thread that
//! made them.

pub mod batch;
pub mod blank;
pub mod dumpee;
