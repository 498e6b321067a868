//! Further processes and threads, cloned by a blank.
//!
//! The kernel makes them traced (CLONE_PTRACE) and stopped before their first instruction, so that
//! the creator need not be stopped for each of them. They inherit the creator's trace options,
//! signal mask and helper area.

use std::cell::OnceCell;
use std::rc::Rc;

use nix::errno::Errno;

use super::run::died;
use super::spawn::{CloneArgs, Patience, clone_error};
use super::{Blank, BlankThread, HelperArea};
use crate::args;
use crate::error::{Error, Kind, Result};
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, WaitStatus};
use crate::tracee::batch::{Batch, CallId, ENTRY_SIZE, Outcome};

/// A process to be cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneSpec {
    /// Its pid, or `None` for any.
    pub pid: Option<HostPid>,
    /// What it shares with its creator (CLONE_FILES, CLONE_FS, CLONE_VM, CLONE_SIGHAND), and
    /// CLONE_PARENT to be the creator's sibling (then `exit_signal` must be 0).
    pub flags: u64,
    /// The signal that tells its parent of its death.
    pub exit_signal: i32,
}

impl CloneSpec {
    /// An ordinary child.
    pub fn new(pid: Option<HostPid>) -> Self {
        Self { pid, flags: 0, exit_signal: libc::SIGCHLD }
    }
}

/// A thread to be cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadSpec {
    /// Its id.
    pub tid: HostPid,
    /// Where the kernel writes 0 when it exits; 0 for nowhere.
    pub clear_tid_addr: u64,
}

/// A clone that stands in a batch; see [`Blank::add_clone`].
#[derive(Clone, Copy, Debug)]
pub struct CloneCall {
    call: CallId,
    spec: CloneSpec,
}

const THREAD_FLAGS: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

/// Bytes of the helper area that one clone takes: entry, arguments, pid.
const CLONE_LEN: usize = ENTRY_SIZE + 128 + 64;

impl Blank {
    /// Clones one process.
    pub fn clone_process(&mut self, spec: &CloneSpec) -> Result<Blank> {
        let mut batch = Batch::new();
        let call = Self::add_clone(&mut batch, spec);
        let outcome = self.run(batch)?;
        self.adopt(&outcome, call)
    }

    /// Puts a clone into a batch, to be followed by [`adopt`](Self::adopt) after the run.
    ///
    /// The batch must contain no [`must`](Batch::must) call: if one failed, the processes that were
    /// made would be lost. No later call of the batch may change what the new process inherits,
    /// because [`adopt`](Self::adopt) repeats the clone after the batch if its pid was still in
    /// use.
    pub fn add_clone(batch: &mut Batch, spec: &CloneSpec) -> CloneCall {
        let flags = spec.flags | libc::CLONE_PTRACE as u64;
        let args = CloneArgs {
            flags,
            exit_signal: u64::from(spec.exit_signal.cast_unsigned()),
            ..CloneArgs::default()
        };
        CloneCall { call: push_clone(batch, args, spec.pid), spec: *spec }
    }

    /// Takes over a process that a batch has made.
    pub fn adopt(&mut self, outcome: &Outcome, made: CloneCall) -> Result<Blank> {
        let CloneCall { call, spec } = made;
        let number = spec.pid.unwrap_or_default();
        let mut patience = Patience::default();
        let mut made = outcome.ret(call);
        while made == Err(Errno::EEXIST) && patience.is_worth(number) {
            let mut again = Batch::new();
            let CloneCall { call, .. } = Self::add_clone(&mut again, &spec);
            made = self.run(again)?.ret(call);
        }
        let pid = made
            .map_err(|errno| clone_error(number, errno).context(format!("pid {}", self.pid())))?;
        let child = self.child(HostPid::new(i32::try_from(pid).expect("a pid")), spec.flags);
        wait_born(child.pid())?;
        Ok(child)
    }

    fn child(&self, pid: HostPid, flags: u64) -> Blank {
        let shares = |flag: i32| flags & flag as u64 != 0;
        let helper = if shares(libc::CLONE_VM) {
            self.helper.clone()
        } else {
            Rc::new(HelperArea { start: self.helper.start, len: self.helper.len })
        };
        let service = if shares(libc::CLONE_FILES) {
            self.service.clone()
        } else {
            Rc::new(self.service.copied())
        };
        Blank {
            threads: vec![BlankThread { tid: pid }],
            helper,
            service,
            registers: self.registers.clone(),
            park: self.park,
            reserved: self.reserved,
            stopped_from_outside: false.into(),
            seccomp_suspended: self.seccomp_suspended,
            memory: OnceCell::new(),
            alive: true,
        }
    }

    /// Clones the other threads of the process, in this order.
    pub fn clone_threads(&mut self, threads: &[ThreadSpec]) -> Result<()> {
        let at_once = (self.capacity() / CLONE_LEN).max(1);
        threads.chunks(at_once).try_for_each(|some| self.clone_some_threads(some))
    }

    fn clone_some_threads(&mut self, specs: &[ThreadSpec]) -> Result<()> {
        let before = self.threads.len();
        let mut patience = Patience::default();
        let mut failed = self.try_threads(specs)?;
        while let Some((spec, errno)) = failed.first().copied() {
            if errno != Errno::EEXIST || !patience.is_worth(spec.tid) {
                let doing = format!("pid {}: thread", self.pid());
                return Err(clone_error(spec.tid, errno).context(doing));
            }
            let rest: Vec<_> = failed.into_iter().map(|(spec, _)| spec).collect();
            failed = self.try_threads(&rest)?;
        }
        // Threads that had to be tried again were made out of order.
        self.threads.truncate(before);
        self.threads.extend(specs.iter().map(|spec| BlankThread { tid: spec.tid }));
        Ok(())
    }

    /// Takes over those that can be made, and returns the others with the reasons.
    fn try_threads(&mut self, specs: &[ThreadSpec]) -> Result<Vec<(ThreadSpec, Errno)>> {
        let mut batch = Batch::new();
        let calls: Vec<CallId> = specs.iter().map(|spec| push_thread(&mut batch, spec)).collect();
        let outcome = self.run(batch)?;
        let mut failed = Vec::new();
        for (spec, call) in specs.iter().zip(calls) {
            match outcome.ret(call) {
                Ok(_) => self.threads.push(BlankThread { tid: spec.tid }),
                Err(errno) => failed.push((*spec, errno)),
            }
        }
        // A failure is reported only after all threads that exist are in `self`, which ends them.
        let made = self.threads.iter().rev().take(specs.len() - failed.len());
        made.rev().try_for_each(|thread| wait_born(thread.tid))?;
        Ok(failed)
    }

    /// Lets the process wait for a child whose end the tracer has seen already, and discards the
    /// SIGCHLD of that end.
    pub fn reap_child(&mut self, pid: HostPid) -> Result<()> {
        let mut batch = Batch::new();
        let flags = libc::WNOHANG | libc::__WALL;
        let wait =
            batch.must("wait for a child", libc::SYS_wait4, args![pid.number(), 0, flags, 0]);
        add_sigchld_flush(&mut batch);
        let outcome = self.run(batch)?;
        match outcome.ret(wait) {
            Ok(got) if got == i64::from(pid.number()) => Ok(()),
            _ => {
                let text = format!("pid {} has no dead child {pid}", self.pid());
                Err(Error::new(Kind::Internal, text))
            }
        }
    }

    /// Discards pending SIGCHLDs, which deaths and stops during the restore have left behind.
    pub fn flush_sigchld(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        add_sigchld_flush(&mut batch);
        self.run(batch).map(drop)
    }
}

/// Setting an action that ignores a signal removes the signal from the queues. The default action
/// of SIGCHLD is such an action.
fn add_sigchld_flush(batch: &mut Batch) {
    let default = batch.space(32);
    let args = args![libc::SIGCHLD, default, 0, ptrace::SIGSET_SIZE];
    batch.must("flush SIGCHLD", libc::SYS_rt_sigaction, args);
}

fn push_thread(batch: &mut Batch, spec: &ThreadSpec) -> CallId {
    let clear = if spec.clear_tid_addr == 0 { 0 } else { libc::CLONE_CHILD_CLEARTID };
    let args = CloneArgs {
        flags: (THREAD_FLAGS | libc::CLONE_PTRACE | clear) as u64,
        child_tid: spec.clear_tid_addr,
        ..CloneArgs::default()
    };
    push_clone(batch, args, Some(spec.tid))
}

fn push_clone(batch: &mut Batch, mut args: CloneArgs, pid: Option<HostPid>) -> CallId {
    const SET_TID: usize = 64;
    args.set_tid_size = pid.is_some().into();
    let place = batch.bytes(&args.to_bytes());
    if let Some(pid) = pid {
        let number = batch.bytes(&pid.number().to_le_bytes());
        batch.point(place.skip(SET_TID), number);
    }
    batch.call(libc::SYS_clone3, args![place, size_of::<CloneArgs>()])
}

/// Waits for the stop at which a traced process or thread begins its life.
fn wait_born(tid: HostPid) -> Result<()> {
    match ptrace::wait(tid) {
        Ok(WaitStatus::Stopped(stop)) if stop.is_interrupt() => Ok(()),
        Ok(other) => Err(died(tid, &format!("{other:?} at its birth"))),
        Err(errno) => Err(super::run::lost(tid, "wait for a new task", errno)),
    }
}
