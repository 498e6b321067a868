//! One stopped thread: what is read of it, and what its stop did to it.

use std::ops::Range;
use std::time::{Duration, Instant};

use libc::user_regs_struct;
use nix::errno::Errno;

use super::{code, frame, seize};
use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, RseqConfig, Stop, WaitStatus};
use crate::kernel::remote::RemoteAddr;
use crate::kernel::{Sys, memory, sys};

/// A stopped thread and what can be read of it from outside.
#[derive(Clone, Debug)]
pub struct FrozenThread {
    /// Its thread id.
    pub tid: HostPid,
    /// The registers as at the stop; inside a restartable sequence `rip` is its abort handler,
    /// which is where the kernel would have sent it.
    pub regs: user_regs_struct,
    /// Blocked signals (the saved mask for a thread inside ppoll, sigsuspend and so on).
    pub sigmask: u64,
    /// The extended processor state, XSAVE layout.
    pub xstate: Vec<u8>,
    /// Its registration of restartable sequences.
    pub rseq: Option<RseqConfig>,
    /// Head and length of its list of robust futexes.
    pub robust_list: (u64, u64),
}

/// How the system call goes on in which a thread was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The thread was not in a system call, or the call is complete.
    None,
    /// The call is issued again (-ERESTARTSYS, -ERESTARTNOINTR).
    Always,
    /// The call is issued again unless a handler runs (-ERESTARTNOHAND).
    NoHandler,
    /// The call is continued by `restart_syscall` (-ERESTART_RESTARTBLOCK).
    Block,
    /// Only the engine's stop has ended the call with -EINTR, which is hidden by issuing it again.
    Hidden,
}

const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;
const EINTR: i64 = -4;

/// Calls that any stop ends with -EINTR, although no signal was delivered.
const ENDED_BY_A_STOP: [libc::c_long; 7] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_io_getevents,
];

/// How the interrupted call of a thread with these registers goes on.
pub(super) fn restart(regs: &user_regs_struct) -> Restart {
    let nr = regs.orig_rax.cast_signed();
    if nr < 0 {
        return Restart::None;
    }
    match regs.rax.cast_signed() {
        ERESTARTSYS | ERESTARTNOINTR => Restart::Always,
        ERESTARTNOHAND => Restart::NoHandler,
        ERESTART_RESTARTBLOCK => Restart::Block,
        EINTR if ENDED_BY_A_STOP.contains(&nr) => Restart::Hidden,
        _ => Restart::None,
    }
}

/// Registers with which the interrupted call is issued again.
pub(super) fn issue_again(regs: &user_regs_struct) -> user_regs_struct {
    const SYSCALL_LEN: u64 = 2;
    let mut regs = *regs;
    regs.rax = regs.orig_rax;
    regs.rip -= SYSCALL_LEN;
    regs.orig_rax = u64::MAX;
    regs
}

impl FrozenThread {
    pub(super) fn unread(tid: HostPid) -> Self {
        Self {
            tid,
            regs: ptrace::zero_regs(),
            sigmask: 0,
            xstate: Vec::new(),
            rseq: None,
            robust_list: (0, 0),
        }
    }

    /// How the call goes on in which the thread was stopped.
    pub fn restart(&self) -> Restart {
        restart(&self.regs)
    }

    /// Reads everything. `healing` is where the heal code of a killed engine stands: a thread that
    /// is there runs on until it has left it. False if the thread had to run on.
    pub(super) fn read(&mut self, pid: HostPid, healing: &Range<u64>) -> Result<bool> {
        let tid = self.tid;
        let doing = || format!("pid {pid}: read thread {tid}");
        let (regs, unmoved) = settled_regs(pid, tid, healing)?;
        self.regs = regs;
        refuse_32_bit(pid, &self.regs)?;
        self.step_back_from_restart(pid);
        self.sigmask = ptrace::get_sigmask(tid).doing(doing)?;
        self.xstate = ptrace::get_xstate(tid).doing(doing)?;
        self.rseq = ptrace::rseq_configuration(tid).doing(doing)?;
        self.robust_list = sys::get_robust_list(tid).doing(doing)?;
        if let Some(rseq) = self.rseq {
            // If the section cannot be read there is none: the kernel would have ended the program
            // over it.
            let _ = self.abort_rseq(pid, rseq);
        }
        Ok(unmoved)
    }

    /// Sets a thread back that is about to make the `restart_syscall` which the kernel has turned
    /// its interrupted call into. Such a thread seems to be in user mode, but it depends on the
    /// restart block. It is set back to the state that lets the kernel prepare the same
    /// `restart_syscall` again.
    fn step_back_from_restart(&mut self, pid: HostPid) {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        if self.regs.rax != frame::SYS_RESTART_SYSCALL {
            return;
        }
        let mut code = [0; 2];
        let read = memory::read(pid, RemoteAddr(self.regs.rip), &mut code);
        if read.is_ok() && code == SYSCALL {
            self.regs.rip += SYSCALL.len() as u64;
            self.regs.rax = ERESTART_RESTARTBLOCK.cast_unsigned();
            // Where the kernel has the number of the call itself, that number is kept.
            if self.regs.orig_rax.cast_signed() < 0 {
                self.regs.orig_rax = frame::SYS_RESTART_SYSCALL;
            }
        }
    }

    /// Sends a thread that stands inside a restartable sequence to its abort handler.
    ///
    /// The kernel does so on the way back to the program, but only if it finds the registers inside
    /// the sequence. After a session it would not, and the sequence would go on as if it had not
    /// been interrupted.
    fn abort_rseq(&mut self, pid: HostPid, rseq: RseqConfig) -> Sys<()> {
        const RSEQ_CS: u64 = 8;
        let section = memory::read_u64(pid, RemoteAddr(rseq.pointer + RSEQ_CS))?;
        if section == 0 {
            return Ok(());
        }
        // struct rseq_cs: version and flags, start, length, abort handler.
        let mut bytes = [0u8; 32];
        memory::read(pid, RemoteAddr(section), &mut bytes)?;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let (start, len, abort) = (word(8), word(16), word(24));
        if self.regs.rip.wrapping_sub(start) < len {
            self.regs.rip = abort;
        }
        Ok(())
    }

    /// Lets a call go on that only the engine's stop has ended, unless there is a signal to
    /// deliver, which ends the call as well.
    ///
    /// Afterwards `regs` are the registers of the thread again, so that a second call does nothing.
    pub(super) fn settle(&mut self) -> Sys<()> {
        if self.restart() == Restart::Hidden && !self.has_deliverable_signal()? {
            self.regs = issue_again(&self.regs);
            ptrace::setregs(self.tid, &self.regs)?;
        }
        Ok(())
    }

    fn has_deliverable_signal(&self) -> Sys<bool> {
        for queue in [ptrace::Queue::Private, ptrace::Queue::Shared] {
            let infos = ptrace::peek_siginfo(self.tid, queue)?;
            let mut signals = infos.iter().map(ptrace::siginfo_signal);
            if signals.any(|signal| self.sigmask & (1 << (signal - 1)) == 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The registers of a thread. If the thread is in the heal code of a killed engine, it runs on
/// until it has left that code. The second result is whether it did not have to run.
fn settled_regs(
    pid: HostPid,
    tid: HostPid,
    healing: &Range<u64>,
) -> Result<(user_regs_struct, bool)> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + PATIENCE;
    let mut unmoved = true;
    loop {
        let regs = ptrace::getregs(tid).doing(|| format!("pid {pid}: read thread {tid}"))?;
        if !healing.contains(&regs.rip) && !is_in_our_code(pid, regs.rip) {
            return Ok((regs, unmoved));
        }
        unmoved = false;
        if Instant::now() > deadline {
            let text = "it does not leave the code of a dump that was killed";
            return Err(Error::new(Kind::TimedOut, format!("pid {pid}: thread {tid}: {text}")));
        }
        seize::let_run(pid, tid, Duration::from_micros(200))?;
    }
}

/// Whether the thread is in code of an engine that stands elsewhere than behind the vdso.
fn is_in_our_code(pid: HostPid, rip: u64) -> bool {
    let mut bytes = [0; code::WINDOW];
    memory::read(pid, RemoteAddr(rip), &mut bytes).is_ok() && code::is_ours(&bytes)
}

fn refuse_32_bit(pid: HostPid, regs: &user_regs_struct) -> Result<()> {
    const USER_CS_64: u64 = 0x33;
    if regs.cs == USER_CS_64 {
        return Ok(());
    }
    Err(Error::refused(Refusal {
        place: format!("pid {pid}"),
        object: "32-bit program".to_owned(),
        reason: "only 64-bit programs can be dumped".to_owned(),
        remedy: String::new(),
    }))
}

/// Waits for the death of a thread that SIGKILL was sent to.
pub(super) fn reap(tid: HostPid) -> Sys<()> {
    loop {
        match ptrace::wait(tid) {
            Ok(WaitStatus::Exited(_) | WaitStatus::Killed { .. }) | Err(Errno::ECHILD) => {
                return Ok(());
            }
            // This stop was made before the signal came.
            Ok(WaitStatus::Stopped(_)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes the leader into the group-stop that a pending SIGSTOP asks for.
///
/// Signals that come first are delivered, but no code of the program runs yet: handlers start when
/// the process is continued.
pub(super) fn enter_group_stop(tid: HostPid) -> Result<()> {
    let doing = || format!("stop thread {tid}");
    let mut signal = 0;
    loop {
        ptrace::cont(tid, signal).doing(doing)?;
        match ptrace::wait(tid).doing(doing)? {
            WaitStatus::Stopped(stop) if stop.group_stop().is_some() => return Ok(()),
            WaitStatus::Stopped(Stop::Signal(next)) => signal = next,
            WaitStatus::Stopped(_) => signal = 0,
            WaitStatus::Exited(_) | WaitStatus::Killed { .. } => {
                return Err(Error::new(Kind::TaskDied, "it died").context(doing()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use criu_test_support::{Lack, needs};

    use super::*;

    #[test]
    fn interrupted_calls_are_classified() {
        let with = |nr: i64, rax: i64| {
            let mut regs = ptrace::zero_regs();
            regs.orig_rax = nr.cast_unsigned();
            regs.rax = rax.cast_unsigned();
            restart(&regs)
        };
        assert_eq!(with(-1, -512), Restart::None);
        assert_eq!(with(0, -512), Restart::Always);
        assert_eq!(with(0, -513), Restart::Always);
        assert_eq!(with(34, -514), Restart::NoHandler);
        assert_eq!(with(35, -516), Restart::Block);
        assert_eq!(with(libc::SYS_epoll_wait, -4), Restart::Hidden);
        assert_eq!(with(libc::SYS_read, -4), Restart::None);
        assert_eq!(with(0, 17), Restart::None);
    }

    #[test]
    fn a_call_about_to_be_continued_is_still_an_interrupted_one() {
        let mut sleep = std::process::Command::new("sleep").arg("0.5").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let pid = HostPid::new(sleep.id().cast_signed());
        let start = Instant::now();
        {
            let task = super::super::FrozenTask::seize(pid).unwrap();
            let thread = &task.threads[0];
            assert_eq!(thread.restart(), Restart::Block);
            // The registers of a stop right after the kernel has prepared the restart.
            ptrace::setregs(pid, &frame::healed(thread)).unwrap();
        }
        // The thread has gone on; now it is brought to the same state again and read.
        let task = super::super::FrozenTask::seize(pid).unwrap();
        let thread = &task.threads[0];
        ptrace::setregs(pid, &frame::healed(thread)).unwrap();
        let mut again = FrozenThread::unread(pid);
        again.read(pid, &(0..0)).unwrap();
        assert_eq!(again.restart(), Restart::Block);
        assert_eq!((again.regs.rip, again.regs.rax), (thread.regs.rip, thread.regs.rax));
        // A session would put back these registers.
        ptrace::setregs(pid, &again.regs).unwrap();
        task.release().unwrap();
        assert!(sleep.wait().unwrap().success());
        assert!((350..650).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    // A restartable sequence that never ends by itself: its abort handler returns.
    std::arch::global_asm!(
        r#"
        .pushsection .data.rel.ro.criu_test, "aw", @progbits
        .balign 32
    .Lcriu_test_section:
        .long 0, 0
        .quad .Lcriu_test_start, .Lcriu_test_end - .Lcriu_test_start, criu_test_abort
        .popsection
        .pushsection .text.criu_test, "ax", @progbits
        .globl criu_test_rseq, criu_test_abort
    criu_test_rseq:
        lea rax, [rip + .Lcriu_test_section]
        mov [rdi + 8], rax
    .Lcriu_test_start:
        pause
        jmp .Lcriu_test_start
    .Lcriu_test_end:
        .long 0x53053053
    criu_test_abort:
        ret
        .popsection
    "#
    );

    unsafe extern "C" {
        fn criu_test_rseq(rseq: *mut u8);
        fn criu_test_abort();
    }

    /// The C library's registration for this thread, if it has one.
    fn own_rseq() -> Option<*mut u8> {
        let thread: usize;
        // SAFETY: the first word of a thread's block is the block's own address. The symbol, where
        // there is one, is a constant of the C library.
        unsafe {
            let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr());
            std::arch::asm!("mov {}, fs:[0]", out(reg) thread);
            let offset = offset.cast::<isize>().as_ref()?;
            Some((thread as *mut u8).offset(*offset))
        }
    }

    #[test]
    fn a_restartable_sequence_is_aborted() {
        let registered = own_rseq().ok_or_else(|| {
            Lack::OfMachine("the C library registers no restartable sequences".into())
        });
        let Some(rseq) = needs(registered) else { return };
        let child = super::super::tests::in_child(|| {
            loop {
                // SAFETY: this thread's registration, which a forked process inherits.
                unsafe { criu_test_rseq(rseq) };
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let address = |function: *const ()| function as u64;
        let (start, abort) = (address(criu_test_rseq as _), address(criu_test_abort as _));
        let mut aborted = 0;
        for _ in 0..20 {
            let task = super::super::FrozenTask::seize(HostPid::new(child.as_raw())).unwrap();
            let rip = task.threads[0].regs.rip;
            let before_section = 11;
            assert!(!(start + before_section..abort).contains(&rip), "{:#x}", rip - start);
            aborted += usize::from(rip == abort);
            task.inject().unwrap().finish().unwrap();
        }
        super::super::FrozenTask::seize(HostPid::new(child.as_raw())).unwrap().kill().unwrap();
        assert!(aborted > 0);
    }
}
