//! Round trips for the tests of the kinds: a process gets open files, they are captured and made
//! anew, and another process gets them.

use std::os::fd::{AsFd, OwnedFd};

use super::install::place;
use super::{Blanks, Collected, Collector, CollectorOptions, OpenFiles, RestoreOptions, validate};
use crate::error::{Refusals, Result};
use crate::images::dir::ImageDir;
use crate::images::payload::Spool;
use crate::images::pid::TreePid;
use crate::images::proto::{FdinfoEntry, FileEntry, PstreeEntry, TaskKobjIdsEntry};
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::pid::HostPid;
use crate::kernel::remote::RemoteFd;
use crate::kernel::{pidfd, tty};
use crate::objects::phases::{Circumstances, Phase, Turn, Walk, World};
use crate::objects::pids;
use crate::objects::place::Place;
use crate::tracee::blank::tests::support::blank;
use crate::tracee::blank::{Blank, Delivery};

const FILES_ID: u32 = 1;

/// The number of the service socket, above those of all tests.
const FLOOR: i32 = 900;

/// A process with these descriptors and no others.
pub(super) fn hold(fds: &[(i32, &OwnedFd)]) -> Blank {
    let mut holder = blank();
    holder.move_service_fd(FLOOR).unwrap();
    let mut sorted: Vec<_> = fds.to_vec();
    sorted.sort_by_key(|(number, _)| *number);
    let files: Vec<_> = sorted.iter().map(|(_, file)| file.as_fd()).collect();
    let entries: Vec<_> = sorted
        .iter()
        .map(|(number, _)| FdinfoEntry { fd: number.cast_unsigned(), ..Default::default() })
        .collect();
    let mut delivery = Delivery::to(&mut holder);
    place(&mut delivery, &files, &entries.iter().collect::<Vec<_>>()).unwrap();
    delivery.flush().unwrap();
    holder
}

/// Options that let everything pass.
pub(super) fn lenient() -> CollectorOptions {
    CollectorOptions { file_locks: true, link_remap: true, ..Default::default() }
}

/// Captures a process, without its service socket.
pub(super) fn capture_all(
    holder: &Blank,
    options: CollectorOptions,
) -> Result<(Snapshot, Collected)> {
    let pid = holder.pid();
    let mut refusals = Refusals::default();
    let waiting = std::fs::File::open(std::env::temp_dir()).unwrap();
    let spool = Spool::new(ImageDir::new(waiting.into()));
    let mut collector = Collector::new(options, spool);
    collector.ignored = holder.service_fd().map(|fd| fd.0);
    let mut snapshot = Snapshot::default();
    snapshot.tree.push(PstreeEntry { pid: pids::tree(pid).number(), ..Default::default() });
    let table = collector.add_table_of(pid, &mut snapshot, &mut refusals)?;
    let ids = TaskKobjIdsEntry { files_id: FILES_ID, ..Default::default() };
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap();
    let fs = collector.add_fs_of(pid, &status, &mut snapshot, &mut refusals)?;
    let task = TaskImage { ids: Some(ids), fs: Some(fs), ..Default::default() };
    snapshot.tasks.insert(pids::tree(pid), task);
    snapshot.descriptor_tables.insert(FILES_ID, table);
    let collected = collector.finish(&mut snapshot, &mut refusals)?;
    refusals.check()?;
    Ok((snapshot, collected))
}

/// The entry of a descriptor.
pub(super) fn entry_of(snapshot: &Snapshot, number: u32) -> &FileEntry {
    let table = &snapshot.descriptor_tables[&FILES_ID];
    let id = table.iter().find(|entry| entry.fd == number).unwrap().id;
    &snapshot.files[&id]
}

/// Makes the files of a snapshot anew, in a new process that takes the place of the old one.
pub(super) fn restore(snapshot: &Snapshot) -> Result<Blank> {
    let holder = blank();
    let snapshot = with_pid(snapshot, holder.pid());
    validate(&snapshot)?;
    let files = OpenFiles::new(&snapshot, RestoreOptions::default())?;
    let mut made = Made { files, blanks: Blanks::from([(holder.pid(), holder)]) };
    Walk::new(&Circumstances::default()).through(Phase::LAST, &mut made)?;
    Ok(made.blanks.pop_first().unwrap().1)
}

/// Processes and their files, and nothing else of them.
struct Made<'s> {
    files: OpenFiles<'s>,
    blanks: Blanks,
}

impl World for Made<'_> {
    fn once(&mut self, phase: Phase) -> Result<()> {
        self.files.run(phase, &mut self.blanks)
    }

    fn each(&mut self, phases: &[Phase]) -> Result<()> {
        let take = |phase, turn: &mut Turn<'_>| self.files.take(phase, turn);
        self.blanks.values_mut().try_for_each(|blank| Turn::take(blank, phases, take))
    }
}

pub(super) fn with_pid(snapshot: &Snapshot, pid: HostPid) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let new = pids::tree(pid).number();
    let old = std::mem::replace(&mut snapshot.tree[0].pid, new);
    let task = snapshot.tasks.remove(&TreePid::new(old)).unwrap();
    snapshot.tasks.insert(TreePid::new(new), task);
    for lock in &mut snapshot.file_locks {
        lock.pid = pid.number();
    }
    for file in snapshot.files.values_mut() {
        if let Some(reg) = file.reg.as_mut().filter(|reg| reg.fown.pid == old) {
            reg.fown.pid = new;
        }
    }
    snapshot
}

/// Captures open files and makes them anew; the result is the images and a process with the files.
pub(super) fn round_trip(fds: Vec<(i32, OwnedFd)>) -> (Snapshot, Blank) {
    let holder = hold(&fds.iter().map(|(number, file)| (*number, file)).collect::<Vec<_>>());
    drop(fds);
    let (snapshot, _) = capture_all(&holder, lenient()).unwrap();
    drop(holder);
    let restored = restore(&snapshot).unwrap();
    (snapshot, restored)
}

/// A copy of a descriptor of a process.
pub(super) fn copy_of(holder: &Blank, number: i32) -> OwnedFd {
    let pidfd = pidfd::open(holder.pid()).unwrap();
    pidfd::getfd(&pidfd, RemoteFd(number)).unwrap()
}

/// Where `/proc/PID/fd/N` leads.
pub(super) fn link(holder: &Blank, number: i32) -> String {
    let path = std::fs::read_link(format!("/proc/{}/fd/{number}", holder.pid())).unwrap();
    path.to_str().unwrap().to_string()
}

/// An empty directory, removed when dropped.
pub(super) struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("criu-files-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Held while a test counts on numbers of pseudo terminals.
pub(super) fn terminals() -> std::sync::MutexGuard<'static, ()> {
    static TERMINALS: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TERMINALS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Both sides of a new terminal, closed on exec so that no program of another test gets them.
pub(super) fn pty() -> (OwnedFd, OwnedFd) {
    let master = Place::in_tree("/dev/ptmx").open(libc::O_RDWR).unwrap();
    tty::set_locked(&master, false).unwrap();
    let slave = tty::open_slave(&master, libc::O_RDWR | libc::O_NOCTTY).unwrap();
    (master, slave)
}
