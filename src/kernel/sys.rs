//! System calls that no library wraps, each wrapped once, sorted by name.

use nix::errno::Errno;

use super::Sys;
use super::pid::HostPid;

/// Architecture-specific state of the calling thread or its process.
pub fn arch_prctl(what: u64, addr: u64) -> Sys<i64> {
    // SAFETY: takes numbers only; callers ask for nothing that moves memory in use.
    Errno::result(unsafe { libc::syscall(libc::SYS_arch_prctl, what, addr) })
}

/// The CPU that the calling thread is on. The kernel is asked, because the C library gives a wrong
/// answer in a process that shares the memory of another.
pub fn getcpu() -> Sys<usize> {
    let mut cpu = 0u32;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the place holds one number; the others are not asked for.
    let done = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, none, none) };
    Errno::result(done).map(|_| cpu as usize)
}

/// The head and length of a thread's list of robust futexes, as it registered them.
pub fn get_robust_list(tid: HostPid) -> Sys<(u64, u64)> {
    let (mut head, mut len) = (0u64, 0u64);
    // SAFETY: both places hold one word each.
    let done = unsafe {
        libc::syscall(libc::SYS_get_robust_list, tid.number(), &raw mut head, &raw mut len)
    };
    Errno::result(done).map(|_| (head, len))
}

/// The id of the calling thread.
pub fn gettid() -> HostPid {
    // SAFETY: takes nothing and cannot fail.
    HostPid::new(unsafe { libc::gettid() })
}

/// Sends a signal to a process.
pub fn kill(pid: HostPid, signal: i32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::kill(pid.number(), signal) }).map(drop)
}

/// Sets the domain name of the calling thread's UTS namespace.
pub fn setdomainname(name: &[u8]) -> Sys<()> {
    // SAFETY: the kernel reads `name.len()` bytes.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Sends a signal to one thread.
pub fn tgkill(pid: HostPid, tid: HostPid, signal: i32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, pid.number(), tid.number(), signal) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_has_a_robust_list() {
        let (head, len) = get_robust_list(gettid()).unwrap();
        assert_ne!(head, 0);
        assert_eq!(len, 24);
    }
}
