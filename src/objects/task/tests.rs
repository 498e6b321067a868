//! A process with unusual settings of every kind, captured, rebuilt and captured again: as root.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::args;
use crate::error::{Refusals, Result};
use crate::images::pid::TreePid;
use crate::images::proto::{
    CoreEntry, CredsEntry, ItimerEntry, PosixTimerEntry, RlimitEntry, SeccompEntry, SeccompMode,
    TaskCoreEntry, ThreadCoreEntry,
};
use crate::images::snapshot::{Snapshot, TaskImage, task_state};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteAddr;
use crate::kernel::{ptrace, sys};
use crate::objects::phases::{Circumstances, Phase, Turn, Walk, World};
use crate::objects::pids;
use crate::tracee::batch::Batch;
use crate::tracee::blank::tests::support;
use crate::tracee::blank::{Blank, SpawnSpec};
use crate::tracee::dumpee::FrozenTask;

/// `tests/programs/helpers/odd_task.c`, running; killed when dropped.
struct Odd {
    /// None once it has been reaped: its pid is not ours any more.
    child: Option<Child>,
}

impl Odd {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(criu_test_support::compile("helpers/odd_task"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), format!("ready {}", child.id()));
        Self::wait_asleep(child.id());
        Self { child: Some(child) }
    }

    /// Until every thread is in the system call in which it stays.
    fn wait_asleep(pid: u32) {
        let waiting = [libc::SYS_pause, libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
        let asleep = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.unwrap().path().join("syscall")).unwrap();
            let number = text.split(' ').next().and_then(|word| word.parse().ok());
            number.is_some_and(|number: i64| waiting.contains(&number))
        };
        while !std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(asleep) {
            std::thread::yield_now();
        }
    }

    fn pid(&self) -> HostPid {
        HostPid::new(self.child.as_ref().unwrap().id().cast_signed())
    }

    /// Waits for its end: it is our own child, which a dump leaves to its parent.
    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// What was captured of the process, and for the tree as a whole.
fn captured(task: &FrozenTask) -> (Captured, Snapshot) {
    let (mut all, mut refusals) = (Snapshot::default(), Refusals::default());
    let (captured, session) = capture_process(task, &mut all, &mut refusals).unwrap();
    session.finish().unwrap();
    refusals.check().unwrap();
    (captured, all)
}

fn process(captured: &Captured) -> &TaskCoreEntry {
    captured.leader.tc.as_ref().unwrap()
}

fn thread(core: &CoreEntry) -> &ThreadCoreEntry {
    core.thread_core.as_ref().unwrap()
}

fn set(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// SIGRTMIN + 5 of glibc.
const REAL_TIME: i32 = 39;

#[test]
fn an_odd_task_is_captured_and_runs_on() {
    let odd = Odd::start(&[]);
    let before = std::fs::read_to_string(format!("/proc/{}/limits", odd.pid())).unwrap();
    let task = FrozenTask::seize(odd.pid()).unwrap();
    let (captured, _) = captured(&task);
    task.release().unwrap();
    check_process(&captured);
    check_timers(&captured, odd.pid());
    check_threads(&captured);
    assert!(captured.extras.is_none());
    let after = std::fs::read_to_string(format!("/proc/{}/limits", odd.pid())).unwrap();
    assert_eq!(before, after);
}

fn check_process(captured: &Captured) {
    let entry = process(captured);
    assert_eq!((entry.task_state, entry.exit_code, entry.stop_signo), (task_state::ALIVE, 0, None));
    assert_eq!((entry.comm.as_str(), entry.personality), ("odd (leader)", 40000));
    assert_eq!(entry.blk_sigset, set(&[libc::SIGUSR1, libc::SIGTERM, REAL_TIME]));
    assert_eq!(
        (entry.child_subreaper, entry.membarrier_registration_mask),
        (Some(true), Some(0x10))
    );
    let limits = &entry.rlimits.as_ref().unwrap().rlimits;
    assert_eq!(limits[libc::RLIMIT_CORE as usize], RlimitEntry { cur: 0, max: 4096 });
    assert_eq!(limits[libc::RLIMIT_NOFILE as usize], RlimitEntry { cur: 100, max: 200 });
    assert_eq!(limits[libc::RLIMIT_STACK as usize], RlimitEntry { cur: 1 << 20, max: u64::MAX });
    let handler = sigaction::of(&entry.sigactions, libc::SIGUSR1).unwrap();
    assert_eq!(handler.flags, 0x1c00_0004);
    assert_eq!(handler.mask, set(&[libc::SIGINT]));
    assert_eq!(sigaction::of(&entry.sigactions, libc::SIGPIPE).unwrap().sigaction, 1);
    let shared = entry.signals_s.as_ref().unwrap();
    let values: Vec<(u8, u8)> =
        shared.signals.iter().map(|info| (info.siginfo[0], info.siginfo[24])).collect();
    assert_eq!(values, [(39, 42), (39, 43), (10, 0)]);
}

fn check_timers(captured: &Captured, pid: HostPid) {
    let timers = process(captured).timers.as_ref().unwrap();
    assert_eq!((timers.real.isec, timers.real.iusec), (7, 250));
    assert!((2990..=3000).contains(&timers.real.vsec), "{timers:?}");
    assert!((3990..=4000).contains(&timers.virt.vsec), "{timers:?}");
    assert_eq!((timers.prof.vsec, timers.prof.vusec), (0, 0));
    let ids: Vec<u32> = timers.posix.iter().map(|timer| timer.it_id).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!((timers.posix[0].isec, timers.posix[0].insec), (11, 3));
    assert!((4990..=5000).contains(&timers.posix[0].vsec), "{timers:?}");
    assert_eq!((timers.posix[0].clock_id, timers.posix[0].sival_ptr), (1, 0x1234));
    assert_eq!(timers.posix[2].notify_thread_id, Some(pid.number()));
}

fn check_threads(captured: &Captured) {
    let leader = thread(&captured.leader);
    assert_eq!((leader.blk_sigset, leader.pdeath_sig), (None, Some(libc::SIGUSR2 as u32)));
    assert_eq!(
        (leader.sched_nice, leader.sched_policy, leader.sched_prio),
        (Some(3), Some(3), None)
    );
    assert_eq!(leader.sas.unwrap().ss_size, 65536);
    assert_eq!(leader.signals_p.as_ref().unwrap().signals[0].siginfo[0], libc::SIGTERM as u8);
    assert_eq!((leader.futex_rla_len, leader.rseq_entry.as_ref().unwrap().rseq_abi_size), (24, 32));
    let regs = captured.leader.thread_info.as_ref().unwrap().gpregs;
    // pause() is wound back to be called again.
    assert_eq!((regs.ax, regs.orig_ax), (libc::SYS_pause as u64, libc::SYS_pause as u64));
    let (_, second) = &captured.threads[0];
    let regs = second.thread_info.as_ref().unwrap().gpregs;
    // So is a sleep, whose time left the kernel has stored.
    assert_eq!(regs.ax, regs.orig_ax);
    assert!([libc::SYS_nanosleep, libc::SYS_clock_nanosleep].contains(&(regs.orig_ax as i64)));
    assert!(second.tc.is_none());
    let second = thread(second);
    assert_eq!(second.comm.as_deref(), Some("odd second"));
    let blocked = set(&[libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP, REAL_TIME]);
    assert_eq!((second.blk_sigset, second.sched_nice), (Some(blocked), Some(7)));
    assert_eq!(second.pdeath_sig, Some(libc::SIGALRM as u32));
    assert_ne!(second.sas.unwrap().ss_sp, leader.sas.unwrap().ss_sp);
}

fn check_odd_credentials(creds: &CredsEntry) {
    assert_eq!((creds.uid, creds.euid, creds.suid, creds.fsuid), (2001, 2002, 2003, 2002));
    assert_eq!((creds.gid, creds.egid, creds.sgid, creds.fsgid), (1001, 1002, 1003, 1002));
    assert_eq!(creds.groups, [5, 1000, 70000]);
    assert_eq!((creds.cap_inh[0], creds.cap_prm[0], creds.cap_eff[0]), (0x2000, 0x2020, 0x20));
    assert_eq!((creds.cap_amb[0], creds.cap_bnd[0] & 1 << 22), (0x2000, 0));
    assert_eq!((creds.secbits, creds.no_new_privs), (0x24, Some(1)));
}

const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x7ffd_0000_0000;
const VDSO: u64 = 0x7ffe_0000_0000;
const HELPER: u64 = 0x1000_0000;
/// mov eax, SYS_pause; syscall; jmp to the beginning
const WAIT: [u8; 9] = [0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// One process, of which nothing is made anew but its attributes.
struct Made<'a> {
    process: Rebuild<'a>,
    blank: Blank,
    /// How often its calls had run when it was through the phases that end its privileges and expose
    /// it.
    rounds: usize,
}

impl World for Made<'_> {
    fn once(&mut self, _: Phase) -> Result<()> {
        Ok(())
    }

    fn each(&mut self, phases: &[Phase]) -> Result<()> {
        let Self { process, blank, rounds } = self;
        Turn::take(blank, phases, |phase, turn| {
            process.take(phase, turn)?;
            if phase == Phase::LAST {
                turn.blank()?;
                *rounds = turn.rounds;
            }
            Ok(())
        })
    }
}

/// Writes a process into a blank of the same pid, with a program that only waits. Returns how often
/// its calls ran in the last turn.
fn rebuild(pid: HostPid, all: &Snapshot) -> usize {
    let reach = Reach::ours().unwrap();
    let number = pids::tree(pid);
    validate(all, number).unwrap();
    check_reach(all, number, &reach).unwrap();
    let process = Rebuild::new(all, number, &reach).unwrap();
    let blank = Blank::spawn(&SpawnSpec::new(pid, HELPER)).unwrap();
    let mut made = Made { process, blank, rounds: 0 };
    let mut walk = Walk::new(&Circumstances::default());
    walk.through(Phase::Memory, &mut made).unwrap();
    map_memory(&mut made.blank, &all.tasks[&number]);
    walk.through(Phase::LAST, &mut made).unwrap();
    let mut finals = made.process.final_states().unwrap();
    for (index, state) in finals.iter_mut().enumerate() {
        state.regs.rip = CODE;
        state.regs.rsp = STACK + 0x8000 + index as u64 * 0x1000;
    }
    made.blank.launch(&finals, stop_signal(&all.tasks[&number])).unwrap();
    made.rounds
}

fn map_memory(blank: &mut Blank, image: &TaskImage) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let cores = std::iter::once(&image.core).chain(image.threads.iter().map(|thread| &thread.1));
    let rseqs =
        cores.map(|core| thread(core).rseq_entry.as_ref().unwrap().rseq_abi_pointer & !0xfff);
    let mut batch = Batch::new();
    for (addr, len) in rseqs.map(|addr| (addr, 4096)).chain([(CODE, 4096), (STACK, 0x10000)]) {
        batch.must("mmap", libc::SYS_mmap, args![addr, len, 7, flags, -1, 0]);
    }
    blank.run(batch).unwrap();
    blank.map_vdso(RemoteAddr(VDSO)).unwrap();
    crate::kernel::memory::write(blank.pid(), RemoteAddr(CODE), &WAIT).unwrap();
}

/// What must be the same before and after: all but the times left and the place in the program.
fn comparable(captured: Captured) -> (CoreEntry, Vec<(TreePid, CoreEntry)>) {
    let (mut leader, mut threads) = (captured.leader, captured.threads);
    for core in std::iter::once(&mut leader).chain(threads.iter_mut().map(|(_, core)| core)) {
        let regs = &mut core.thread_info.as_mut().unwrap().gpregs;
        (regs.ip, regs.sp, regs.ax, regs.orig_ax, regs.cx, regs.r11) = (0, 0, 0, 0, 0, 0);
        regs.flags = 0;
        let pads = core.thread_info.as_mut().unwrap().fpregs.xsave.as_mut().unwrap();
        pads.xstate_bv |= 3;
    }
    let entry = leader.tc.as_mut().unwrap();
    // Flags of the kernel's own, such as "forked but not executed".
    entry.flags = 0;
    let timers = entry.timers.as_mut().unwrap();
    for timer in [&mut timers.real, &mut timers.virt, &mut timers.prof] {
        (timer.vsec, timer.vusec) = (timer.vsec.div_ceil(20), 0);
    }
    for PosixTimerEntry { vsec, vnsec, .. } in &mut timers.posix {
        (*vsec, *vnsec) = (vsec.div_ceil(20), 0);
    }
    (leader, threads)
}

/// What was captured, and in how many rounds of calls the last phases were taken.
fn round_trip(mut odd: Odd) -> (Captured, usize) {
    let pid = odd.pid();
    let task = FrozenTask::seize(pid).unwrap();
    let (before, mut all) = captured(&task);
    task.kill().unwrap();
    odd.reap();
    let image = TaskImage {
        core: before.leader.clone(),
        threads: before.threads.clone(),
        mm: Some(before.mm.clone()),
        ..TaskImage::default()
    };
    all.tasks.insert(pids::tree(pid), image);
    all.extras.extend(before.extras.clone());
    let rounds = rebuild(pid, &all);
    if stop_signal(&all.tasks[&pids::tree(pid)]).is_some() {
        wait_stopped(pid);
    }
    let task = FrozenTask::seize(pid).unwrap();
    let (after, all_after) = captured(&task);
    task.kill().unwrap();
    nix::sys::wait::waitpid(pid.nix(), None).unwrap();
    assert_eq!(all.seccomp, all_after.seccomp);
    assert_eq!(before.mm.dumpable, after.mm.dumpable);
    assert_eq!(before.mm.thp_disabled, after.mm.thp_disabled);
    assert_eq!(before.extras, after.extras);
    assert_eq!(comparable(before.clone()), comparable(after));
    (before, rounds)
}

#[test]
fn an_odd_task_is_rebuilt_as_it_was() {
    let odd = Odd::start(&[]);
    round_trip(odd);
}

/// Its credentials, signals, timers and limits, and what exposes it.
#[test]
fn one_batch_ends_a_task_of_one_thread() {
    let odd = Odd::start(&["alone"]);
    let (captured, rounds) = round_trip(odd);
    assert!(captured.threads.is_empty());
    assert_eq!(rounds, 1);
}

#[test]
fn steps_belong_to_phases_that_processes_take() {
    let mut steps = ATTRIBUTES.iter().flat_map(|attribute| attribute.steps());
    assert_eq!(steps.find(|(phase, _)| phase.is_taken_once()).map(|(phase, _)| phase), None);
}

/// A process is stopped when its threads have noticed.
fn wait_stopped(pid: HostPid) {
    while !status_line(pid, "State:").starts_with('T') {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_stopped_task_is_rebuilt_stopped() {
    let odd = Odd::start(&[]);
    sys::kill(odd.pid(), libc::SIGSTOP).unwrap();
    wait_stopped(odd.pid());
    let (captured, _) = round_trip(odd);
    let entry = process(&captured);
    assert_eq!(entry.task_state, task_state::STOPPED);
    assert_eq!(entry.stop_signo, Some(libc::SIGSTOP as u32));
}

#[test]
fn odd_credentials_are_rebuilt_as_they_were() {
    let odd = Odd::start(&["credentials"]);
    let (captured, _) = round_trip(odd);
    check_odd_credentials(thread(&captured.leader).creds.as_ref().unwrap());
    assert_eq!(thread(&captured.threads[0].1).creds.as_ref().unwrap().uid, 0);
}

#[test]
fn filters_are_rebuilt_as_they_were() {
    let odd = Odd::start(&["filters"]);
    let (captured, _) = round_trip(odd);
    let leader = thread(&captured.leader);
    assert_eq!(leader.seccomp_mode(), SeccompMode::Filter);
    // Of threads that share the filters only the leader has them.
    assert_eq!(thread(&captured.threads[0].1).seccomp_mode, None);
}

fn status_line(pid: HostPid, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

#[test]
fn timers_get_their_numbers_by_counting() {
    let mut blank = support::blank();
    let timer = PosixTimerEntry { clock_id: 1, si_signo: 10, ..PosixTimerEntry::default() };
    let timers = [3u32, 300].map(|it_id| PosixTimerEntry { it_id, vsec: 100, ..timer });
    posix_timers::rebuild_counting(&timers, |batch| blank.run(batch)).unwrap();
    let mut batch = Batch::new();
    posix_timers::start(&mut batch, &timers);
    blank.run(batch).unwrap();
    let text = std::fs::read_to_string(format!("/proc/{}/timers", blank.pid())).unwrap();
    let mut found: Vec<u32> =
        posix_timers::parse(&text).unwrap().iter().map(|timer| timer.it_id).collect();
    found.sort_unstable();
    assert_eq!(found, [3, 300]);
}

#[test]
fn an_expired_alarm_waits_again_and_its_timer_goes_on() {
    let mut blank = support::blank();
    blank.reserve_signals(set(&[libc::SIGALRM])).unwrap();
    let expired = ItimerEntry { isec: 50, ..ItimerEntry::default() };
    let off = ItimerEntry::default();
    let mut batch = Batch::new();
    itimers::set(&mut batch, &[&expired, &off, &off], true);
    blank.run(batch).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(status_line(blank.pid(), "ShdPnd:"), format!("{:016x}", set(&[libc::SIGALRM])));
    let waiting = pending::capture(blank.pid(), ptrace::Queue::Shared).unwrap();
    assert!(pending::holds_alarm(&waiting));
    let mut batch = Batch::new();
    let places = itimers::ask(&mut batch);
    let outcome = blank.run(batch).unwrap();
    assert_eq!(itimers::to_image(&outcome, places)[0], expired);
}

#[test]
fn batches_run_under_strict_seccomp() {
    let mut blank = support::blank();
    assert!(blank.seccomp_suspended());
    let strict = SeccompMode::Strict.into();
    let core = ThreadCoreEntry { seccomp_mode: Some(strict), ..ThreadCoreEntry::default() };
    let mut batch = Batch::new();
    seccomp::add(&mut batch, &core, &SeccompEntry::default());
    let call = batch.call(libc::SYS_getpid, args![]);
    let outcome = blank.run(batch).unwrap();
    assert_eq!(outcome.ret(call), Ok(blank.pid().number().into()));
    assert_eq!(status_line(blank.pid(), "Seccomp:"), "1");
}
