//! How the scheduler treats a thread, asked and set from outside.

use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;

/// A scheduling policy with its static priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Number of the policy, with SCHED_RESET_ON_FORK.
    pub number: u32,
    /// Priority of a real-time policy, else 0.
    pub priority: u32,
}

/// The policy of a thread.
pub fn policy(tid: HostPid) -> Sys<Policy> {
    // SAFETY: takes a number only. The raw call, as musl's wrapper only pretends.
    let number = unsafe { libc::syscall(libc::SYS_sched_getscheduler, tid.number()) };
    let number = Errno::result(number)? as u32;
    let mut param = 0i32;
    // SAFETY: `struct sched_param` of the kernel is one int.
    let done = unsafe { libc::syscall(libc::SYS_sched_getparam, tid.number(), &raw mut param) };
    Errno::result(done).map(|_| Policy { number, priority: param.cast_unsigned() })
}

/// Sets the policy of a thread.
pub fn set_policy(tid: HostPid, policy: Policy) -> Sys<()> {
    let param = policy.priority.cast_signed();
    // SAFETY: `struct sched_param` of the kernel is one int.
    let done = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, tid.number(), policy.number, &raw const param)
    };
    Errno::result(done).map(drop)
}

/// The nice value of a thread.
pub fn nice(tid: HostPid) -> Sys<i32> {
    // SAFETY: takes numbers only. The raw call, as it can tell -1 from an error: 40 to 1.
    let raw = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid.number()) };
    Errno::result(raw).map(|raw| 20 - raw as i32)
}

/// Sets the nice value of a thread.
pub fn set_nice(tid: HostPid, nice: i32) -> Sys<()> {
    // SAFETY: takes numbers only.
    let done =
        unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, tid.number(), nice) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_ours_is_asked_and_set() {
        std::thread::spawn(|| {
            set_nice(HostPid::NONE, 5).unwrap();
            assert_eq!(nice(HostPid::NONE), Ok(5));
            let batch = Policy { number: libc::SCHED_BATCH as u32, priority: 0 };
            set_policy(HostPid::NONE, batch).unwrap();
            assert_eq!(policy(HostPid::NONE), Ok(batch));
        })
        .join()
        .unwrap();
    }
}
