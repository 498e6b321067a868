//! Pseudoterminals, whose numbers a restore may need.
//!
//! A terminal gets its old number back, so that no test may open one while another test's is on disk
//! only. Who restores terminals has all [`numbers`] to itself; who opens one waits until it may.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

static NUMBERS: Mutex<()> = Mutex::new(());

/// All numbers, until it is dropped.
pub struct Numbers {
    _alone: MutexGuard<'static, ()>,
}

/// Waits until no other test needs numbers.
pub fn numbers() -> Numbers {
    Numbers { _alone: NUMBERS.lock().unwrap_or_else(PoisonError::into_inner) }
}

impl Numbers {
    /// A terminal for who has all numbers.
    pub fn open(&self) -> Terminal {
        // No program that another test starts gets it.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC);
        let master = master.expect("open a pseudoterminal");
        grantpt(&master).expect("take the terminal");
        unlockpt(&master).expect("unlock the terminal");
        let name = ptsname_r(&master).expect("the name of the terminal");
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let slave = open(name.as_str(), flags, Mode::empty()).expect("open the slave");
        Terminal { master: File::from(OwnedFd::from(master)), slave }
    }
}

/// Both ends of a terminal, which stands for a user's.
pub struct Terminal {
    pub master: File,
    pub slave: OwnedFd,
}

impl Terminal {
    pub fn open() -> Self {
        numbers().open()
    }

    /// The slave, for a program.
    pub fn end(&self) -> Stdio {
        self.slave.try_clone().expect("another descriptor").into()
    }
}
