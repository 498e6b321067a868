//! Rebuilding a tree of processes: parents, sessions, process groups, zombies, shared tables.
//!
//! The kernel cannot be told what a tree should look like; processes have to do again what leads to
//! it. A session is inherited at birth and left only by founding another one; a group can be joined
//! only while it has members; a child gets another parent only when its parent dies. [`plan`] finds
//! steps that end in the wanted table, without touching the system; [`Tree::build`] has blanks take
//! them.
//!
//! 1. For each session founder a session is found in which it is born ([`births`]).
//! 2. Processes are cloned by their parents while those are in the right session; founders found
//!    their sessions in between. A process whose parent never was in its session is cloned by a
//!    helper in that session, whose death hands it over to the parent ([`plan`]).
//! 3. Groups are founded, then joined ([`groups`]); helpers stand in for dead founders.
//! 4. Helpers die and are waited for. Processes that will be zombies die last: until then they live
//!    and may be parents, founders or members.

mod births;
mod execute;
#[cfg(test)]
mod generate;
mod groups;
mod plan;
mod sharing;
#[cfg(test)]
mod simulate;
mod table;
#[cfg(test)]
mod tests;

pub use self::execute::{OnClone, Tree};
pub use self::plan::{Op, Plan, Who, plan};
pub use self::table::{Node, Objects, Outer, nodes};
