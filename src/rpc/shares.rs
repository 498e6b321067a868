//! How many connections a service serves at once, and for whom.
//!
//! A connection costs a process, and one that says nothing costs it for a while. So each user has a
//! share, and all users together leave room for root: who can be many users, as in a user namespace,
//! gains nothing by it.

use std::collections::HashMap;

use super::rights::Rights;
use crate::error::{Error, Kind, Result};
use crate::kernel::pid::HostPid;

/// Of one user who is not root.
const OF_A_USER: usize = 32;
/// Of all of them.
const OF_ALL_USERS: usize = 384;
/// Of root, too.
const OF_ALL: usize = 512;

/// The connections that are served: who serves each, and for whom.
#[derive(Debug, Default)]
pub struct Shares {
    workers: HashMap<HostPid, Rights>,
}

impl Shares {
    /// Whether there is room for nobody.
    pub fn are_taken(&self) -> bool {
        self.workers.len() >= OF_ALL
    }

    /// Refuses whoever has a share and has used it up.
    pub fn check(&self, rights: Rights) -> Result<()> {
        let Rights::User { uid, .. } = rights else { return Ok(()) };
        let of = |wanted: fn(u32, u32) -> bool| {
            let is = |rights: &&Rights| matches!(rights, Rights::User { uid: user, .. } if wanted(*user, uid));
            self.workers.values().filter(is).count()
        };
        let refuse = |whose: String, count| {
            let cause = format!("{whose} {count} connections to the service: there can be no more");
            Err(Error::new(Kind::Denied, cause).remedy("try again when one of them has ended"))
        };
        match (of(|user, uid| user == uid), of(|_, _| true)) {
            (own, _) if own >= OF_A_USER => refuse(format!("user {uid} has"), own),
            (_, all) if all >= OF_ALL_USERS => refuse("users have".to_owned(), all),
            _ => Ok(()),
        }
    }

    /// A connection is served by `worker`.
    pub fn add(&mut self, worker: HostPid, rights: Rights) {
        self.workers.insert(worker, rights);
    }

    /// A worker has ended, in whatever way.
    pub fn remove(&mut self, worker: HostPid) {
        self.workers.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Rights {
        Rights::User { uid, gid: uid }
    }

    #[test]
    fn a_user_has_a_share_that_comes_back() {
        let mut shares = Shares::default();
        (0..32).for_each(|worker| shares.add(HostPid::new(worker), user(7)));
        let said = shares.check(user(7)).unwrap_err().to_string();
        assert!(said.starts_with("user 7 has 32 connections"), "{said}");
        shares.check(user(8)).unwrap();
        shares.check(Rights::Root).unwrap();
        shares.remove(HostPid::new(31));
        shares.check(user(7)).unwrap();
    }

    #[test]
    fn many_users_leave_room_for_root() {
        let mut shares = Shares::default();
        (0..384u32).for_each(|worker| shares.add(HostPid::new(worker.cast_signed()), user(worker)));
        let said = shares.check(user(1000)).unwrap_err().to_string();
        assert!(said.starts_with("users have 384 connections"), "{said}");
        shares.check(Rights::Root).unwrap();
        assert!(!shares.are_taken());
        (384..512).for_each(|worker| shares.add(HostPid::new(worker), Rights::Root));
        assert!(shares.are_taken());
    }
}
