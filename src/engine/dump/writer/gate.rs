//! Keeps parts back while the processor is better used by the dumpees.
//!
//! The engine waits for each answer of a dumpee, and a thread that writes would take the processor
//! from it. Where there is much to write, that costs less than to begin late.

/// With so many processes, parts are written while other processes are still asked.
const MANY_PROCESSES: usize = 4;
/// With so many bytes of pages, likewise.
const MANY_BYTES: u64 = 4 << 20;

/// Opens at once if there are many processes or much memory, else when the last process has answered.
#[derive(Debug)]
pub struct Gate {
    /// Processes that have not answered.
    awaited: usize,
    /// Bytes of the pages of those that have.
    bytes: u64,
    open: bool,
}

impl Gate {
    /// So many processes are going to answer.
    pub fn new(processes: usize) -> Self {
        Self { awaited: processes, bytes: 0, open: processes >= MANY_PROCESSES }
    }

    /// One process has answered; its pages are likely to be so many bytes.
    pub fn process_answered(&mut self, bytes: u64) {
        self.awaited = self.awaited.saturating_sub(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.open |= self.awaited == 0 || self.bytes >= MANY_BYTES;
    }

    /// Opens it, whoever has not answered.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Whether parts may be written.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_small_processes_are_all_asked_first() {
        let mut gate = Gate::new(2);
        gate.process_answered(4096);
        assert!(!gate.is_open());
        gate.process_answered(4096);
        assert!(gate.is_open());
    }

    #[test]
    fn many_processes_are_not_waited_for() {
        assert!(!Gate::new(MANY_PROCESSES - 1).is_open());
        assert!(Gate::new(MANY_PROCESSES).is_open());
    }

    #[test]
    fn much_memory_is_not_kept_back() {
        let mut gate = Gate::new(3);
        gate.process_answered(MANY_BYTES - 1);
        assert!(!gate.is_open());
        gate.process_answered(1);
        assert!(gate.is_open());
    }
}
