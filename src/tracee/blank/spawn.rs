//! Making the first blank of a tree.
//!
//! A clone that shares the engine's memory costs a third of a fork, however large the engine is.
//! The child touches neither stack nor library: it runs a list of raw system calls with all
//! signals blocked, waits there until it is seized, and executes the header-only program.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::socket::{MsgFlags, send};

use super::descriptors::{Delivery, Service, ServiceFd};
use super::stub::STUB;
use super::{Blank, BlankThread, HelperArea, choose_park_signal, elf, holder, vdso};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::capability::{self, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE};
use crate::kernel::memory;
use crate::kernel::pid::HostPid;
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::kernel::remote::RemoteAddr;
use crate::tracee::batch::Batch;

/// How the first blank of a tree is to be made.
#[derive(Debug)]
pub struct SpawnSpec {
    /// Its pid in the engine's pid namespace.
    pub pid: HostPid,
    /// Start of the helper area: a page-aligned hole in the final layout of every process of the
    /// tree, at 64 KiB or above.
    pub helper: u64,
    /// Length of the helper area: the largest batch, or those of all threads together.
    pub helper_len: usize,
    /// Where the service socket stands: above every final descriptor of the tree.
    pub service_fd: i32,
    /// Whether it is to be a child of the engine's parent instead of the engine's.
    pub sibling: bool,
}

impl SpawnSpec {
    /// A child of the engine in the engine's namespaces, with a helper area of 1 MiB.
    pub fn new(pid: HostPid, helper: u64) -> Self {
        Self { pid, helper, helper_len: 1 << 20, service_fd: 64, sibling: false }
    }
}

/// `struct clone_args`, first and second version.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
}

impl CloneArgs {
    pub fn to_bytes(self) -> Vec<u8> {
        let words = [
            self.flags,
            self.pidfd,
            self.child_tid,
            self.parent_tid,
            self.exit_signal,
            self.stack,
            self.stack_size,
            self.tls,
            self.set_tid,
            self.set_tid_size,
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// What the child does between the clone and the exec; it lives in memory shared with the child.
struct Launchpad {
    entries: Vec<[u64; 8]>,
    /// What each entry is for, for the message if it fails.
    doing: Vec<&'static str>,
    byte: u8,
    limit: libc::rlimit,
    /// The engine's capabilities, as inheritable ones, too.
    capabilities: capability::Request,
    empty: [u8; 1],
    argv: [u64; 2],
}

impl Blank {
    /// Makes a blank. Fails with [`Kind::PidTaken`] if the pid is in use, naming by whom.
    pub fn spawn(spec: &SpawnSpec) -> Result<Blank> {
        Self::spawn_keeping(spec, !vdso::can_be_mapped()).context_pid(spec.pid)
    }

    /// The same. `keep_vdso` is for kernels that cannot map a new vdso.
    pub(super) fn spawn_keeping(spec: &SpawnSpec, keep_vdso: bool) -> Result<Blank> {
        check(spec)?;
        let program = elf::program(spec.helper, spec.helper_len)?;
        let (service, theirs) = Service::pair()?;
        let program = clear_of(program, spec.service_fd)?;
        let theirs = clear_of(theirs, spec.service_fd)?;
        let mut pad = Box::new(Launchpad::new(spec, &service, &theirs, &program)?);
        let pid = clone_first(spec, &mut pad)?;
        // From here on the value owns the process, also if the next step fails.
        let mut blank = Self::of_child(pid, spec, service);
        if let Err(error) = blank.execute(&pad) {
            // The child has been killed, but may still read its list for a moment.
            std::mem::forget(pad);
            return Err(error);
        }
        drop((program, theirs));
        blank.first_batch(keep_vdso)?;
        Ok(blank)
    }

    fn of_child(pid: HostPid, spec: &SpawnSpec, service: Rc<Service>) -> Blank {
        Blank {
            threads: vec![BlankThread { tid: pid }],
            helper: Rc::new(HelperArea { start: RemoteAddr(spec.helper), len: spec.helper_len }),
            service: Rc::new(ServiceFd::new(service, spec.service_fd)),
            registers: Rc::new(ptrace::zero_regs()),
            park: choose_park_signal(0).expect("no signal is reserved"),
            reserved: 0,
            stopped_from_outside: false.into(),
            seccomp_suspended: false,
            memory: std::cell::OnceCell::new(),
            alive: true,
        }
    }

    /// Seizes the child, lets it execute the program and stops it at the first instruction.
    fn execute(&mut self, pad: &Launchpad) -> Result<()> {
        let pid = self.pid();
        self.seccomp_suspended = seize(pid)?;
        send(self.service.engine_end(), &[0], MsgFlags::MSG_NOSIGNAL)
            .doing(|| "let the new process go on".to_owned())?;
        match ptrace::wait(pid).doing(|| "wait for the exec".to_owned())? {
            WaitStatus::Stopped(Stop::Event { event: libc::PTRACE_EVENT_EXEC, .. }) => {}
            WaitStatus::Exited(_) => {
                self.alive = false;
                return Err(pad.failure());
            }
            other => return Err(super::run::died(pid, &format!("{other:?} before its exec"))),
        }
        // The thread is still inside execve, whose result would overwrite a register that is set
        // now.
        ptrace::cont_to_syscall(pid, 0).doing(|| "finish the exec".to_owned())?;
        match self.wait_stop(&self.threads[0])? {
            Stop::Syscall => {}
            stop => return Err(super::run::died(pid, &format!("{stop:?} after its exec"))),
        }
        let mut regs = ptrace::getregs(pid).doing(|| "read the registers".to_owned())?;
        // No system call is to be restarted when the registers are changed.
        regs.orig_rax = u64::MAX;
        self.registers = Rc::new(regs);
        ptrace::set_sigmask(pid, self.mask()).doing(|| "set the signal mask".to_owned())?;
        memory::write(pid, self.helper.start, &STUB).doing(|| "write the stub".to_owned())
    }

    /// Takes away what the exec has left: memory, ignored signals, working directory.
    fn first_batch(&mut self, keep_vdso: bool) -> Result<()> {
        let mut batch = Batch::new();
        for (start, end) in self.foreign_memory(keep_vdso)? {
            let what = format!("munmap {start:x}-{end:x}");
            batch.must(what, libc::SYS_munmap, args![start, end - start]);
        }
        // Handlers are gone since the exec, but ignored signals stay ignored.
        let default = batch.space(32);
        for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
            let args = args![signal, default, 0, ptrace::SIGSET_SIZE];
            batch.must("reset signal actions", libc::SYS_rt_sigaction, args);
        }
        let root = batch.cstr("/");
        batch.must("chdir /", libc::SYS_chdir, args![root]);
        self.run(batch).map(drop)
    }

    /// Enters namespaces, in this order: uts, ipc, time, net, cgroup, mount, or pid for children.
    pub fn join(&mut self, namespaces: &[OwnedFd]) -> Result<()> {
        if namespaces.is_empty() {
            return Ok(());
        }
        let borrowed: Vec<_> = namespaces.iter().map(std::os::fd::AsFd::as_fd).collect();
        let mut delivery = Delivery::to(self);
        let fds = delivery.receive(&borrowed)?;
        let batch = delivery.batch();
        for (fd, ours) in fds.iter().zip(namespaces) {
            let link = format!("/proc/self/fd/{}", ours.as_raw_fd());
            let name = std::fs::read_link(link).unwrap_or_default();
            let what = format!("join the namespace {}", name.display());
            batch.must(what, libc::SYS_setns, args![*fd, 0]);
        }
        for fd in fds {
            batch.must("close a namespace", libc::SYS_close, args![fd]);
        }
        delivery.flush()
    }
}

/// Refuses a request that would let the child exit.
fn check(spec: &SpawnSpec) -> Result<()> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).doing(|| "read the limit of open files".to_owned())?;
    if u64::try_from(spec.service_fd).is_ok_and(|fd| fd + 2 <= hard) {
        return Ok(());
    }
    let text = format!("the tree needs descriptor {}, the hard limit is {hard}", spec.service_fd);
    Err(Error::new(Kind::Denied, text).remedy("raise the limit of open files (RLIMIT_NOFILE)"))
}

/// The same file under a number that is neither `service_fd` nor the next one, which the child puts
/// its own descriptors on.
fn clear_of(fd: OwnedFd, service_fd: RawFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() != service_fd && fd.as_raw_fd() != service_fd + 1 {
        return Ok(fd);
    }
    crate::kernel::descriptor::duplicate_above(fd.as_raw_fd(), service_fd + 2)
        .doing(|| "move a descriptor".to_owned())
}

impl Launchpad {
    fn new(
        spec: &SpawnSpec,
        service: &Service,
        theirs: &OwnedFd,
        program: &OwnedFd,
    ) -> Result<Self> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
            .doing(|| "read the limit of open files".to_owned())?;
        let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        let ours = capability::permitted().doing(|| "capget".to_owned())?;
        // A program that root executes has root's capabilities in any case.
        let carried = if nix::unistd::geteuid().is_root() { 0 } else { ours };
        let mut pad = Self {
            entries: Vec::new(),
            doing: Vec::new(),
            byte: 0,
            limit,
            capabilities: capability::Request::new(carried, carried, carried),
            empty: [0],
            argv: [0; 2],
        };
        if carried != 0 {
            pad.carry_over_exec(carried);
        }
        pad.prepare(spec.service_fd, service.engine_end(), theirs.as_raw_fd(), program.as_raw_fd());
        Ok(pad)
    }

    /// A program that a user executes has no capabilities but ambient ones.
    fn carry_over_exec(&mut self, capabilities: u64) {
        self.add("make capabilities inheritable", libc::SYS_capset, &[]);
        for cap in capability::members(capabilities) {
            let raise = [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE].map(|word| u64::from(word as u32));
            let args = [raise[0], raise[1], u64::from(cap), 0, 0];
            self.add("raise an ambient capability", libc::SYS_prctl, &args);
        }
    }

    fn add(&mut self, doing: &'static str, nr: i64, args: &[u64]) {
        let mut entry = [0; 8];
        entry[0] = nr.cast_unsigned();
        entry[1..=args.len()].copy_from_slice(args);
        self.entries.push(entry);
        self.doing.push(doing);
    }

    /// The list refers to the other fields by address, so the value has to stay in its box: see
    /// `relocate`.
    fn prepare(&mut self, keep: RawFd, engine_end: RawFd, theirs: RawFd, program: RawFd) {
        let n = |fd: RawFd| u64::from(fd.cast_unsigned());
        self.add("close the engine's socket", libc::SYS_close, &[n(engine_end)]);
        // This read returns 0 if the engine has died. The child then executes the program, which
        // faults at once.
        self.add("wait for the tracer", libc::SYS_read, &[n(theirs), 0, 1]);
        self.add(
            "raise the limit of open files",
            libc::SYS_prlimit64,
            &[0, u64::from(libc::RLIMIT_NOFILE), 0, 0],
        );
        self.add("place the service socket", libc::SYS_dup3, &[n(theirs), n(keep), 0]);
        let cloexec = u64::from(libc::O_CLOEXEC.cast_unsigned());
        self.add("place the program", libc::SYS_dup3, &[n(program), n(keep + 1), cloexec]);
        if keep > 0 {
            self.add("close descriptors", libc::SYS_close_range, &[0, n(keep - 1), 0]);
        }
        let all = u64::from(u32::MAX);
        self.add("close descriptors", libc::SYS_close_range, &[n(keep + 2), all, 0]);
        let at_empty = u64::from(libc::AT_EMPTY_PATH.cast_unsigned());
        self.add(
            "execute the program of a blank",
            libc::SYS_execveat,
            &[n(keep + 1), 0, 0, 0, at_empty],
        );
        self.add("", libc::SYS_exit_group, &[1]);
    }

    /// Fills in the addresses, now that the value stays where it is.
    fn relocate(&mut self) {
        self.argv = [self.empty.as_ptr() as u64, 0];
        let byte = (&raw const self.byte) as u64;
        let limit = (&raw const self.limit) as u64;
        let (header, sets) =
            (self.capabilities.header.as_ptr() as u64, self.capabilities.halves.as_ptr() as u64);
        let (path, argv) = (self.empty.as_ptr() as u64, self.argv.as_ptr() as u64);
        for entry in &mut self.entries {
            match entry[0].cast_signed() {
                libc::SYS_read => entry[2] = byte,
                libc::SYS_prlimit64 => entry[3] = limit,
                libc::SYS_capset => (entry[1], entry[2]) = (header, sets),
                libc::SYS_execveat => (entry[2], entry[3], entry[4]) = (path, argv, argv + 8),
                _ => {}
            }
        }
    }

    /// The error of the step at which a child has exited.
    fn failure(&self) -> Error {
        for (entry, doing) in self.entries.iter().zip(&self.doing) {
            // SAFETY: a place in the list, written by the child before it exited.
            let ret = unsafe { std::ptr::read_volatile(&raw const entry[7]) }.cast_signed();
            if (-4095..0).contains(&ret) {
                let errno = Errno::from_raw(i32::try_from(-ret).expect("an errno"));
                return Error::sys(doing, errno);
            }
        }
        Error::new(Kind::TaskDied, "the new process exited before its exec")
    }
}

/// Clones the child, which begins to run the list at once.
fn clone_first(spec: &SpawnSpec, pad: &mut Launchpad) -> Result<HostPid> {
    pad.relocate();
    let (tid, number) = (spec.pid, spec.pid.number());
    let (parent, exit_signal) =
        if spec.sibling { (libc::CLONE_PARENT, 0) } else { (0, libc::SIGCHLD) };
    let clone = CloneArgs {
        flags: (libc::CLONE_VM | parent) as u64,
        exit_signal: exit_signal as u64,
        set_tid: (&raw const number) as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // A handler of the host must not run in the child, which shares the host's memory.
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
        .doing(|| "block signals".to_owned())?;
    // SAFETY: `clone` is valid for the call; the list and all it points to is boxed and outlives
    // the child's use of it (see `spawn_keeping`); the child only runs that list, which ends in
    // execveat or exit_group.
    let mut ret = unsafe { clone_running(&clone, pad.entries.as_mut_ptr()) };
    let mut patience = Patience::default();
    while ret == -i64::from(libc::EEXIST) && patience.is_worth(tid) {
        // SAFETY: as above; the clone that failed has left nothing.
        ret = unsafe { clone_running(&clone, pad.entries.as_mut_ptr()) };
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
        .doing(|| "unblock signals".to_owned())?;
    match ret {
        -4095..0 => Err(clone_error(tid, Errno::from_raw(i32::try_from(-ret).expect("an errno")))),
        pid => Ok(HostPid::new(i32::try_from(pid).expect("a pid"))),
    }
}

/// clone3, with the child running the system calls at `entries` for ever.
///
/// # Safety
/// `entries` must end with calls that do not return, and it and what it refers to must stay valid
/// until then.
unsafe fn clone_running(args: &CloneArgs, entries: *mut [u64; 8]) -> i64 {
    let ret: i64;
    // SAFETY: the child shares our stack pointer but neither pushes nor pops; it leaves the
    // registers of the parent alone, being another task.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "2:",
            "mov rax, [r12]",
            "mov rdi, [r12 + 8]",
            "mov rsi, [r12 + 16]",
            "mov rdx, [r12 + 24]",
            "mov r10, [r12 + 32]",
            "mov r8, [r12 + 40]",
            "mov r9, [r12 + 48]",
            "syscall",
            "mov [r12 + 56], rax",
            "add r12, 64",
            "jmp 2b",
            "3:",
            inlateout("rax") libc::SYS_clone3 => ret,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entries,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

/// How long to wait for a pid that is taken although nobody seems to have it: the number of a
/// process that has just been reaped stays in use for a moment.
#[derive(Default)]
pub(super) struct Patience {
    moments: u32,
}

impl Patience {
    const MOMENT: Duration = Duration::from_micros(200);
    const MOMENTS: u32 = 200;

    /// Waits for a moment, unless somebody has the number or it takes too long.
    pub fn is_worth(&mut self, number: HostPid) -> bool {
        if self.moments == Self::MOMENTS || holder::holder_of(number).is_some() {
            return false;
        }
        self.moments += 1;
        std::thread::sleep(Self::MOMENT);
        true
    }
}

/// The error of a clone with a chosen pid.
pub(super) fn clone_error(pid: HostPid, errno: Errno) -> Error {
    match errno {
        Errno::EEXIST => {
            let who = holder::holder_of(pid).unwrap_or_else(|| "unknown".to_owned());
            Error::new(Kind::PidTaken, format!("pid {pid} is taken: {who}"))
        }
        Errno::EPERM => Error::sys(format!("create a process with pid {pid}"), errno)
            .remedy("run with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"),
        Errno::EINVAL => Error::sys(format!("create a process with pid {pid}"), errno)
            .remedy("see kernel.pid_max, and whether the kernel has CONFIG_CHECKPOINT_RESTORE"),
        errno => Error::sys(format!("create a process with pid {pid}"), errno),
    }
}

/// Seizes the new process. The result is whether its seccomp filters are suspended.
fn seize(pid: HostPid) -> Result<bool> {
    let options = ptrace::O_EXITKILL | ptrace::O_TRACEEXEC | ptrace::O_TRACESYSGOOD;
    let suspended = match ptrace::seize(pid, options | ptrace::O_SUSPEND_SECCOMP) {
        Err(Errno::EPERM | Errno::EINVAL) => ptrace::seize(pid, options).map(|()| false),
        done => done.map(|()| true),
    };
    suspended.doing(|| format!("seize pid {pid}"))
}

trait ContextPid {
    fn context_pid(self, pid: HostPid) -> Self;
}

impl<T> ContextPid for Result<T> {
    fn context_pid(self, pid: HostPid) -> Self {
        self.map_err(|error| error.context(format!("create pid {pid}")))
    }
}
