//! Where the numbers of a tree and those of the engine meet.
//!
//! A tree that is dumped or restored in the engine's own pid namespace has the same numbers there as
//! in its images. Nothing but these two functions says so: a tree with a pid namespace of its own
//! changes them, and the types show every place that they concern.

use crate::images::pid::TreePid;
use crate::kernel::pid::HostPid;

/// The task of an image, for the system calls of the engine.
pub fn host(pid: TreePid) -> HostPid {
    HostPid::new(pid.signed())
}

/// A task that the engine sees, for an image.
pub fn tree(pid: HostPid) -> TreePid {
    TreePid::new(pid.number().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_as_it_was() {
        let pid = TreePid::new(1 << 22);
        assert_eq!(tree(host(pid)), pid);
        assert_eq!(host(pid).number(), 1 << 22);
    }
}
