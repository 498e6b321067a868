//! What a process does with each signal.
//!
//! An image holds 62 actions in the order of the signal numbers, without SIGKILL and SIGSTOP,
//! whose actions are fixed.

use super::attribute::{Attribute, Reply, Step};
use super::draft::Draft;
use super::syscall_restart::Handler;
use super::{Rebuild, Recorded};
use crate::args;
use crate::error::{Error, Result};
use crate::images::proto::SaEntry;
use crate::kernel::ptrace::SIGSET_SIZE;
use crate::objects::phases::Phase;
use crate::tracee::batch::{Batch, DataRef, Outcome};

/// Bytes of the kernel's `struct sigaction`: handler, flags, restorer, mask.
const SIZE: usize = 32;
const SIGNALS: i32 = 64;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

pub struct Actions;

impl Attribute for Actions {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let places = ask(batch);
        Some(Box::new(move |outcome, draft, _| {
            draft.entry.sigactions = to_image(outcome, &places);
            Ok(())
        }))
    }

    fn validate(&self, task: &Recorded<'_>) -> Result<()> {
        validate(&task.file(), &task.entry.sigactions)
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Actions, Step::Leader(rebuild))]
    }
}

/// The signals that have an action to be stored, in the order of an image.
pub fn signals() -> impl Iterator<Item = i32> {
    (1..=SIGNALS).filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP))
}

/// The action of `signal` in the list of an image.
pub fn of(actions: &[SaEntry], signal: i32) -> Option<&SaEntry> {
    signals().zip(actions).find(|(found, _)| *found == signal).map(|(_, action)| action)
}

/// What a signal does to the process that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing at all.
    Ignored,
    /// It stops, continues or kills the process.
    Default,
    /// A handler runs.
    Handled(Handler),
}

/// What `signal` does under the actions of an image.
pub fn effect(actions: &[SaEntry], signal: i32) -> Effect {
    const IGNORED_BY_DEFAULT: [i32; 4] =
        [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let Some(action) = of(actions, signal) else { return Effect::Default };
    match action.sigaction {
        SIG_IGN => Effect::Ignored,
        SIG_DFL if IGNORED_BY_DEFAULT.contains(&signal) => Effect::Ignored,
        SIG_DFL => Effect::Default,
        _ => Effect::Handled(Handler { restarts: action.flags & libc::SA_RESTART as u64 != 0 }),
    }
}

/// Signals whose handlers end an interrupted system call: bit n-1 for signal n.
pub fn interrupting(actions: &[SaEntry]) -> u64 {
    let interrupts = |signal: &i32| matches!(effect(actions, *signal), Effect::Handled(handler) if !handler.restarts);
    signals().filter(interrupts).fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Asks for all actions.
fn ask(batch: &mut Batch) -> Vec<DataRef> {
    let places = signals().map(|signal| {
        let place = batch.space(SIZE);
        let what = format!("get the action of signal {signal}");
        batch.must(what, libc::SYS_rt_sigaction, args![signal, 0, place, SIGSET_SIZE]);
        place
    });
    places.collect()
}

fn to_image(outcome: &Outcome, places: &[DataRef]) -> Vec<SaEntry> {
    places.iter().map(|place| entry(outcome.bytes(*place))).collect()
}

fn entry(raw: &[u8]) -> SaEntry {
    let long = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().expect("eight bytes"));
    SaEntry {
        sigaction: long(0),
        flags: long(8),
        restorer: long(16),
        mask: long(24),
        compat_sigaction: Some(false),
        mask_extended: None,
    }
}

fn raw(action: &SaEntry) -> Vec<u8> {
    [action.sigaction, action.flags, action.restorer, action.mask]
        .iter()
        .flat_map(|long| long.to_le_bytes())
        .collect()
}

/// Checks that there is one native action for each signal.
fn validate(file: &str, actions: &[SaEntry]) -> Result<()> {
    let want = signals().count();
    if actions.len() != want {
        let got = actions.len();
        return Err(Error::image(file, format!("{got} signal actions instead of {want}")));
    }
    match actions.iter().any(SaEntry::compat_sigaction) {
        true => Err(Error::image(file, "a signal handler is 32-bit code, which is not carried")),
        false => Ok(()),
    }
}

fn rebuild(process: &Rebuild<'_>, batch: &mut Batch) {
    flush_sigchld(batch);
    set(batch, &process.task.entry.sigactions);
}

/// Forgets the SIGCHLDs that the making of the tree has left behind, without reaping anybody.
fn flush_sigchld(batch: &mut Batch) {
    let default = batch.bytes(&[0; SIZE]);
    let call = args![libc::SIGCHLD, default, 0, SIGSET_SIZE];
    batch.must("flush SIGCHLD", libc::SYS_rt_sigaction, call);
}

/// Sets all actions but the default ones, which a blank has anyhow.
fn set(batch: &mut Batch, actions: &[SaEntry]) {
    let all = signals().zip(actions).map(|(signal, action)| (signal, raw(action)));
    for (signal, raw) in all.filter(|(_, raw)| *raw != [0; SIZE]) {
        let place = batch.bytes(&raw);
        let what = format!("set the action of signal {signal}");
        batch.must(what, libc::SYS_rt_sigaction, args![signal, place, 0, SIGSET_SIZE]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::remote::RemoteAddr;

    #[test]
    fn answers_become_entries_in_order() {
        let mut batch = Batch::new();
        let places = ask(&mut batch);
        assert_eq!(batch.len(), 62);
        let base = batch.encode(RemoteAddr(0));
        let mut ran = base.clone();
        // The place of SIGSTOP's successor, the 18th of the list.
        let at = batch.len() * 64 + 17 * 64;
        let action: Vec<u8> = [0x1234u64, 0x1400_0000, 0x777, 1 << 9]
            .iter()
            .flat_map(|long| long.to_le_bytes())
            .collect();
        ran[at..at + SIZE].copy_from_slice(&action);
        let actions = to_image(&batch.outcome(&ran).unwrap(), &places);
        let tstp = of(&actions, libc::SIGTSTP).unwrap();
        assert_eq!((tstp.sigaction, tstp.flags, tstp.restorer), (0x1234, 0x1400_0000, 0x777));
        assert_eq!((tstp.mask, tstp.compat_sigaction), (1 << 9, Some(false)));
        assert_eq!(raw(tstp), action);
        validate("core-1.img", &actions).unwrap();
    }

    #[test]
    fn effects_follow_action_and_default() {
        let mut actions = vec![SaEntry::default(); 62];
        actions[0].sigaction = SIG_IGN;
        actions[1] = SaEntry { sigaction: 0x1000, flags: 0x1000_0000, ..SaEntry::default() };
        assert_eq!(effect(&actions, libc::SIGHUP), Effect::Ignored);
        let handler = Handler { restarts: true };
        assert_eq!(effect(&actions, libc::SIGINT), Effect::Handled(handler));
        assert_eq!(effect(&actions, libc::SIGCHLD), Effect::Ignored);
        assert_eq!(effect(&actions, libc::SIGTERM), Effect::Default);
        assert_eq!(effect(&actions, libc::SIGKILL), Effect::Default);
    }

    #[test]
    fn a_wrong_number_of_actions_is_refused() {
        let text = validate("core-1.img", &[]).unwrap_err().to_string();
        assert_eq!(text, "core-1.img: 0 signal actions instead of 62");
    }
}
