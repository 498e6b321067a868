//! Rebuilding a tree of processes: parents, sessions, process groups, zombies, shared tables.
//!
//! A tree cannot be declared to the kernel, it has to be lived through again: a session is
//! inherited at birth and left only by founding another, a group can be joined only while it has
//! members, a child changes its parent only when that parent dies. [`plan`] works out, without
//! touching the system, a life story that ends in the wanted table; [`Tree::build`] has blanks
//! live it.
//!
//! 1. Each session founder gets the session in which it is to be born ([`births`]).
//! 2. Processes are cloned by their parents while those are in the right session; founders found
//!    their sessions in between. A process whose parent never was in its session is cloned by a
//!    helper in that session, whose death hands it over to the parent ([`plan`]).
//! 3. Groups are founded, then joined ([`groups`]); helpers stand in for dead founders.
//! 4. Helpers die and are waited for. Zombies die last: until then they live and may be parents,
//!    founders or members.

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
