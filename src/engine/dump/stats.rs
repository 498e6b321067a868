//! `stats-dump`: how long the tree stood still and how much was written.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Context, Result};
use crate::images::codec::Encoder;
use crate::images::names::magic;
use crate::images::proto::{DumpStatsEntry, StatsEntry};
use crate::images::snapshot::Pagemap;

const NAME: &str = "stats-dump";

/// Times in microseconds, counts in pages.
#[derive(Debug)]
pub struct Stats {
    begin: Instant,
    frozen: Instant,
    entry: DumpStatsEntry,
}

impl Stats {
    /// Stopping the tree begins.
    pub fn start() -> Self {
        let now = Instant::now();
        let entry = DumpStatsEntry {
            irmap_resolve: Some(0),
            page_pipes: Some(0),
            page_pipe_bufs: Some(0),
            shpages_scanned: Some(0),
            shpages_skipped_parent: Some(0),
            shpages_written: Some(0),
            ..DumpStatsEntry::default()
        };
        Self { begin: now, frozen: now, entry }
    }

    /// The tree is stopped.
    pub fn frozen(&mut self) {
        self.frozen = Instant::now();
        self.entry.freezing_time = micros(self.begin);
    }

    /// One address space is written.
    pub fn add(&mut self, pagemap: &Pagemap) {
        self.entry.pages_scanned += pages(pagemap);
        self.entry.pages_written += pages(pagemap);
    }

    /// One shared object is written.
    pub fn add_shared(&mut self, pagemap: &Pagemap) {
        *self.entry.shpages_scanned.get_or_insert(0) += pages(pagemap);
        *self.entry.shpages_written.get_or_insert(0) += pages(pagemap);
    }

    /// All memory is written.
    pub fn memory_written(&mut self) {
        // Pages are copied straight into their files: dumping and writing are one.
        self.entry.memwrite_time = micros(self.frozen);
        self.entry.memdump_time = self.entry.memwrite_time;
    }

    /// The tree was let go: stores the figures in the work directory.
    pub fn finish(mut self, work: BorrowedFd<'_>) -> Result<()> {
        self.entry.frozen_time = micros(self.frozen);
        let mut file = Encoder::service(magic::STATS);
        file.entry(&StatsEntry { dump: Some(self.entry), restore: None });
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let fd = openat(work, NAME, flags, Mode::from_bits_truncate(0o600))
            .doing(|| format!("create {NAME}"))?;
        std::fs::File::from(fd).write_all(&file.finish()).doing(|| format!("write {NAME}"))
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn pages(pagemap: &Pagemap) -> u64 {
    pagemap.entries.iter().map(|entry| entry.nr_pages()).sum()
}
