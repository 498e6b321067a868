//! Pages are copied by a second thread while the engine goes on with descriptors, threads and
//! attributes.
//!
//! A process under construction may touch a page that is not there yet: it waits then, and gets the
//! page from the image, or an empty one when everything has been copied. So the thread must never
//! have to wait for the engine, which may be waiting for that process.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::error::{Context, Result};
use crate::helper::{Helper, Later};
use crate::objects::memory::Copying;

/// How many copies may wait at once: each of them keeps two descriptors open.
const AHEAD: usize = 16;

/// Hands pages that are to be copied to the helper thread.
pub struct Copier<'h, 'scope, 'env> {
    helper: &'h Helper<'scope, 'env>,
    /// What the thread may not have finished. The thread owns each copy, so that its descriptors
    /// close as soon as the thread has finished it; the engine only helps while it lives.
    left: VecDeque<(Weak<Copying>, Later<()>)>,
}

impl<'h, 'scope, 'env> Copier<'h, 'scope, 'env> {
    /// A copier that has nothing to copy yet.
    pub fn new(helper: &'h Helper<'scope, 'env>) -> Self {
        Self { helper, left: VecDeque::new() }
    }

    /// Copies these pages before [`finish`](Self::finish) returns. Much is copied by both threads at
    /// once, as the engine would soon have to wait for one of the pages.
    pub fn take(&mut self, copying: Copying) -> Result<()> {
        let is_much = copying.is_much();
        let copying = Arc::new(copying);
        let weak = Arc::downgrade(&copying);
        let copied = self.helper.give(move || help(&copying));
        self.left.push_back((weak, copied));
        if is_much {
            self.finish()
        } else if self.left.len() > AHEAD {
            self.finish_first()
        } else {
            Ok(())
        }
    }

    /// Returns when everything has been copied.
    pub fn finish(&mut self) -> Result<()> {
        while !self.left.is_empty() {
            self.finish_first()?;
        }
        Ok(())
    }

    fn finish_first(&mut self) -> Result<()> {
        let Some((copying, copied)) = self.left.pop_front() else { return Ok(()) };
        if let Some(copying) = copying.upgrade() {
            help(&copying)?;
        }
        copied.get()
    }
}

fn help(copying: &Copying) -> Result<()> {
    copying.help().doing(|| format!("pid {}", copying.pid()))
}
