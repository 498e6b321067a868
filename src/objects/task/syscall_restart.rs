//! System calls that the dump interrupted.
//!
//! A thread stopped inside a system call shows the call's number in `orig_rax` and one of the
//! kernel's restart codes in `rax`. The kernel would act on them at its return to the program,
//! which for a dumped thread never comes, so it is done here:
//!
//! * **in an image** a call that goes on is wound back (`rax` the number, `rip` on the `syscall`
//!   instruction), as CRIU writes it. So is one that only the kernel's own note of it can continue
//!   (`-ERESTART_RESTARTBLOCK`), and one that the stop itself has ended with EINTR, where calling
//!   again is exact (the kernel has stored the time left, or the deadline is absolute) or at least
//!   what the program expects more than an EINTR: without a signal handler it expects none. All
//!   others have failed with EINTR;
//! * **at a restore** an EINTR is looked at again, because CRIU writes one for every call of these
//!   two kinds; `orig_ax` still names the call.
//!
//! In both cases a signal that is about to run a handler has the last word, as in the kernel.

use libc::user_regs_struct;

const EINTR: i64 = 4;
const ERESTARTSYS: i64 = 512;
const ERESTARTNOINTR: i64 = 513;
const ERESTARTNOHAND: i64 = 514;
const ERESTART_RESTARTBLOCK: i64 = 516;
/// Bytes of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;
/// `orig_rax` of a thread that is in no system call.
const NO_SYSCALL: u64 = u64::MAX;

/// A signal handler that will run as soon as the thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// SA_RESTART: calls that it interrupts are called again.
    pub restarts: bool,
}

/// The registers for an image, from those at the stop.
pub fn for_image(at_stop: &user_regs_struct, handler: Option<Handler>) -> user_regs_struct {
    let mut regs = *at_stop;
    if !in_syscall(&regs) {
        return regs;
    }
    match -regs.rax.cast_signed() {
        ERESTARTNOINTR => wind_back(&mut regs),
        ERESTARTSYS if handler.is_none_or(|handler| handler.restarts) => wind_back(&mut regs),
        ERESTARTNOHAND if handler.is_none() => wind_back(&mut regs),
        EINTR | ERESTART_RESTARTBLOCK if handler.is_none() && call_again(&regs) => {
            wind_back(&mut regs);
        }
        ERESTARTSYS | ERESTARTNOHAND | ERESTART_RESTARTBLOCK => fail_with_eintr(&mut regs),
        _ => {}
    }
    regs
}

/// The registers to resume with, from those of an image (ours or CRIU's).
pub fn for_resume(in_image: &user_regs_struct, handler: Option<Handler>) -> user_regs_struct {
    let mut regs = *in_image;
    let interrupted = in_syscall(&regs) && regs.rax.cast_signed() == -EINTR;
    if interrupted && handler.is_none() && call_again(&regs) {
        wind_back(&mut regs);
    }
    // Else the kernel would wind back or interpret `rax` once more.
    regs.orig_rax = NO_SYSCALL;
    regs
}

fn in_syscall(regs: &user_regs_struct) -> bool {
    regs.orig_rax.cast_signed() >= 0
}

fn wind_back(regs: &mut user_regs_struct) {
    regs.rax = regs.orig_rax;
    regs.rip = regs.rip.wrapping_sub(SYSCALL_LEN);
}

fn fail_with_eintr(regs: &mut user_regs_struct) {
    regs.rax = (-EINTR).cast_unsigned();
}

/// Whether a call that shows EINTR, with no handler to blame, was interrupted by the dump alone
/// and is best called again.
fn call_again(regs: &user_regs_struct) -> bool {
    match libc::c_long::try_from(regs.orig_rax).unwrap_or(-1) {
        // The time left was stored over the time wanted, or there is no place for it.
        libc::SYS_nanosleep => regs.rsi == 0 || regs.rsi == regs.rdi,
        libc::SYS_clock_nanosleep => regs.r10 == 0 || regs.r10 == regs.rdx,
        // Waits that the kernel continues by its own note.
        libc::SYS_poll | libc::SYS_futex => true,
        // Waits that it lets fail with a plain EINTR, also for a stop by a tracer.
        libc::SYS_epoll_wait
        | libc::SYS_epoll_pwait
        | libc::SYS_epoll_pwait2
        | libc::SYS_rt_sigtimedwait
        | libc::SYS_semop
        | libc::SYS_semtimedop
        | libc::SYS_io_getevents => true,
        // `restart_syscall` no longer tells which call it continues.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ptrace::zero_regs;

    const IP: u64 = 0x40_1002;

    fn stopped(nr: libc::c_long, error: i64) -> user_regs_struct {
        let mut regs = zero_regs();
        regs.orig_rax = nr as u64;
        regs.rax = (-error).cast_unsigned();
        regs.rip = IP;
        regs.rcx = IP;
        regs
    }

    fn is_wound_back(regs: &user_regs_struct, nr: libc::c_long) -> bool {
        regs.rip == IP - 2 && regs.rax == nr as u64
    }

    #[test]
    fn plain_restarts_are_wound_back_in_the_image() {
        for error in [ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND] {
            let image = for_image(&stopped(libc::SYS_read, error), None);
            assert!(is_wound_back(&image, libc::SYS_read));
            let resumed = for_resume(&image, None);
            assert!(is_wound_back(&resumed, libc::SYS_read));
            assert_eq!(resumed.orig_rax, NO_SYSCALL);
        }
    }

    #[test]
    fn a_handler_decides_as_in_the_kernel() {
        let plain = Some(Handler { restarts: false });
        let restarting = Some(Handler { restarts: true });
        let eintr = (-EINTR).cast_unsigned();
        for (error, handler, interrupted) in [
            (ERESTARTSYS, plain, true),
            (ERESTARTSYS, restarting, false),
            (ERESTARTNOHAND, restarting, true),
            (ERESTARTNOINTR, plain, false),
        ] {
            let image = for_image(&stopped(libc::SYS_read, error), handler);
            assert_eq!(image.rax == eintr && image.rip == IP, interrupted, "{error} {handler:?}");
        }
        let image = for_image(&stopped(libc::SYS_poll, ERESTART_RESTARTBLOCK), plain);
        assert_eq!(for_resume(&image, plain).rax, eintr);
    }

    #[test]
    fn a_continued_call_is_called_again() {
        let mut sleep = stopped(libc::SYS_nanosleep, ERESTART_RESTARTBLOCK);
        (sleep.rdi, sleep.rsi) = (0x1000, 0x1000);
        let image = for_image(&sleep, None);
        assert!(is_wound_back(&image, libc::SYS_nanosleep));
        assert!(is_wound_back(&for_resume(&image, None), libc::SYS_nanosleep));
    }

    #[test]
    fn the_eintr_in_an_image_of_criu_is_hidden() {
        let image = stopped(libc::SYS_futex, EINTR);
        assert!(is_wound_back(&for_resume(&image, None), libc::SYS_futex));
        let pending = Some(Handler { restarts: true });
        assert_eq!(for_resume(&image, pending).rip, IP);
    }

    #[test]
    fn a_sleep_that_hands_out_the_time_left_gets_its_eintr() {
        let mut sleep = stopped(libc::SYS_clock_nanosleep, ERESTART_RESTARTBLOCK);
        (sleep.rdx, sleep.r10) = (0x1000, 0x2000);
        let resumed = for_resume(&for_image(&sleep, None), None);
        assert_eq!((resumed.rax, resumed.rip), ((-EINTR).cast_unsigned(), IP));
        let twice = stopped(libc::SYS_restart_syscall, ERESTART_RESTARTBLOCK);
        assert_eq!(for_resume(&for_image(&twice, None), None).rip, IP);
    }

    #[test]
    fn the_eintr_that_the_stop_itself_caused_is_hidden() {
        let waiting = stopped(libc::SYS_epoll_wait, EINTR);
        let image = for_image(&waiting, None);
        assert!(is_wound_back(&image, libc::SYS_epoll_wait));
        assert!(is_wound_back(&for_resume(&image, None), libc::SYS_epoll_wait));
        let pending = Some(Handler { restarts: true });
        assert_eq!(for_resume(&for_image(&waiting, pending), pending).rip, IP);
    }

    #[test]
    fn results_and_plain_code_stay() {
        let mut done = stopped(libc::SYS_read, 0);
        done.rax = 100;
        let mut outside = stopped(libc::SYS_read, ERESTARTSYS);
        outside.orig_rax = NO_SYSCALL;
        for regs in [done, outside] {
            let resumed = for_resume(&for_image(&regs, None), None);
            assert_eq!((resumed.rax, resumed.rip), (regs.rax, IP));
        }
    }
}
