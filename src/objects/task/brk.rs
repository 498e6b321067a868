//! The program break: where the heap ends.
//!
//! It is part of the address space, with which [`memory`](crate::objects::memory) gives it back.

use super::attribute::{Attribute, Reply};
use super::draft::Draft;
use crate::args;
use crate::error::Context;
use crate::tracee::batch::Batch;

pub struct Brk;

impl Attribute for Brk {
    fn ask(&self, batch: &mut Batch, _: &Draft) -> Option<Reply> {
        let call = batch.call(libc::SYS_brk, args![0]);
        Some(Box::new(move |outcome, draft, _| {
            draft.mm.mm_brk = outcome.ret(call).doing(|| "brk")?.cast_unsigned();
            Ok(())
        }))
    }
}
