//! Ending a blank: zombies of the dumped tree, and helpers that are no longer needed.
//!
//! The parent of a traced process sees its death only after the tracer has waited for the process.
//! A wait status has the core flag only if the kernel really writes a core file, so a core file is
//! written, into a directory that is removed afterwards.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Blank;
use super::run::{died, lost};
use crate::args;
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::capability::Request;
use crate::kernel::ptrace::{self, Stop, WaitStatus};
use crate::tracee::batch::Batch;

const CORE_FLAG: i32 = 0x80;
const CORE_LIMIT: u64 = 4096;

impl Blank {
    /// Ends the process with this wait status: an exit code, or a signal and perhaps the core flag.
    /// Returns the status that the process got. It lacks the core flag if the kernel would not
    /// write a plain core file into the working directory.
    ///
    /// The parent must have the default action for SIGCHLD until then, else there would be no
    /// zombie.
    pub fn into_zombie(mut self, status: i32) -> Result<i32> {
        let got = match status & 0x7f {
            0 => self.exit(status >> 8 & 0xff)?,
            signal => self.die(signal, status & CORE_FLAG != 0)?,
        };
        self.alive = false;
        Ok(got)
    }

    fn exit(&mut self, code: i32) -> Result<i32> {
        let mut batch = Batch::new();
        self.give_up_capabilities(&mut batch)?;
        batch.call(libc::SYS_exit_group, args![code]);
        self.write_entries(&batch)?;
        self.start_leader()?;
        self.wait_death()
    }

    fn die(&mut self, signal: i32, core: bool) -> Result<i32> {
        if !kills(signal) {
            let text = format!("signal {signal} is not one that a process dies of");
            return Err(Error::new(Kind::BadImages, text).context(format!("pid {}", self.pid())));
        }
        let directory = if core { CoreDirectory::make()? } else { None };
        self.prepare_death(signal, directory.as_ref())?;
        let pid = self.pid();
        // The thread is stopped at its park signal, which is replaced by the deadly one.
        ptrace::set_sigmask(pid, 0)
            .and_then(|()| ptrace::cont(pid, signal))
            .map_err(|errno| lost(pid, "deliver a signal", errno))?;
        self.wait_death()
    }

    fn prepare_death(&mut self, signal: i32, directory: Option<&CoreDirectory>) -> Result<()> {
        let received = match directory {
            Some(directory) => self.send_fds(&[directory.handle.as_fd()])?,
            None => Vec::new(),
        };
        let mut batch = Batch::new();
        self.give_up_capabilities(&mut batch)?;
        let default = batch.space(32);
        if signal != libc::SIGKILL {
            let args = args![signal, default, 0, ptrace::SIGSET_SIZE];
            batch.must("reset a signal action", libc::SYS_rt_sigaction, args);
        }
        let limit = if directory.is_some() { CORE_LIMIT } else { 0 };
        let limits = batch.bytes(&[limit.to_le_bytes(), limit.to_le_bytes()].concat());
        // The hard limit may be lower already. Then there is neither a core file nor the flag.
        batch.call(libc::SYS_prlimit64, args![0, libc::RLIMIT_CORE, limits, 0]);
        // A handler of core files would ignore the limit, so dumping is switched off for a signal
        // that would start it. Otherwise the process stays dumpable, because that decides who may
        // see its wait status.
        let dumpable = i32::from(directory.is_some() || !dumps_core(signal));
        let args = args![libc::PR_SET_DUMPABLE, dumpable];
        batch.must("choose whether to write a core file", libc::SYS_prctl, args);
        for fd in received {
            batch.must("enter the directory for a core file", libc::SYS_fchdir, args![fd]);
        }
        self.run(batch).map(drop)
    }

    /// Adds the calls by which a user's process gives up the capabilities that blanks are made
    /// with, so that the zombie does not show them.
    fn give_up_capabilities(&self, batch: &mut Batch) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        // Afterwards the process is not dumpable, and its memory can be used only by a file that is
        // open already.
        self.memory()?;
        let (header, data) = Request::new(0, 0, 0).to_bytes();
        let (header, data) = (batch.bytes(&header), batch.bytes(&data));
        batch.must("give up all capabilities", libc::SYS_capset, args![header, data]);
        Ok(())
    }

    /// Waits for the death and returns its wait status.
    fn wait_death(&mut self) -> Result<i32> {
        let pid = self.pid();
        loop {
            match ptrace::wait(pid).map_err(|errno| lost(pid, "wait for its end", errno))? {
                WaitStatus::Exited(code) => return Ok(code << 8),
                WaitStatus::Killed { signal, core } => {
                    return Ok(signal | if core { CORE_FLAG } else { 0 });
                }
                WaitStatus::Stopped(stop) if is_fault(stop) => {
                    return Err(died(pid, &format!("{stop:?}")));
                }
                // A signal from outside does not matter to a process that is about to die.
                WaitStatus::Stopped(_) => {}
            }
            ptrace::cont(pid, 0).map_err(|errno| lost(pid, "continue", errno))?;
        }
    }
}

/// Whether the stop is a fault of the instruction, which would only be repeated.
fn is_fault(stop: Stop) -> bool {
    const FAULTS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];
    matches!(stop, Stop::Signal(signal) if FAULTS.contains(&signal))
}

/// Whether the default action of a signal is death.
fn kills(signal: i32) -> bool {
    const HARMLESS: [i32; 8] = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGWINCH,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    (1..=64).contains(&signal) && !HARMLESS.contains(&signal)
}

/// Whether a process that dies of a signal by default leaves a core file.
fn dumps_core(signal: i32) -> bool {
    const CORE: [i32; 10] = [
        libc::SIGQUIT,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGSYS,
    ];
    CORE.contains(&signal)
}

/// A directory for a core file; both are removed when this is dropped.
struct CoreDirectory {
    path: PathBuf,
    handle: fs::File,
}

impl CoreDirectory {
    /// `None` if core files do not go to the working directory: the kernel would start a handler,
    /// or leave a file in a directory of the administrator's.
    fn make() -> Result<Option<Self>> {
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")
            .doing(|| "read kernel.core_pattern".to_owned())?;
        if pattern.trim().is_empty() || pattern.starts_with(['|', '@', '/']) {
            return Ok(None);
        }
        let path = nix::unistd::mkdtemp(&std::env::temp_dir().join("criu-core-XXXXXX"))
            .doing(|| "create a directory for a core file".to_owned())?;
        // The process may run as any user, who has to be able to write here.
        let opened = fs::set_permissions(&path, fs::Permissions::from_mode(0o733))
            .and_then(|()| fs::File::open(&path));
        match opened {
            Ok(handle) => Ok(Some(Self { path, handle })),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(Error::io("prepare a directory for a core file", &error))
            }
        }
    }
}

impl Drop for CoreDirectory {
    fn drop(&mut self) {
        // Nothing depends on the directory any more; if this fails, a file of one page is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}
