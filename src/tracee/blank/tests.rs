//! Blanks on the real kernel: as root.

use std::cmp::Ordering;
use std::fs;
use std::os::fd::AsFd;

use super::*;
use crate::args;
use crate::kernel::kcmp::{self, Kcmp};
use crate::kernel::pid::HostPid;
use crate::kernel::pin::Pin;
use crate::kernel::ptrace::WaitStatus;
use crate::kernel::remote::RemoteFd;
use crate::kernel::{pidfd, sys};
use crate::tracee::batch::{Batch, ENTRY_SIZE};

pub(crate) use super::support;
use super::support::*;

const CODE: u64 = 0x40_0000;

/// `exit_group(42)`
const EXIT_42: [u8; 12] = [0xb8, 231, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05];
/// `lock incq 0x400800; jmp .`-like counting loop.
const COUNT: [u8; 12] = [0xf0, 0x48, 0xff, 0x04, 0x25, 0x00, 0x08, 0x40, 0x00, 0xeb, 0xf5, 0x90];

fn status_field(pid: HostPid, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// The mappings, without the vsyscall page that everybody has.
fn maps(pid: HostPid) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    text.lines().filter(|line| !line.ends_with("[vsyscall]")).map(str::to_owned).collect()
}

fn state(pid: HostPid) -> char {
    status_field(pid, "State").chars().next().unwrap()
}

#[test]
fn a_blank_has_nothing() {
    let blank = blank();
    let pid = blank.pid();
    let fds: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().collect();
    assert_eq!(fds.len(), 1);
    assert_eq!(fds[0].file_name(), "64");
    let maps = maps(pid);
    assert_eq!(maps.len(), 1, "{maps:?}");
    assert!(maps[0].starts_with("10000000-10100000 rwxp"), "{maps:?}");
    for set in ["SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(status_field(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    drop(blank);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn a_delivery_foresees_numbers_until_the_table_is_filled() {
    let mut blank = blank_with(|spec| spec.service_fd = 1);
    let file = fs::File::open("/proc/self/stat").unwrap();
    let received = |blank: &mut Blank, filled: bool| {
        let mut delivery = Delivery::to(blank);
        assert!(delivery.receive(&[]).unwrap().is_empty());
        let numbers = delivery.receive(&[file.as_fd(); 2]).unwrap();
        for number in numbers.iter().filter(|_| !filled) {
            delivery.batch().must("close", libc::SYS_close, args![*number]);
        }
        if filled {
            delivery.note_filled();
        }
        delivery.flush().unwrap();
        numbers.iter().map(|number| number.0).collect::<Vec<_>>()
    };
    assert_eq!(received(&mut blank, false), [0, 2]);
    assert_eq!(received(&mut blank, true), [0, 2]);
    assert_eq!(received(&mut blank, true), [3, 4]);
}

#[test]
fn a_wrong_guess_about_numbers_is_noticed() {
    let mut blank = blank();
    let file = fs::File::open("/proc/self/stat").unwrap();
    blank.send_fds(&[file.as_fd()]).unwrap();
    let mut delivery = Delivery::to(&mut blank);
    delivery.receive(&[file.as_fd()]).unwrap();
    let text = delivery.flush().unwrap_err().to_string();
    assert!(text.contains("not [RemoteFd(0)]"), "{text}");
}

#[test]
fn batches_return_results_and_data() {
    let mut blank = blank();
    let mut batch = Batch::new();
    let pid = batch.call(libc::SYS_getpid, args![]);
    let place = batch.space(64);
    let cwd = batch.must("getcwd", libc::SYS_getcwd, args![place, 64]);
    let bad = batch.call(libc::SYS_close, args![9999]);
    let outcome = blank.run(batch).unwrap();
    assert_eq!(outcome.ret(pid), Ok(blank.pid().number().into()));
    assert_eq!(outcome.ret(cwd), Ok(2));
    assert_eq!(&outcome.bytes(place)[..2], b"/\0");
    assert_eq!(outcome.ret(bad), Err(nix::errno::Errno::EBADF));
}

#[test]
fn a_batch_may_be_larger_than_the_helper_area() {
    let mut blank = blank();
    let calls = 3 * blank.capacity() / ENTRY_SIZE;
    let mut batch = Batch::new();
    let limits = batch.space(16);
    let pids: Vec<_> = (0..calls).map(|_| batch.call(libc::SYS_getpid, args![])).collect();
    let get = args![0, libc::RLIMIT_CORE, 0, limits];
    batch.must("get a limit", libc::SYS_prlimit64, get);
    batch.must("set the same", libc::SYS_prlimit64, args![0, libc::RLIMIT_CORE, limits, 0]);
    let outcome = blank.run(batch).unwrap();
    assert!(pids.into_iter().all(|call| outcome.ret(call) == Ok(blank.pid().number().into())));
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
    assert_eq!(outcome.u64(limits), soft);
}

#[test]
fn a_call_whose_data_do_not_fit_is_an_error() {
    let mut blank = blank();
    let call = |len: usize| {
        let mut batch = Batch::new();
        let data = batch.space(len);
        batch.must("get the directory", libc::SYS_getcwd, args![data, 16]);
        batch
    };
    let most = (blank.capacity() - ENTRY_SIZE) / 64 * 64;
    let text = blank.run(call(most + 64)).unwrap_err().to_string();
    assert!(text.contains("the system call to get the directory needs"), "{text}");
    blank.run(call(most)).unwrap();
}

#[test]
fn a_taken_pid_is_named_with_its_holder() {
    let error = Blank::spawn(&SpawnSpec::new(HostPid::INIT, HELPER)).unwrap_err();
    assert_eq!(error.kind(), Kind::PidTaken);
    assert!(error.to_string().contains("pid 1 is taken: process 1 ("), "{error}");
}

#[test]
fn an_impossible_helper_area_is_reported_by_the_exec() {
    // The kernel kills a process whose exec fails after the point of no return.
    let error = Blank::spawn(&SpawnSpec::new(free_pid(), 0x123)).unwrap_err();
    assert!(matches!(error.kind(), Kind::TaskDied | Kind::System | Kind::Internal), "{error}");
}

#[test]
fn a_launched_program_runs_and_has_no_helper_area() {
    let mut blank = blank();
    let pid = blank.pid();
    map_code(&mut blank, CODE, &EXIT_42);
    blank.launch(&[entry(CODE)], None).unwrap();
    assert_eq!(ptrace::wait(pid), Ok(WaitStatus::Exited(42)));
}

#[test]
fn a_stopped_process_executes_nothing() {
    let mut blank = blank();
    let pid = blank.pid();
    map_code(&mut blank, CODE, &EXIT_42);
    // In a session of its own it is nobody's job: SIGTSTP would not stop it, SIGSTOP has to.
    let mut batch = Batch::new();
    batch.must("setsid", libc::SYS_setsid, args![]);
    blank.run(batch).unwrap();
    let armed = blank.arm(&[entry(CODE)], Some(libc::SIGTSTP)).unwrap();
    let maps = maps(pid);
    assert_eq!(maps.len(), 1, "{maps:?}");
    assert!(maps[0].starts_with("00400000-00401000"), "{maps:?}");
    assert_eq!(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 0);
    armed.launch().unwrap();
    let stopped = waitpid_untraced(pid);
    assert!(libc::WIFSTOPPED(stopped));
    assert_eq!(libc::WSTOPSIG(stopped), libc::SIGSTOP);
    assert_eq!(state(pid), 'T');
    assert_eq!(status_field(pid, "TracerPid"), "0");
    sys::kill(pid, libc::SIGCONT).unwrap();
    assert_eq!(ptrace::wait(pid), Ok(WaitStatus::Exited(42)));
}

fn waitpid_untraced(pid: HostPid) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a valid place for one int.
    let got = unsafe { libc::waitpid(pid.number(), &raw mut status, libc::WUNTRACED) };
    assert_eq!(got, pid.number());
    status
}

#[test]
fn threads_have_their_ids_and_run_batches_together() {
    let mut blank = blank_with_threads(100, 0);
    let pid = blank.pid();
    let mut calls = Vec::new();
    let batches = (0..=100)
        .map(|index| {
            let mut batch = Batch::new();
            calls.push(batch.call(libc::SYS_gettid, args![]));
            (index, batch)
        })
        .collect();
    let outcomes = blank.run_in_threads(batches).unwrap();
    let tids: Vec<_> = outcomes.iter().zip(calls).map(|(o, id)| o.ret(id).unwrap()).collect();
    assert_eq!(tids, blank.thread_ids().map(|tid| tid.number().into()).collect::<Vec<i64>>());
    drop(blank);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn a_stopped_process_with_threads_counts_nothing_and_then_runs() {
    let mut blank = blank_with_threads(1, CODE + 0x900);
    let pid = blank.pid();
    map_code(&mut blank, CODE, &COUNT);
    let finals = [entry(CODE), entry(CODE)];
    let counter = |pid| crate::kernel::memory::read_u64(pid, RemoteAddr(CODE + 0x800)).unwrap();
    blank.launch(&finals, Some(libc::SIGSTOP)).unwrap();
    waitpid_untraced(pid);
    assert_eq!(counter(pid), 0);
    sys::kill(pid, libc::SIGCONT).unwrap();
    while counter(pid) < 1000 {
        std::thread::yield_now();
    }
    sys::kill(pid, libc::SIGKILL).unwrap();
    assert_eq!(ptrace::wait(pid), Ok(WaitStatus::Killed { signal: libc::SIGKILL, core: false }));
}

#[test]
fn zombies_get_their_status() {
    for status in [0, 3 << 8, 255 << 8, 0x8b, 0x0b, 15, 9, 5, 0x85, 0x86, 64] {
        let mut parent = blank();
        let child = parent.clone_process(&CloneSpec::new(None)).unwrap();
        let pid = child.pid();
        assert_eq!(child.into_zombie(status).unwrap(), status);
        assert_eq!(state(pid), 'Z');
        let mut batch = Batch::new();
        let place = batch.space(4);
        let wait = batch.call(libc::SYS_wait4, args![pid.number(), place, libc::WNOHANG, 0]);
        let outcome = parent.run(batch).unwrap();
        assert_eq!(outcome.ret(wait), Ok(pid.number().into()));
        assert_eq!(outcome.u32(place).cast_signed(), status);
    }
}

#[test]
fn a_signal_that_does_not_kill_is_refused() {
    let mut parent = blank();
    let child = parent.clone_process(&CloneSpec::new(None)).unwrap();
    assert_eq!(child.into_zombie(libc::SIGCHLD).unwrap_err().kind(), Kind::BadImages);
}

#[test]
fn many_descriptors_arrive_in_order() {
    let mut blank = blank();
    let files: Vec<fs::File> =
        (0..20).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
    let borrowed: Vec<_> = (0..3000).map(|index| files[index % 20].as_fd()).collect();
    blank.move_service_fd(5000).unwrap();
    let numbers = blank.send_fds(&borrowed).unwrap();
    assert_eq!(numbers, (0..3000).map(RemoteFd).collect::<Vec<_>>());
    let (own, pid) = (HostPid::own(), blank.pid());
    for index in [0usize, 19, 252, 253, 2999] {
        use std::os::fd::AsRawFd;
        let ours = borrowed[index].as_raw_fd() as u64;
        assert_eq!(kcmp::compare(own, pid, Kcmp::File, ours, index as u64), Ok(Ordering::Equal));
    }
    assert_eq!(blank.service_fd(), Some(RemoteFd(5000)));
}

#[test]
fn descriptors_that_do_not_fit_are_an_error() {
    let mut blank = blank();
    let file = fs::File::open("/proc/self/status").unwrap();
    let mut batch = Batch::new();
    let limit = batch.bytes(&[10u64.to_le_bytes(), 100u64.to_le_bytes()].concat());
    batch.must("prlimit", libc::SYS_prlimit64, args![0, libc::RLIMIT_NOFILE, limit, 0]);
    blank.run(batch).unwrap();
    let error = blank.send_fds(&[file.as_fd(); 20]).unwrap_err();
    assert!(error.to_string().contains("20 descriptors do not fit"), "{error}");
}

#[test]
fn clones_share_what_they_are_told_to() {
    let mut parent = blank();
    let flags = (libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_VM | libc::CLONE_SIGHAND) as u64;
    let spec = CloneSpec { flags, ..CloneSpec::new(None) };
    let mut child = parent.clone_process(&spec).unwrap();
    for what in [Kcmp::Vm, Kcmp::Files, Kcmp::Fs, Kcmp::Sighand] {
        assert_eq!(kcmp::compare(parent.pid(), child.pid(), what, 0, 0), Ok(Ordering::Equal));
    }
    child.move_service_fd(100).unwrap();
    assert_eq!(parent.service_fd(), Some(RemoteFd(100)));
    map_code(&mut child, CODE, &COUNT);
    let (first, second) = (parent.pid(), child.pid());
    let armed = child.arm(&[entry(CODE)], None).unwrap();
    assert_eq!(maps(second).len(), 2, "the helper area is still needed");
    let parent = parent.arm(&[entry(CODE)], None).unwrap();
    assert_eq!(maps(first).len(), 1);
    armed.launch().unwrap();
    parent.launch().unwrap();
    for pid in [second, first] {
        sys::kill(pid, libc::SIGKILL).unwrap();
    }
    ptrace::wait(first).unwrap();
}

#[test]
fn the_vdso_goes_where_it_is_told() {
    let mut blank = blank();
    blank.map_vdso(RemoteAddr(0x7000_0000_0000)).unwrap();
    let maps = fs::read_to_string(format!("/proc/{}/maps", blank.pid())).unwrap();
    assert!(maps.contains("\n700000000000-"), "{maps}");
    assert!(maps.contains("[vdso]"), "{maps}");
    let error = blank.map_vdso(RemoteAddr(HELPER)).unwrap_err();
    assert!(error.to_string().contains("where the helper area is"), "{error}");
}

#[test]
fn a_taken_place_for_the_vdso_is_noticed() {
    let mut blank = blank();
    // Only the data page behind the first is taken, so that mincore alone would not tell.
    map_code(&mut blank, 0x7000_0000_1000, &COUNT);
    assert!(blank.map_vdso(RemoteAddr(0x7000_0000_0000)).is_err());
}

#[test]
fn without_a_new_one_the_old_vdso_is_moved() {
    let spec = SpawnSpec::new(free_pid(), HELPER);
    let mut blank = Blank::spawn_keeping(&spec, true).unwrap();
    let start = |blank: &Blank| {
        let maps = fs::read_to_string(format!("/proc/{}/maps", blank.pid())).unwrap();
        let line = maps.lines().find(|line| line.ends_with("[vvar]")).unwrap();
        u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
    };
    for wanted in [0x7000_0000_0000, 0x7000_0000_3000, 0x6fff_ffff_f000] {
        blank.map_vdso(RemoteAddr(wanted)).unwrap();
        assert_eq!(start(&blank), wanted);
    }
}

#[test]
fn reserved_signals_stay_pending() {
    let mut blank = blank();
    let pid = blank.pid();
    blank.reserve_signals(bit(libc::SIGTRAP) | bit(libc::SIGURG)).unwrap();
    let mut batch = Batch::new();
    batch.must("no core file", libc::SYS_prctl, args![libc::PR_SET_DUMPABLE, 0]);
    batch.must("tgkill", libc::SYS_tgkill, args![pid.number(), pid.number(), libc::SIGTRAP]);
    batch.must("kill", libc::SYS_kill, args![pid.number(), libc::SIGURG]);
    blank.run(batch).unwrap();
    for _ in 0..3 {
        let mut batch = Batch::new();
        batch.call(libc::SYS_getpid, args![]);
        blank.run(batch).unwrap();
    }
    assert_eq!(status_field(pid, "SigPnd"), format!("{:016x}", bit(libc::SIGTRAP)));
    assert_eq!(status_field(pid, "ShdPnd"), format!("{:016x}", bit(libc::SIGURG)));
    map_code(&mut blank, CODE, &COUNT);
    blank.launch(&[entry(CODE)], None).unwrap();
    let Ok(WaitStatus::Killed { signal: libc::SIGTRAP, .. }) = ptrace::wait(pid) else { panic!() };
}

#[test]
fn an_ignored_sigtrap_stays_ignored() {
    let mut blank = blank();
    let pid = blank.pid();
    let mut batch = Batch::new();
    let mut action = [0u8; 32];
    action[0] = 1; // SIG_IGN
    let action = batch.bytes(&action);
    let args = args![libc::SIGTRAP, action, 0, 8];
    batch.must("sigaction", libc::SYS_rt_sigaction, args);
    blank.run(batch).unwrap();
    map_code(&mut blank, CODE, &COUNT);
    blank.launch(&[entry(CODE)], Some(libc::SIGSTOP)).unwrap();
    waitpid_untraced(pid);
    assert_eq!(status_field(pid, "SigIgn"), format!("{:016x}", bit(libc::SIGTRAP)));
    sys::kill(pid, libc::SIGKILL).unwrap();
    ptrace::wait(pid).unwrap();
}

#[test]
fn namespaces_are_joined() {
    let mut donor = blank();
    let mut batch = Batch::new();
    let flags = libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    batch.must("unshare", libc::SYS_unshare, args![flags]);
    donor.run(batch).unwrap();
    let link = |pid, name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let open = |name| fs::File::open(format!("/proc/{}/ns/{name}", donor.pid())).unwrap().into();
    let mut blank = blank();
    blank.join(&[open("uts"), open("ipc")]).unwrap();
    for name in ["uts", "ipc"] {
        assert_eq!(link(blank.pid(), name), link(donor.pid(), name));
        assert_ne!(link(blank.pid(), name), link(HostPid::own(), name));
    }
    assert_eq!(fs::read_dir(format!("/proc/{}/fd", blank.pid())).unwrap().count(), 1);
}

#[test]
fn a_time_namespace_is_joined() {
    let mut donor = blank();
    let mut batch = Batch::new();
    batch.must("unshare", libc::SYS_unshare, args![0x80]); // CLONE_NEWTIME
    donor.run(batch).unwrap();
    let path = format!("/proc/{}/ns/time_for_children", donor.pid());
    let wanted = fs::read_link(&path).unwrap();
    let mut blank = blank();
    blank.join(&[fs::File::open(&path).unwrap().into()]).unwrap();
    let time = format!("/proc/{}/ns/time", blank.pid());
    assert_eq!(fs::read_link(time).unwrap(), wanted);
}

#[test]
fn a_stop_from_outside_is_kept_for_the_end() {
    let mut blank = blank();
    let pid = blank.pid();
    sys::kill(pid, libc::SIGSTOP).unwrap();
    map_code(&mut blank, CODE, &EXIT_42);
    sys::kill(pid, libc::SIGCONT).unwrap();
    sys::kill(pid, libc::SIGSTOP).unwrap();
    let mut batch = Batch::new();
    let call = batch.call(libc::SYS_getpid, args![]);
    assert_eq!(blank.run(batch).unwrap().ret(call), Ok(pid.number().into()));
    blank.launch(&[entry(CODE)], None).unwrap();
    waitpid_untraced(pid);
    assert_eq!(state(pid), 'T');
    sys::kill(pid, libc::SIGCONT).unwrap();
    assert_eq!(ptrace::wait(pid), Ok(WaitStatus::Exited(42)));
}

#[test]
fn processor_state_is_set_including_tiles() {
    let has_amx = fs::read_to_string("/proc/cpuinfo").unwrap().contains("amx_tile");
    let mut blank = blank_with_threads(1, 0);
    let ids: Vec<HostPid> = blank.thread_ids().collect();
    map_code(&mut blank, CODE, &COUNT);
    let mut donor = super::support::blank();
    if has_amx {
        // What a program leaves behind that has used a tile.
        donor.make_room_for_tiles(&[0]).unwrap();
    }
    let mut xstate = ptrace::get_xstate(donor.pid()).unwrap();
    assert_eq!(amx::has_tiles(&xstate), has_amx);
    xstate[160..176].fill(0xab); // xmm0
    xstate[512] |= 2;
    let state = FinalState { xstate: xstate.clone(), ..entry(CODE) };
    let armed = blank.arm(&[state.clone(), state], None).unwrap();
    for id in ids {
        assert!(ptrace::get_xstate(id).unwrap() == xstate, "thread {id}");
    }
    drop(armed);
}

#[test]
fn blanks_die_with_the_engine() {
    let pids = [free_pid(), free_pid(), free_pid()];
    let (ready, tell) = nix::unistd::pipe().unwrap();
    // SAFETY: the child only makes blanks and waits to be killed.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let made = Blank::spawn(&SpawnSpec::new(pids[0], HELPER)).and_then(|mut blank| {
                blank.clone_threads(&[ThreadSpec { tid: pids[1], clear_tid_addr: 0 }])?;
                let child = blank.clone_process(&CloneSpec::new(Some(pids[2])))?;
                Ok((blank, child))
            });
            let _ = nix::unistd::write(&tell, &[u8::from(made.is_ok())]);
            loop {
                nix::unistd::pause();
            }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let mut byte = [0];
            nix::unistd::read(&ready, &mut byte).unwrap();
            assert_eq!(byte, [1]);
            let gone = [pidfd::open(pids[0]).unwrap(), pidfd::open(pids[2]).unwrap()];
            sys::kill(HostPid::new(child.as_raw()), libc::SIGKILL).unwrap();
            ptrace::wait(HostPid::new(child.as_raw())).unwrap();
            for pidfd in &gone {
                use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
                let mut waited = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                poll(&mut waited, PollTimeout::from(20_000u16)).unwrap();
                assert!(waited[0].any().unwrap());
            }
        }
    }
}

#[test]
fn a_sibling_is_a_child_of_the_engines_parent() {
    let pid = free_pid();
    // SAFETY: the child only spawns and launches a blank, and leaves without running destructors.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let spec = SpawnSpec { sibling: true, ..SpawnSpec::new(pid, HELPER) };
            let done = Blank::spawn(&spec).and_then(|mut blank| {
                map_code(&mut blank, CODE, &EXIT_42);
                blank.launch(&[entry(CODE)], None)
            });
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            assert_eq!(ptrace::wait(HostPid::new(child.as_raw())), Ok(WaitStatus::Exited(0)));
            assert_eq!(ptrace::wait(pid), Ok(WaitStatus::Exited(42)));
        }
    }
}

/// Not a pass or fail matter on a shared machine: prints what a spawn and a batch cost.
#[test]
#[ignore = "a measurement"]
fn cost_of_spawn_and_batch() {
    let _pin = Pin::here().unwrap();
    let mut spawns = Vec::new();
    let mut batches = Vec::new();
    let mut launches = Vec::new();
    for _ in 0..100 {
        let spec = SpawnSpec::new(free_pid(), HELPER);
        let start = std::time::Instant::now();
        let mut blank = Blank::spawn(&spec).unwrap();
        spawns.push(start.elapsed());
        let start = std::time::Instant::now();
        let mut batch = Batch::new();
        for _ in 0..100 {
            batch.call(libc::SYS_getpid, args![]);
        }
        blank.run(batch).unwrap();
        batches.push(start.elapsed());
        let pid = blank.pid();
        map_code(&mut blank, CODE, &EXIT_42);
        let start = std::time::Instant::now();
        blank.launch(&[entry(CODE)], None).unwrap();
        launches.push(start.elapsed());
        ptrace::wait(pid).unwrap();
    }
    launches.sort();
    println!("launch {:?} {:?}", launches[0], launches[50]);
    spawns.sort();
    batches.sort();
    println!("spawn {:?} {:?}", spawns[0], spawns[50]);
    println!("batch {:?} {:?}", batches[0], batches[50]);
}
