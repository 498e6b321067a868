//! A thread's alternate signal stack.

use super::attribute::{Attribute, Step, ThreadReply};
use super::{Rebuild, RecordedThread};
use crate::args;
use crate::images::proto::ThreadSasEntry;
use crate::objects::phases::Phase;
use crate::tracee::batch::{Batch, DataRef, Outcome};

/// Bytes of `stack_t`: address, flags, padding, size.
const SIZE: usize = 24;
/// "The thread is on it just now" is told, and cannot be set.
const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;

pub struct AltStack;

impl Attribute for AltStack {
    fn ask_thread(&self, batch: &mut Batch) -> Option<ThreadReply> {
        let place = batch.space(SIZE);
        batch.must("get the alternate signal stack", libc::SYS_sigaltstack, args![0, place]);
        Some(Box::new(move |outcome, thread| {
            thread.entry.sas = Some(to_image(outcome, place));
            Ok(())
        }))
    }

    fn steps(&self) -> &'static [(Phase, Step)] {
        &[(Phase::Registrations, Step::Threads(rebuild))]
    }
}

fn to_image(outcome: &Outcome, place: DataRef) -> ThreadSasEntry {
    ThreadSasEntry {
        ss_sp: outcome.u64(place),
        ss_flags: outcome.u32(place.skip(8)) & !SS_ONSTACK,
        ss_size: outcome.u64(place.skip(16)),
    }
}

fn rebuild(_: &Rebuild<'_>, thread: &RecordedThread<'_>, batch: &mut Batch) {
    if let Some(stack) = &thread.entry.sas {
        set(batch, stack);
    }
}

/// Sets the alternate stack; the thread must not be running on it, which a new one never is.
fn set(batch: &mut Batch, stack: &ThreadSasEntry) {
    let flags = stack.ss_flags & !SS_ONSTACK;
    if flags & SS_DISABLE != 0 || stack.ss_size == 0 {
        return;
    }
    let mut raw = Vec::with_capacity(SIZE);
    raw.extend_from_slice(&stack.ss_sp.to_le_bytes());
    raw.extend_from_slice(&u64::from(flags).to_le_bytes());
    raw.extend_from_slice(&stack.ss_size.to_le_bytes());
    let place = batch.bytes(&raw);
    batch.must("set the alternate signal stack", libc::SYS_sigaltstack, args![place, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::remote::RemoteAddr;
    use crate::tracee::batch::ENTRY_SIZE;

    #[test]
    fn a_stack_in_use_is_set_without_the_mark_of_use() {
        let mut batch = Batch::new();
        let stack = ThreadSasEntry { ss_sp: 0x1000, ss_size: 0x2000, ss_flags: 1 };
        set(&mut batch, &stack);
        let raw = batch.encode(RemoteAddr(0))[ENTRY_SIZE..].to_vec();
        assert_eq!(raw[..8], 0x1000u64.to_le_bytes());
        assert_eq!(raw[8..16], [0; 8]);
        assert_eq!(raw[16..], 0x2000u64.to_le_bytes());
    }

    #[test]
    fn no_stack_is_no_call() {
        let mut batch = Batch::new();
        set(&mut batch, &ThreadSasEntry { ss_sp: 0, ss_size: 0, ss_flags: SS_DISABLE });
        assert!(batch.is_empty());
    }
}
