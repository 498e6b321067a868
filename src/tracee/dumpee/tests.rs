//! Sessions in live processes, and the death of the engine at chosen moments.
//!
//! Random deaths, and a victim that checks every register, are in `tests/crash_safety.rs`.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, read, write};

use super::*;
use crate::args;
use crate::error::Kind;
use crate::kernel::pid::HostPid;
use crate::kernel::proc;
use crate::kernel::remote::RemoteAddr;
use crate::tracee::batch::Batch;

thread_local! {
    /// After how many state changes this thread's process dies; 0: never.
    static LIFE: Cell<u32> = const { Cell::new(0) };
}

/// Called at every state change.
pub(super) fn reached() {
    match LIFE.get() {
        0 => {}
        1 => {
            let _ = sys::kill(HostPid::own(), libc::SIGKILL);
        }
        more => LIFE.set(more - 1),
    }
}

/// `cat`: blocked in a read, and its health is easily asked.
struct Cat(Child);

impl Cat {
    fn new() -> Self {
        let cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut cat = Self(cat);
        cat.echo();
        cat
    }

    fn pid(&self) -> HostPid {
        HostPid::new(self.0.id().cast_signed())
    }

    fn echo(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        let mut got = [0];
        self.0.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
        assert_eq!(got, *b"x");
    }

    fn look(&self) -> (String, Vec<proc::Mapping>) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let mask = status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned();
        (mask, proc::maps(self.pid()).unwrap())
    }

    /// A thread that was let go has to be scheduled to stop again.
    fn assert_stopped(&self) {
        let state = || proc::status(self.pid(), self.pid()).unwrap().state;
        let stopped = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            state() == 'T'
        });
        assert!(stopped, "state {}", state());
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn session(pid: HostPid) -> Result<()> {
    let task = FrozenTask::seize(pid)?;
    let mut injection = task.inject()?;
    let mut batch = Batch::new();
    let name = batch.space(16);
    batch.must("prctl", libc::SYS_prctl, args![libc::PR_GET_NAME, name]);
    let id = batch.must("getpid", libc::SYS_getpid, args![]);
    let outcome = injection.run(batch)?;
    assert_eq!(outcome.ret(id), Ok(pid.number().into()));
    assert!(outcome.bytes(name).starts_with(b"cat\0"));
    injection.finish()?;
    task.release()
}

#[test]
fn a_session_leaves_no_trace() {
    let mut cat = Cat::new();
    let before = cat.look();
    for _ in 0..3 {
        session(cat.pid()).unwrap();
        assert_eq!(cat.look(), before);
        cat.echo();
    }
}

/// Runs `body` in a process of its own.
pub(super) fn in_child(body: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the child touches nothing that another thread may have left half done: it makes
    // system calls and allocates, and the allocator is safe to use after a fork.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = body();
            // SAFETY: ends this process without running what belongs to its parent.
            unsafe { libc::_exit(code) }
        }
    }
}

/// An engine that dies after `life` state changes; true if it was through before.
fn die_after(life: u32, session: impl FnOnce() -> Result<()>) -> bool {
    let child = in_child(|| {
        LIFE.set(life);
        i32::from(session().is_err())
    });
    match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, 0) => true,
        WaitStatus::Signaled(..) => false,
        status => panic!("death {life}: {status:?}"),
    }
}

#[test]
fn a_death_at_any_state_change_leaves_no_trace() {
    let mut cat = Cat::new();
    let before = cat.look();
    for life in 1.. {
        let through = die_after(life, || session(cat.pid()));
        cat.echo();
        let settled = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            cat.look() == before
        });
        assert!(settled, "death {life}: {:?} instead of {before:?}", cat.look());
        if through {
            assert!(life > 10, "{life} state changes are too few");
            return;
        }
    }
}

/// An engine that dies while a process sleeps for 600 ms, which has to sleep that long and end
/// without EINTR. (Not `sleep`: it notices an EINTR itself and sleeps on.)
fn die_during_a_sleep(life: u32, session: impl FnOnce(HostPid) -> Result<()>) {
    let start = Instant::now();
    let sleeper = in_child(|| {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 600_000_000 };
        // SAFETY: `time` is a valid time, and there is no place for a rest.
        unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) }.abs()
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!die_after(life, || session(HostPid::new(sleeper.as_raw()))));
    let status = waitpid(sleeper, None).unwrap();
    assert_eq!(status, WaitStatus::Exited(sleeper, 0), "death {life}");
    let took = start.elapsed();
    assert!((600..850).contains(&took.as_millis()), "death {life}: {took:?}");
}

#[test]
fn a_sleep_goes_on_to_the_millisecond_after_a_death() {
    for life in [4, 6, 10] {
        die_during_a_sleep(life, |pid| FrozenTask::seize(pid)?.inject()?.finish());
    }
}

#[test]
fn a_sleep_stopped_while_it_is_being_continued_survives_a_death() {
    for life in [4, 6, 10] {
        die_during_a_sleep(life, |pid| {
            let mut task = FrozenTask::seize(pid)?;
            // A stop can come between the kernel's restart and the program's call.
            ptrace::setregs(pid, &frame::healed(&task.threads[0])).doing(|| "prepare")?;
            task.threads[0].read(pid, &(0..0))?;
            task.inject()?.finish()
        });
    }
}

/// A process that sends back what it reads, `!` if the read is interrupted; `setup` comes first.
struct Echo {
    pid: Pid,
    to: OwnedFd,
    from: OwnedFd,
}

impl Echo {
    fn new(setup: impl FnOnce()) -> Self {
        let (input, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (from, output) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let pid = in_child(|| {
            setup();
            let mut byte = [b'0'];
            loop {
                let _ = write(&output, &byte);
                byte = [b'!'];
                let _ = read(&input, &mut byte);
            }
        });
        let echo = Self { pid, to, from };
        assert_eq!(echo.next(), b'0');
        echo.await_read();
        echo
    }

    /// Until it is in its read: a signal that comes earlier would interrupt nothing.
    fn await_read(&self) {
        let path = format!("/proc/{}/syscall", self.pid);
        let in_read = format!("{} ", libc::SYS_read);
        while !std::fs::read_to_string(&path).unwrap().starts_with(&in_read) {
            std::thread::yield_now();
        }
    }

    fn next(&self) -> u8 {
        let mut byte = [0];
        read(&self.from, &mut byte).unwrap();
        byte[0]
    }

    fn assert_well(&self) {
        write(&self.to, b"y").unwrap();
        assert_eq!(self.next(), b'y');
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = sys::kill(HostPid::new(self.pid.as_raw()), libc::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

fn ask_and_let_go(echo: &Echo) {
    let task = FrozenTask::seize(HostPid::new(echo.pid.as_raw())).unwrap();
    let mut injection = task.inject().unwrap();
    let mut batch = Batch::new();
    let id = batch.call(libc::SYS_getpid, args![]);
    assert_eq!(injection.run(batch).unwrap().ret(id), Ok(echo.pid.as_raw().into()));
    injection.finish().unwrap();
    task.release().unwrap();
    echo.assert_well();
}

#[test]
fn strict_seccomp_does_not_hinder() {
    // SAFETY: changes the calling process only, which is the one just made.
    let echo = Echo::new(|| unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT);
    });
    ask_and_let_go(&echo);
    // Frozen in a session it survives as well: healing takes a single call, which is allowed.
    for _ in 0..10 {
        let engine = in_child(|| {
            let task = FrozenTask::seize(HostPid::new(echo.pid.as_raw())).unwrap();
            let _injection = task.inject().unwrap();
            let _ = sys::kill(HostPid::own(), libc::SIGKILL);
            0
        });
        waitpid(engine, None).unwrap();
        echo.assert_well();
    }
}

#[test]
fn another_user_that_is_not_dumpable_does_not_hinder() {
    let echo = Echo::new(|| {
        nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
        nix::sys::prctl::set_dumpable(false).unwrap();
    });
    ask_and_let_go(&echo);
}

#[test]
fn without_a_vdso_another_tail_serves() {
    let echo = Echo::new(|| {
        let maps = proc::maps(HostPid::own()).unwrap();
        let vdso = maps.iter().find(|mapping| mapping.name == "[vdso]").unwrap().range.clone();
        let len = (vdso.end - vdso.start) as usize;
        // SAFETY: nothing that this process does from here on uses the vdso.
        unsafe { libc::munmap(vdso.start as *mut libc::c_void, len) };
    });
    ask_and_let_go(&echo);
    // Seized again while it heals.
    for life in 3..20 {
        die_after(life, || FrozenTask::seize(HostPid::new(echo.pid.as_raw()))?.inject()?.finish());
        ask_and_let_go(&echo);
    }
}

/// What a signal does that comes while the engine has the process, which then dies.
fn signal_and_die(flags: libc::c_int) -> Echo {
    extern "C" fn nothing(_: libc::c_int) {}
    let echo = Echo::new(|| {
        let action = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::from_bits_truncate(flags),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    });
    let engine = in_child(|| {
        let task = FrozenTask::seize(HostPid::new(echo.pid.as_raw())).unwrap();
        let mut injection = task.inject().unwrap();
        let interrupts = if flags & libc::SA_RESTART == 0 { 1 << (libc::SIGUSR1 - 1) } else { 0 };
        injection.set_restart_mask(interrupts).unwrap();
        sys::kill(HostPid::new(echo.pid.as_raw()), libc::SIGUSR1).unwrap();
        let _ = sys::kill(HostPid::own(), libc::SIGKILL);
        0
    });
    waitpid(engine, None).unwrap();
    echo
}

#[test]
fn a_signal_before_a_death_interrupts_what_it_should() {
    for _ in 0..10 {
        let echo = signal_and_die(0);
        assert_eq!(echo.next(), b'!');
        echo.assert_well();
        signal_and_die(libc::SA_RESTART).assert_well();
    }
}

#[test]
fn a_failed_call_of_a_batch_does_not_end_the_session() {
    let cat = Cat::new();
    let task = FrozenTask::seize(cat.pid()).unwrap();
    let mut injection = task.inject().unwrap();
    let mut batch = Batch::new();
    batch.must("close 99", libc::SYS_close, args![99]);
    assert!(injection.run(batch).unwrap_err().to_string().starts_with("close 99"));
    let mut batch = Batch::new();
    let id = batch.call(libc::SYS_getppid, args![]);
    let outcome = injection.run(batch).unwrap();
    assert_eq!(outcome.ret(id), Ok(std::process::id().into()));
    let mut large = Batch::new();
    large.space(1 << 20);
    large.call(libc::SYS_getpid, args![]);
    assert_eq!(injection.run(large).unwrap_err().kind(), Kind::Internal);
}

#[test]
fn a_large_batch_gets_the_room_it_asks_for() {
    let cat = Cat::new();
    let task = FrozenTask::seize(cat.pid()).unwrap();
    let mut batch = Batch::new();
    let place = batch.bytes(&[7; 1 << 20]);
    batch.call(libc::SYS_getpid, args![]);
    let mut injection = task.inject_with(2 << 20).unwrap();
    let outcome = injection.run(batch).unwrap();
    assert_eq!(outcome.bytes(place), [7; 1 << 20]);
}

#[test]
fn ptrace_writes_code_where_mem_may_not() {
    let cat = Cat::new();
    let task = FrozenTask::seize(cat.pid()).unwrap();
    let maps = proc::maps(cat.pid()).unwrap();
    let tail = cave::vdso_tail(&memory::open(cat.pid()).unwrap(), &maps);
    let place = RemoteAddr(tail.start + 8);
    ptrace::poke(cat.pid(), place, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
        .unwrap();
    let mut bytes = [0; 16];
    memory::read_forced(task.memory(), place, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
}

#[test]
fn one_session_at_a_time() {
    let cat = Cat::new();
    let task = FrozenTask::seize(cat.pid()).unwrap();
    let first = task.inject().unwrap();
    assert!(task.inject().is_err());
    drop(first);
    task.inject().unwrap().finish().unwrap();
}

#[test]
fn it_can_be_left_stopped() {
    let mut cat = Cat::new();
    FrozenTask::seize(cat.pid()).unwrap().leave_stopped().unwrap();
    cat.assert_stopped();
    let task = FrozenTask::seize(cat.pid()).unwrap();
    assert_eq!(task.group_stop, Some(libc::SIGSTOP));
    task.inject().unwrap().finish().unwrap();
    task.release().unwrap();
    cat.assert_stopped();
    sys::kill(cat.pid(), libc::SIGCONT).unwrap();
    cat.echo();
}

#[test]
fn a_stop_during_a_session_takes_effect_afterwards() {
    let mut cat = Cat::new();
    let task = FrozenTask::seize(cat.pid()).unwrap();
    let mut injection = task.inject().unwrap();
    sys::kill(cat.pid(), libc::SIGSTOP).unwrap();
    let mut batch = Batch::new();
    let id = batch.call(libc::SYS_getpid, args![]);
    assert_eq!(injection.run(batch).unwrap().ret(id), Ok(cat.pid().number().into()));
    injection.finish().unwrap();
    task.release().unwrap();
    cat.assert_stopped();
    sys::kill(cat.pid(), libc::SIGCONT).unwrap();
    cat.echo();
}

#[test]
fn it_can_be_killed_and_is_left_to_its_parent() {
    let mut cat = Cat::new();
    FrozenTask::seize(cat.pid()).unwrap().kill().unwrap();
    assert_eq!(cat.0.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn what_cannot_be_seized_is_refused_by_name() {
    assert_eq!(FrozenTask::seize(HostPid::NONE).unwrap_err().kind(), Kind::NoSuchTask);
    let mut dead = Command::new("true").spawn().unwrap();
    while proc::status(HostPid::new(dead.id().cast_signed()), HostPid::new(dead.id().cast_signed()))
        .unwrap()
        .state
        != 'Z'
    {
        std::thread::yield_now();
    }
    let refused = FrozenTask::seize(HostPid::new(dead.id().cast_signed())).unwrap_err();
    assert!(refused.to_string().contains("it has exited"), "{refused}");
    dead.wait().unwrap();
    let cat = Cat::new();
    let _task = FrozenTask::seize(cat.pid()).unwrap();
    let refused = FrozenTask::seize(cat.pid()).unwrap_err();
    assert!(refused.to_string().contains("it is traced by"), "{refused}");
}
