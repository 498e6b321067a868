//! `stats-dump` and `stats-restore`: how long a dump or restore took, and how many pages it wrote or
//! read.
//!
//! Figures that cannot be stored undo nothing: the dump is whole, or the tree runs.

use std::time::Instant;

use crate::error::{Context, Result};
use crate::images::codec::Encoder;
use crate::images::names::magic;
use crate::images::proto::{DumpStatsEntry, RestoreStatsEntry, StatsEntry};
use crate::images::snapshot::Pagemap;
use crate::kernel::fresh;
use crate::log::Log;
use crate::objects::memory::Filled;
use crate::options::Request;

const DUMP: &str = "stats-dump";
const RESTORE: &str = "stats-restore";

/// The figures of a dump: times in microseconds, counts in pages.
#[derive(Debug)]
pub struct DumpStats {
    begin: Instant,
    frozen: Instant,
    entry: DumpStatsEntry,
}

impl DumpStats {
    /// The dump begins to stop the tree.
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
    pub fn finish(mut self, request: &Request, log: &Log) -> Result<()> {
        self.entry.frozen_time = micros(self.frozen);
        let text = dump_text(&self.entry);
        tell(request, log, &text);
        store(request, DUMP, StatsEntry { dump: Some(self.entry), restore: None })
    }
}

/// The figures of a restore.
#[derive(Debug)]
pub struct RestoreStats {
    begin: Instant,
    entry: RestoreStatsEntry,
}

impl RestoreStats {
    /// The restore begins.
    pub fn start() -> Self {
        Self { begin: Instant::now(), entry: RestoreStatsEntry::default() }
    }

    /// All processes are made; the first of them was begun at `since`.
    pub fn forked(&mut self, since: Instant) {
        self.entry.forking_time = micros(since);
    }

    /// All private memory is filled.
    pub fn filled(&mut self, filled: Filled) {
        self.entry.pages_compared = filled.compared;
        self.entry.pages_skipped_cow = filled.shared;
        self.entry.pages_restored = Some(filled.restored);
    }

    /// The tree runs: stores the figures in the work directory.
    pub fn finish(mut self, request: &Request, log: &Log) -> Result<()> {
        self.entry.restore_time = micros(self.begin);
        let text = restore_text(&self.entry);
        tell(request, log, &text);
        store(request, RESTORE, StatsEntry { dump: None, restore: Some(self.entry) })
    }
}

/// Prints the figures, if the caller asked for that.
fn tell(request: &Request, log: &Log, text: &str) {
    if request.options.display_stats() {
        log.message(text);
    }
}

fn store(request: &Request, name: &str, entry: StatsEntry) -> Result<()> {
    let mut file = Encoder::service(magic::STATS);
    file.entry(&entry);
    fresh::replace(request.work()?, name, &file.finish()).doing(|| format!("write {name}"))
}

/// The figures in CRIU's words, which scripts look for.
fn dump_text(entry: &DumpStatsEntry) -> String {
    lines(
        "Displaying dump stats:",
        &[
            ("Freezing time", Figure::Micros(entry.freezing_time)),
            ("Frozen time", Figure::Micros(entry.frozen_time)),
            ("Memory dump time", Figure::Micros(entry.memdump_time)),
            ("Memory write time", Figure::Micros(entry.memwrite_time)),
            ("IRMAP resolve time", Figure::Micros(entry.irmap_resolve())),
            ("Memory pages scanned", Figure::Pages(entry.pages_scanned)),
            ("Memory pages skipped from parent", Figure::Pages(entry.pages_skipped_parent)),
            ("Memory pages written", Figure::Pages(entry.pages_written)),
            ("Lazy memory pages", Figure::Pages(entry.pages_lazy)),
        ],
    )
}

fn restore_text(entry: &RestoreStatsEntry) -> String {
    lines(
        "Displaying restore stats:",
        &[
            ("Pages compared", Figure::Pages(entry.pages_compared)),
            ("Pages skipped COW", Figure::Pages(entry.pages_skipped_cow)),
            ("Pages restored", Figure::Pages(entry.pages_restored())),
            ("Restore time", Figure::Micros(entry.restore_time)),
            ("Forking time", Figure::Micros(entry.forking_time)),
        ],
    )
}

enum Figure {
    Micros(u32),
    Pages(u64),
}

fn lines(title: &str, figures: &[(&str, Figure)]) -> String {
    let mut text = title.to_owned();
    for (name, figure) in figures {
        text += &match figure {
            Figure::Micros(time) => format!("\n{name}: {time} us"),
            Figure::Pages(count) => format!("\n{name}: {count} (0x{count:x})"),
        };
    }
    text
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn pages(pagemap: &Pagemap) -> u64 {
    pagemap.entries.iter().map(|entry| entry.nr_pages()).sum()
}
