//! Sessions in live processes, and the death of the engine at each state change.
//!
//! Random deaths, and a victim that checks every register, are in `tests/crash_safety.rs`.

use std::cell::Cell;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::*;
use crate::args;
use crate::error::Kind;
use crate::kernel::proc;
use crate::kernel::remote::Batch;

thread_local! {
    /// After how many state changes this thread's process dies; 0: never.
    static LIFE: Cell<u32> = const { Cell::new(0) };
}

/// Called at every state change.
pub(super) fn reached() {
    match LIFE.get() {
        0 => {}
        1 => {
            let _ = sys::kill(std::process::id().cast_signed(), libc::SIGKILL);
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

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
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
            std::thread::sleep(std::time::Duration::from_millis(1));
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

fn session(pid: i32) -> Result<()> {
    let task = FrozenTask::seize(pid)?;
    let mut injection = task.inject()?;
    let mut batch = Batch::new();
    let name = batch.space(16);
    batch.must("prctl", libc::SYS_prctl, args![libc::PR_GET_NAME, name]);
    let id = batch.must("getpid", libc::SYS_getpid, args![]);
    let outcome = injection.run(batch)?;
    assert_eq!(outcome.ret(id), Ok(pid.into()));
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

#[test]
fn a_death_at_any_state_change_leaves_no_trace() {
    let mut cat = Cat::new();
    let before = cat.look();
    for life in 1.. {
        // SAFETY: the child touches nothing that another thread may have left half done: it
        // makes system calls and allocates, and the allocator is safe to use after a fork.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                LIFE.set(life);
                let code = i32::from(session(cat.pid()).is_err());
                // SAFETY: ends this process without running what belongs to its parent.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => child,
        };
        let status = waitpid(child, None).unwrap();
        cat.echo();
        let mut settled = false;
        for _ in 0..100 {
            settled = cat.look() == before;
            if settled {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(settled, "death {life}: {:?} instead of {before:?}", cat.look());
        if status == WaitStatus::Exited(child, 0) {
            assert!(life > 10, "{life} state changes are too few");
            return;
        }
        assert!(matches!(status, WaitStatus::Signaled(..)), "death {life}: {status:?}");
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
    assert_eq!(injection.run(batch).unwrap().ret(id), Ok(cat.pid().into()));
    injection.finish().unwrap();
    task.release().unwrap();
    cat.assert_stopped();
    sys::kill(cat.pid(), libc::SIGCONT).unwrap();
    cat.echo();
}

#[test]
fn it_can_be_killed() {
    let mut cat = Cat::new();
    FrozenTask::seize(cat.pid()).unwrap().kill().unwrap();
    assert!(cat.0.try_wait().map_or(true, |status| status.is_some()));
}

#[test]
fn what_cannot_be_seized_is_refused_by_name() {
    assert_eq!(FrozenTask::seize(0).unwrap_err().kind(), Kind::NoSuchTask);
    let mut dead = Command::new("true").spawn().unwrap();
    while proc::status(dead.id().cast_signed(), dead.id().cast_signed()).unwrap().state != 'Z' {
        std::thread::yield_now();
    }
    let refused = FrozenTask::seize(dead.id().cast_signed()).unwrap_err();
    assert!(refused.to_string().contains("it has exited"), "{refused}");
    dead.wait().unwrap();
    let cat = Cat::new();
    let _task = FrozenTask::seize(cat.pid()).unwrap();
    let refused = FrozenTask::seize(cat.pid()).unwrap_err();
    assert!(refused.to_string().contains("it is traced by"), "{refused}");
}
