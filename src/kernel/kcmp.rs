//! kcmp(2): whether two processes have the same object of the kernel, and in which order it stands
//! with others.

use std::cmp::Ordering;

use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;

/// What two processes or descriptors are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kcmp {
    /// Two descriptors: the same open file description?
    File = 0,
    /// The same address space?
    Vm = 1,
    /// The same table of descriptors?
    Files = 2,
    /// The same root, working directory and umask?
    Fs = 3,
    /// The same table of signal actions?
    Sighand = 4,
    /// The same I/O context?
    Io = 5,
    /// The same list of System V semaphore adjustments?
    Sysvsem = 6,
}

/// An entry of an epoll file: the `toff`-th of those added under the number `tfd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EpollSlot {
    pub efd: u32,
    pub tfd: u32,
    pub toff: u32,
}

const KCMP_EPOLL_TFD: i32 = 7;

/// Orders the object of the first process against that of the second. Objects are equal if they are
/// the same; otherwise the order is arbitrary, and stays as it is while both exist.
pub fn compare(pid1: HostPid, pid2: HostPid, what: Kcmp, idx1: u64, idx2: u64) -> Sys<Ordering> {
    // SAFETY: takes numbers only.
    order(unsafe {
        libc::syscall(libc::SYS_kcmp, pid1.number(), pid2.number(), what as i32, idx1, idx2)
    })
}

/// Orders descriptor `fd` of `pid` against what stands in a slot of an epoll file of `epoll_pid`.
pub fn compare_epoll(pid: HostPid, fd: i32, epoll_pid: HostPid, slot: EpollSlot) -> Sys<Ordering> {
    let slot = &raw const slot;
    // SAFETY: `slot` is what this comparison reads.
    order(unsafe {
        libc::syscall(libc::SYS_kcmp, pid.number(), epoll_pid.number(), KCMP_EPOLL_TFD, fd, slot)
    })
}

/// The kernel's 0, 1 and 2; 3 says of two objects only that they differ.
fn order(result: libc::c_long) -> Sys<Ordering> {
    match Errno::result(result)? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Looks by bisection for an object among others that stand in kcmp's order. `order` compares one of
/// them with the object. The result is where the object stands or, as an error, where it would have
/// to be inserted.
pub fn search<T, E>(
    known: &[T],
    mut order: impl FnMut(&T) -> Result<Ordering, E>,
) -> Result<Result<usize, usize>, E> {
    let (mut low, mut high) = (0, known.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        match order(&known[middle])? {
            Ordering::Equal => return Ok(Ok(middle)),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Ok(Err(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_and_new_ones_have_a_place() {
        let known = [10, 20, 30];
        let found = |wanted: i32| search(&known, |one| Ok::<_, ()>(one.cmp(&wanted))).unwrap();
        assert_eq!(known.map(found), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!([5, 15, 25, 35].map(found), [Err(0), Err(1), Err(2), Err(3)]);
        assert_eq!(search(&known, |_| Err(7)), Err(7));
    }

    #[test]
    fn differing_objects_are_ordered_and_the_order_is_reversed_with_them() {
        let pid = HostPid::own();
        let (one, other) = nix::unistd::pipe().unwrap();
        let [one, other] = [&one, &other].map(|fd| std::os::fd::AsRawFd::as_raw_fd(fd) as u64);
        let there = compare(pid, pid, Kcmp::File, one, other).unwrap();
        assert_ne!(there, Ordering::Equal);
        assert_eq!(compare(pid, pid, Kcmp::File, other, one), Ok(there.reverse()));
    }
}
