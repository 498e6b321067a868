//! The engine is killed at random moments while it holds a process; the process must not notice.
//!
//! The victim is `programs/helpers/survivor.c`, which checks its registers, masks, signals, sleeps and
//! memory all the time and ends as soon as one is wrong. The engine is this program again (the
//! ignored test `engine_under_kill`), freezing the victim and running system calls in it over
//! and over. Each set of the victim's roles makes another kind of thread the one that runs the
//! calls.
//!
//! `CRASH_SAFETY_KILLS=n` sets the number of kills; the ignored test does 2000.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::common::until;
use criu::args;
use criu::kernel::memory;
use criu::kernel::pid::HostPid;
use criu::kernel::proc;
use criu::kernel::remote::RemoteAddr;
use criu::tracee::batch::Batch;
use criu::tracee::dumpee::{FrozenTask, Injection};
use criu_test_support::compile_with;

/// What the engine does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sabotage {
    None,
    /// A saved general register is changed.
    Registers,
    /// The saved vector state is damaged.
    Vectors,
}

// ---- the engine ----

const VICTIM: &str = "CRASH_SAFETY_VICTIM";
const SABOTAGE: &str = "CRASH_SAFETY_SABOTAGE";

#[test]
#[ignore = "run by the other tests, which kill it"]
fn engine_under_kill() {
    let Ok(victim) = std::env::var(VICTIM) else { return };
    let pid = victim.parse().unwrap();
    let sabotage = match std::env::var(SABOTAGE).as_deref() {
        Ok("Registers") => Sabotage::Registers,
        Ok("Vectors") => Sabotage::Vectors,
        _ => Sabotage::None,
    };
    println!("READY");
    let mut random = Random::new();
    loop {
        session(pid, sabotage).unwrap_or_else(|error| panic!("session: {error}"));
        println!("SESSION");
        std::thread::sleep(Duration::from_micros(150 + random.below(150)));
    }
}

fn session(pid: i32, sabotage: Sabotage) -> criu::error::Result<()> {
    let task = FrozenTask::seize(HostPid::new(pid))?;
    let mut injection = task.inject()?;
    match sabotage {
        Sabotage::None => {}
        Sabotage::Registers => damage_registers(&injection),
        Sabotage::Vectors => damage_vectors(&injection),
    }
    let outcome = injection.run(signal_actions())?;
    assert_eq!(outcome.ret(outcome_of_getpid()), Ok(pid.into()));
    injection.set_restart_mask(0)?;
    let batches = (0..task.threads.len()).map(|thread| (thread, thread_facts())).collect();
    assert_eq!(injection.run_in_threads(batches)?.len(), task.threads.len());
    injection.run(signal_actions())?;
    injection.finish()?;
    task.release()
}

/// What a dump asks of a process: 64 signal actions, three timers.
fn signal_actions() -> Batch {
    let mut batch = Batch::new();
    batch.must("getpid", libc::SYS_getpid, args![]);
    for signal in 1..=64 {
        let place = batch.space(32);
        batch.must("rt_sigaction", libc::SYS_rt_sigaction, args![signal, 0, place, 8]);
    }
    for timer in 0..3 {
        let place = batch.space(32);
        batch.must("getitimer", libc::SYS_getitimer, args![timer, place]);
    }
    batch
}

fn outcome_of_getpid() -> criu::tracee::batch::CallId {
    Batch::new().call(libc::SYS_getpid, args![])
}

fn thread_facts() -> Batch {
    let mut batch = Batch::new();
    let stack = batch.space(24);
    batch.must("sigaltstack", libc::SYS_sigaltstack, args![0, stack]);
    let address = batch.space(8);
    batch.must("prctl", libc::SYS_prctl, args![libc::PR_GET_TID_ADDRESS, address]);
    batch
}

/// Changes every copy of one register's value that stands where the heal code looks for it.
///
/// Only a random value of the victim's loop: an address or a small number may stand there for
/// other reasons.
fn damage_registers(injection: &Injection<'_>) {
    let task = injection.task();
    let value = task.threads[injection.thread()].regs.r12;
    if value >> 48 == 0 {
        return;
    }
    let maps = proc::maps(task.pid).unwrap();
    let vdso = maps.iter().find(|mapping| mapping.name == "[vdso]").unwrap();
    for at in vdso.range.clone().step_by(8) {
        let mut word = [0; 8];
        memory::read_forced(task.memory(), RemoteAddr(at), &mut word).unwrap();
        if u64::from_le_bytes(word) == value {
            word[0] ^= 1;
            memory::write_forced(task.memory(), RemoteAddr(at), &word).unwrap();
        }
    }
}

/// Damages the magic number behind the saved vector state, which the kernel takes in silence.
fn damage_vectors(injection: &Injection<'_>) {
    const MAGIC2: [u8; 4] = 0x4650_5845u32.to_le_bytes();
    let task = injection.task();
    let page = injection.footprint()[1].clone();
    let mut bytes = vec![0; (page.end - page.start) as usize];
    memory::read(task.pid, RemoteAddr(page.start), &mut bytes).unwrap();
    let at = bytes.windows(4).rposition(|window| window == MAGIC2).unwrap();
    memory::write(task.pid, RemoteAddr(page.start + at as u64), &[0; 4]).unwrap();
}

struct Engine {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Engine {
    fn start(victim: &Victim, sabotage: Sabotage) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash_safety::engine_under_kill", "--exact", "--ignored", "--nocapture"])
            .env(VICTIM, victim.pid().to_string())
            .env(SABOTAGE, format!("{sabotage:?}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("READY\n") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the engine did not start");
        }
        Self { child, output }
    }

    /// Kills it; returns how many sessions it had ended.
    fn kill(mut self) -> usize {
        let ended = self.child.try_wait().unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        if ended.is_some() {
            let mut errors = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("the engine ended by itself: {text}{errors}");
        }
        text.matches("SESSION").count()
    }
}

// ---- the victim ----

struct Victim {
    child: Child,
    progress: File,
    path: PathBuf,
    roles: &'static str,
}

const SPIN: usize = 3;
const READY: usize = 15;

impl Victim {
    fn start(roles: &'static str) -> Self {
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut number = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
            *number += 1;
            *number
        };
        let name = format!("crash-safety-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, [0; 4096]).unwrap();
        let progress = File::open(&path).unwrap();
        let child = Command::new(survivor())
            .arg(&path)
            .arg(roles)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut victim = Self { child, progress, path, roles };
        victim.wait_until("it is ready", |progress| progress[READY] == 1);
        victim
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn progress(&self) -> [u64; 16] {
        let mut bytes = [0; 128];
        self.progress.read_exact_at(&mut bytes, 0).unwrap();
        std::array::from_fn(|at| u64::from_le_bytes(bytes[at * 8..][..8].try_into().unwrap()))
    }

    fn wait_until(&mut self, what: &str, done: impl Fn([u64; 16]) -> bool) {
        if let Some(fault) = self.fault_until(what, done) {
            panic!("victim {}: {fault}", self.roles);
        }
    }

    /// Waits until the progress is such, or for the fault that it ends with.
    fn fault_until(&mut self, what: &str, done: impl Fn([u64; 16]) -> bool) -> Option<String> {
        let roles = self.roles;
        until(
            || format!("victim {roles}: {what}"),
            || match self.fault() {
                Some(fault) => Some(Some(fault)),
                None => done(self.progress()).then_some(None),
            },
        )
    }

    /// The latest moment for a kill: some sessions take longer than others.
    fn longest_us(&self) -> u64 {
        if self.roles.contains('c') { 30_000 } else { 6000 }
    }

    /// What it found wrong, or what it died of.
    fn fault(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        Some(format!("{status}: {text}"))
    }

    /// All of its threads go on.
    fn assert_well(&mut self) {
        let roles = [(3, 's'), (4, 'r'), (5, 'n'), (6, 'f'), (7, 'e'), (2, 'q'), (9, 'q')];
        let with_role = roles.iter().filter(|(_, role)| self.roles.contains(*role));
        let mut counters: Vec<usize> = with_role.map(|(counter, _)| *counter).collect();
        counters.extend([0, 1]);
        let before = self.progress();
        // Twice: the first check of each may have begun before the kill.
        self.wait_until("a thread makes no progress", |progress| {
            counters.iter().all(|at| progress[*at] >= before[*at] + 2)
        });
    }

    /// Scratch mappings that killed engines have left.
    fn leaks(&self) -> usize {
        let threads = proc::threads(HostPid::new(self.pid())).unwrap().len();
        let len = (criu::tracee::dumpee::SCRATCH + threads * (8 << 10)) as u64;
        let maps = proc::maps(HostPid::new(self.pid())).unwrap();
        maps.iter().filter(|mapping| mapping.range.end - mapping.range.start == len).count()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The victim's program, which loads registers that the compiler must not use meanwhile.
fn survivor() -> PathBuf {
    compile_with("helpers/survivor", &["-O2"])
}

// ---- the tests ----

struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self(now.as_nanos() as u64 | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

/// One at a time: two machines' worth of spinning threads only adds noise.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts an engine, kills it at a random moment; returns how many sessions it had ended.
fn kill_once(victim: &Victim, random: &mut Random, sabotage: Sabotage) -> usize {
    let engine = Engine::start(victim, sabotage);
    std::thread::sleep(Duration::from_micros(random.below(victim.longest_us())));
    engine.kill()
}

/// The sets of roles: each makes another thread the one that runs the calls.
const VICTIMS: [(&str, &str); 6] = [
    ("a thread in user mode", "srnfeq"),
    ("a thread in a blocking read", "rnfeq"),
    ("a sleeping thread", "nfe"),
    ("a thread in pause()", ""),
    ("no signal is free", "srnfeqc"),
    ("no room for vector state", "sqb"),
];

fn survive(kills: usize) {
    let _alone = alone();
    let mut random = Random::new();
    for (what, roles) in VICTIMS {
        let mut victim = Victim::start(roles);
        let mut sessions = 0;
        let count = kills.div_ceil(VICTIMS.len());
        for kill in 0..count {
            sessions += kill_once(&victim, &mut random, Sabotage::None);
            if let Some(fault) = victim.fault() {
                panic!("{what}: harmed by kill {kill}: {fault}");
            }
            if kill % 20 == 19 {
                victim.assert_well();
            }
        }
        victim.assert_well();
        assert!(sessions > 0, "{what}: no session ever ended");
        println!("{what}: {count} kills, {sessions} sessions, {} leaks", victim.leaks());
        // The next session removes what killed ones have left.
        session(victim.pid(), Sabotage::None).unwrap();
        assert_eq!(victim.leaks(), 0, "{what}");
        victim.assert_well();
    }
}

#[test]
fn a_killed_engine_harms_nothing() {
    let kills = std::env::var("CRASH_SAFETY_KILLS").map_or(180, |text| text.parse().unwrap());
    survive(kills);
}

#[test]
#[ignore = "takes minutes"]
fn two_thousand_kills_harm_nothing() {
    survive(2000);
}

/// The test above would notice: an engine that prepares wrong values harms its victim.
fn is_noticed(roles: &'static str, sabotage: Sabotage, fault_text: &str) {
    const KILLS: usize = 300;
    let _alone = alone();
    let mut random = Random::new();
    let mut victim = Victim::start(roles);
    for _ in 0..KILLS {
        kill_once(&victim, &mut random, sabotage);
        // Twice: the first look may have begun before the kill.
        let looks = victim.progress()[SPIN] + 2;
        let fault = victim.fault_until("it does not look", |progress| progress[SPIN] >= looks);
        if let Some(fault) = fault {
            assert!(fault.contains(fault_text), "{fault}");
            return;
        }
    }
    panic!("{sabotage:?} was not noticed in {KILLS} kills");
}

#[test]
fn a_wrong_register_is_noticed() {
    is_noticed("s", Sabotage::Registers, "general register differs");
}

#[test]
fn a_wrong_register_in_plain_moves_is_noticed() {
    is_noticed("sb", Sabotage::Registers, "general register differs");
}

#[test]
fn a_damaged_vector_state_is_noticed() {
    is_noticed("s", Sabotage::Vectors, "vector register differs");
}
