//! Choosing where the code of a session stands, and which thread runs it.
//!
//! The code takes a tail of an executable mapping (`cave`), followed by room for two blocks. A
//! block that is still in use when a session begins belongs to an engine that was killed. It is
//! left alone as long as a thread may still return into it, from a signal handler that runs on top
//! of the heal code.

use std::fs::File;
use std::ops::Range;

use super::armed::Park;
use super::code::{self, BLOCK_SIZE};
use super::{FrozenTask, FrozenThread, Restart, cave, frame};
use crate::error::{Error, Kind, Result};
use crate::kernel::memory;
use crate::kernel::proc::{Mapping, Status};
use crate::kernel::remote::RemoteAddr;

const BLOCKS: usize = 2;

/// The places of the code and of the block of a session.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub code: RemoteAddr,
    pub block: RemoteAddr,
    /// Whether the code has still to be written.
    pub is_new: bool,
    /// The scratch that the block's earlier session has left. The block goes on naming it until it
    /// is removed.
    pub inherited: Option<Range<u64>>,
    /// What killed engines have left and can be removed safely.
    pub leftovers: Vec<Leftover>,
}

/// What a killed engine has left.
#[derive(Clone, Debug)]
pub(super) struct Leftover {
    /// The block of that engine's session, still in use.
    pub block: RemoteAddr,
    /// The scratch that the block names, if that is still mapped.
    pub scratch: Option<Range<u64>>,
}

impl Site {
    /// Whether there are mappings that killed engines have left.
    pub fn has_mappings_left(&self) -> bool {
        self.inherited.is_some() || self.leftovers.iter().any(|left| left.scratch.is_some())
    }
}

/// A block as an earlier session has left it.
struct Found {
    at: RemoteAddr,
    is_free: bool,
    /// Scratches that the block names and that are still mapped. There is at most one, because a
    /// session removes the inherited scratch before its own can be left behind.
    left: Vec<Range<u64>>,
}

/// Finds a place for code and block.
pub(super) fn find(task: &FrozenTask, maps: &[Mapping]) -> Result<Site> {
    let room = (code::code().len() + BLOCKS * BLOCK_SIZE) as u64;
    for tail in cave::tails(task.memory(), maps, room) {
        if let Some(site) = try_tail(task, maps, &tail)? {
            return Ok(site);
        }
    }
    let text = "there is no room for code behind any executable segment";
    Err(Error::new(Kind::System, format!("pid {}: {text}", task.pid)))
}

fn try_tail(task: &FrozenTask, maps: &[Mapping], tail: &Range<u64>) -> Result<Option<Site>> {
    let code = RemoteAddr(tail.start);
    let bytes = cave::bytes(task.memory(), tail)?;
    let is_new = !bytes.starts_with(code::code());
    let blocks = look_at_blocks(task, maps, tail, if is_new { None } else { Some(&bytes) });
    let is_clean = !is_new && blocks.iter().all(|block| block.is_free);
    // Nothing can return into a place where our code never stood.
    let is_blank = bytes.iter().all(|byte| *byte == 0)
        || cave::is_pristine(task.pid, tail.start & !(cave::PAGE - 1));
    let is_quiet = is_clean || is_blank || !is_referenced(task, maps, tail);
    // If killed engines have left every block in use, one is used again, provided that nothing can
    // return into it.
    let free = blocks.iter().find(|block| block.is_free && (is_quiet || !is_new));
    let empty = blocks.iter().find(|block| is_quiet && block.left.is_empty());
    let any = blocks.first().filter(|_| is_quiet);
    let Some(chosen) = free.or(empty).or(any) else { return Ok(None) };
    let (block, inherited) = (chosen.at, chosen.left.first().cloned());
    let used = blocks.iter().filter(|block| is_quiet && !block.is_free);
    let left = used.map(|block| Leftover { block: block.at, scratch: block.left.first().cloned() });
    let is_unused = |scratch: &Range<u64>| !is_referenced(task, maps, scratch);
    let leftovers = left.filter(|left| left.scratch.as_ref().is_none_or(is_unused)).collect();
    Ok(Some(Site { code, block, is_new, inherited, leftovers }))
}

/// The blocks of a tail. `bytes` is the tail's contents if our code is in it.
fn look_at_blocks(
    task: &FrozenTask,
    maps: &[Mapping],
    tail: &Range<u64>,
    bytes: Option<&[u8]>,
) -> Vec<Found> {
    let look = |index: usize| {
        let offset = code::code().len() + index * BLOCK_SIZE;
        let at = RemoteAddr(tail.start + offset as u64);
        let block = bytes.map(|bytes| &bytes[offset..offset + BLOCK_SIZE]);
        let used = block.filter(|block| word(block, 0) != code::FREE);
        let scratches = used.into_iter().flat_map(|block| {
            code::SCRATCHES_AT.map(|(start, len)| {
                let start = word(block, start);
                start..start.saturating_add(word(block, len))
            })
        });
        let left = scratches.filter(|range| is_our_scratch(task, maps, at, range)).collect();
        Found { at, is_free: used.is_none(), left }
    };
    (0..BLOCKS).map(look).collect()
}

/// Whether a mapping with this range is the scratch of the session with this block: it is mapped as
/// a scratch is, and it carries the signature.
fn is_our_scratch(
    task: &FrozenTask,
    maps: &[Mapping],
    block: RemoteAddr,
    range: &Range<u64>,
) -> bool {
    let same = |mapping: &Mapping| {
        mapping.range == *range && mapping.inode == 0 && mapping.perms == *b"rw-p"
    };
    let mut found = [0u8; SIGNATURE_LEN];
    maps.iter().any(same)
        && cave::is_touched(task.pid, range.start)
        && memory::read(task.pid, RemoteAddr(range.start + SIGNATURE_AT), &mut found).is_ok()
        && found == signature(block)
}

/// Where in a scratch its signature is.
pub(super) const SIGNATURE_AT: u64 = 8;
const SIGNATURE_LEN: usize = 16;

/// The signature of the scratch of the session with this block.
pub(super) fn signature(block: RemoteAddr) -> [u8; SIGNATURE_LEN] {
    let mut signature = [0; SIGNATURE_LEN];
    signature[..8].copy_from_slice(&code::IN_USE.to_le_bytes());
    signature[8..].copy_from_slice(&block.0.to_le_bytes());
    signature
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Whether a thread stands in `tail`, or has an address in it on the upper part of its stack.
fn is_referenced(task: &FrozenTask, maps: &[Mapping], tail: &Range<u64>) -> bool {
    task.threads.iter().any(|thread| {
        tail.contains(&thread.regs.rip)
            || stack_words(task.memory(), maps, thread.regs.rsp).any(|word| tail.contains(&word))
    })
}

/// The words on the stack from `rsp` on, up to the end of the mapping and no farther than the
/// frames of signal handlers can reach.
fn stack_words(memory: &File, maps: &[Mapping], rsp: u64) -> impl Iterator<Item = u64> {
    const FAR: u64 = 64 << 10;
    let start = rsp & !7;
    let end = maps.iter().find(|mapping| mapping.range.contains(&start));
    let end = end.map_or(start, |mapping| mapping.range.end.min(start + FAR));
    let mut bytes = vec![0u8; (end - start) as usize];
    if memory::read_forced(memory, RemoteAddr(start), &mut bytes).is_err() {
        bytes.clear();
    }
    (0..bytes.len() / 8).map(move |at| word(&bytes, at * 8))
}

/// The thread whose use disturbs the program least. Calls about the process can be made by any
/// thread.
pub(super) fn choose_thread(threads: &[FrozenThread]) -> usize {
    let cost = |thread: &FrozenThread| {
        let class = match thread.restart() {
            _ if has_temporary_mask(thread) => 5,
            Restart::None => 0,
            Restart::Always => 1,
            Restart::Block => 2,
            Restart::NoHandler => 3,
            Restart::Hidden => 4,
        };
        (frame::has_tiles(&thread.xstate), class)
    };
    (0..threads.len()).min_by_key(|index| cost(&threads[*index])).unwrap_or(0)
}

/// Whether the thread is inside a call that waits with a temporary signal mask.
fn has_temporary_mask(thread: &FrozenThread) -> bool {
    const CALLS: [libc::c_long; 5] = [
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_rt_sigsuspend,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
    ];
    CALLS.contains(&thread.regs.orig_rax.cast_signed())
}

/// A signal that neither the program nor the kernel does anything about, if there is one.
pub(super) fn choose_park(status: &Status, thread: &FrozenThread) -> Park {
    const IGNORED_BY_DEFAULT: [i32; 3] = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD];
    let taken = status.caught | thread.sigmask | status.pending | status.shared_pending;
    let ignored =
        (1..=64).filter(|signal| may_be_ignored(*signal) && status.ignored & bit(*signal) != 0);
    let mut candidates = IGNORED_BY_DEFAULT.into_iter().chain(ignored);
    candidates.find(|signal| taken & bit(*signal) == 0).map_or(Park::Calls, Park::Signal)
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether a signal can serve as park signal if it is ignored. Signals that stop or continue, that
/// the kernel forces, or that the C library uses itself cannot.
fn may_be_ignored(signal: i32) -> bool {
    const LIBC: [i32; 3] = [32, 33, 34];
    !LIBC.contains(&signal)
        && !matches!(
            signal,
            libc::SIGKILL
                | libc::SIGSTOP
                | libc::SIGCONT
                | libc::SIGTSTP
                | libc::SIGTTIN
                | libc::SIGTTOU
                | libc::SIGTRAP
                | libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGILL
                | libc::SIGFPE
                | libc::SIGSYS
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::pid::HostPid;

    #[test]
    fn the_park_signal_is_one_nobody_uses() {
        let thread = FrozenThread::unread(HostPid::new(1));
        let mut status = Status::default();
        assert_eq!(choose_park(&status, &thread), Park::Signal(libc::SIGURG));
        status.caught = bit(libc::SIGURG) | bit(libc::SIGWINCH);
        assert_eq!(choose_park(&status, &thread), Park::Signal(libc::SIGCHLD));
        status.caught |= bit(libc::SIGCHLD);
        assert_eq!(choose_park(&status, &thread), Park::Calls);
        status.ignored = bit(libc::SIGPIPE) | bit(libc::SIGTSTP);
        assert_eq!(choose_park(&status, &thread), Park::Signal(libc::SIGPIPE));
    }

    #[test]
    fn a_thread_in_user_mode_is_preferred() {
        let mut sleeper = FrozenThread::unread(HostPid::new(1));
        sleeper.regs.orig_rax = 35;
        sleeper.regs.rax = (-516i64).cast_unsigned();
        let mut runner = FrozenThread::unread(HostPid::new(2));
        runner.regs.orig_rax = u64::MAX;
        assert_eq!(choose_thread(&[sleeper.clone(), runner.clone()]), 1);
        runner.xstate = vec![0xff; 576];
        assert_eq!(choose_thread(&[sleeper, runner]), 0);
    }
}
