//! What this kernel can tell about memory barriers.

use once_cell::sync::Lazy;

const GET_REGISTRATIONS: i32 = 1 << 9;

/// Whether a process can ask what it has registered for (Linux 6.3).
pub fn tells_registrations() -> bool {
    static TELLS: Lazy<bool> = Lazy::new(|| {
        // SAFETY: takes numbers only, and this command changes nothing.
        unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, 0, 0) >= 0 }
    });
    *TELLS
}
