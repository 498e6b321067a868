//! A dump for people.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use console::style;
use indicatif::{BinaryBytes, HumanCount};

use super::model::{self, About, Mapping, Open, Size};
use crate::cli::report::clean;
use crate::images::proto::PstreeEntry;
use crate::images::snapshot::{Snapshot, TaskImage};
use crate::kernel::PAGE_SIZE;
use crate::version;

/// Deeper trees are not indented any more.
const MAX_DEPTH: usize = 40;
/// Seconds from 1970 to where four digits end.
const YEAR_10000: u64 = 253_402_300_800;

/// The whole dump; `in_detail` with each mapping.
pub fn render(snapshot: &Snapshot, about: &About, in_detail: bool) -> String {
    let mut page = Page { snapshot, in_detail, text: String::new() };
    page.head(about);
    let (children, roots) = model::children(snapshot);
    let mut todo: Vec<(usize, usize)> = roots.into_iter().rev().map(|root| (root, 0)).collect();
    while let Some((index, depth)) = todo.pop() {
        let entry = &snapshot.tree[index];
        page.task(entry, depth);
        let next = children.get(&entry.pid).map(Vec::as_slice).unwrap_or_default();
        todo.extend(next.iter().rev().map(|child| (*child, depth + 1)));
    }
    page.shared_memory();
    page.image_files();
    page.text
}

struct Page<'a> {
    snapshot: &'a Snapshot,
    in_detail: bool,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        let indent = "    ".repeat(depth.min(MAX_DEPTH));
        let _ = writeln!(self.text, "{indent}{line}");
    }

    fn head(&mut self, about: &About) {
        let tree = &self.snapshot.tree;
        let threads: usize = tree.iter().map(|entry| entry.threads.len()).sum();
        let memory = BinaryBytes(model::saved(self.snapshot));
        let time = about.time.and_then(utc).map(|time| format!(", {time}")).unwrap_or_default();
        let lines = [
            style(clean(&about.path)).bold().to_string(),
            format!("  made by {}{time}", clean(&about.made_by)),
            format!("  {} processes, {threads} threads, {memory} of memory", tree.len()),
        ];
        lines.iter().for_each(|line| self.line(0, line));
        if let Some(dump) = about.stats.as_ref().and_then(|stats| stats.dump.as_ref()) {
            let [frozen, memory, freezing] =
                [dump.frozen_time, dump.memdump_time, dump.freezing_time].map(millis);
            let line = format!("stopped for {frozen}, {memory} of that for its memory");
            self.line(0, &format!("  {line}; {freezing} to stop it"));
        }
        if let Some(why) = &about.damage {
            self.line(0, &format!("  {} {}", style("damaged:").red(), clean(why)));
        }
        let (own, compatible) = (version::OWN, version::compatible());
        self.line(0, &format!("  shown by libcriu {own} (as CRIU {compatible})"));
        self.line(0, "");
    }

    fn task(&mut self, entry: &PstreeEntry, depth: usize) {
        let Some(task) = self.snapshot.tasks.get(&entry.tree_pid()) else { return };
        let name = style(clean(model::comm(task))).bold();
        let mut line = format!("{} {name}", style(entry.pid).cyan());
        line += &format!(" ({}), session {}, group {}", model::state(task), entry.sid, entry.pgid);
        if let Some(creds) = task.core.thread_core.as_ref().and_then(|core| core.creds.as_ref()) {
            line += &format!(", user {}:{}", creds.euid, creds.egid);
        }
        self.line(depth, &line);
        if entry.threads.len() > 1 {
            let tids: Vec<String> = entry.threads.iter().map(u32::to_string).collect();
            self.line(depth, &format!("  threads {}", tids.join(" ")));
        }
        self.places(task, depth);
        self.memory(task, depth);
        let open = model::descriptors(self.snapshot, task);
        let (sockets, files): (Vec<_>, Vec<_>) =
            open.iter().partition(|open| open.description.is_socket);
        self.open("files", &files, depth);
        self.open("sockets", &sockets, depth);
    }

    fn places(&mut self, task: &TaskImage, depth: usize) {
        let path = |id: u32| {
            let reg = self.snapshot.path_entry(id);
            reg.map_or_else(|| format!("file {id}"), |reg| clean(&reg.name))
        };
        let exe = task.mm.as_ref().map(|mm| format!("  program {}", path(mm.exe_file_id)));
        let fs = task
            .fs
            .as_ref()
            .map(|fs| format!("  in {}, root {}", path(fs.cwd_id), path(fs.root_id)));
        for line in [exe, fs].into_iter().flatten() {
            self.line(depth, &line);
        }
    }

    fn memory(&mut self, task: &TaskImage, depth: usize) {
        let mappings = model::mappings(self.snapshot, task);
        if let (true, Some(pagemap)) = (mappings.is_empty(), &task.pagemap) {
            let pages = HumanCount(model::bytes(pagemap) / PAGE_SIZE);
            self.line(depth, &format!("  {} {pages} pages saved", head("memory:")));
        }
        if mappings.is_empty() {
            return;
        }
        let mut sum = Size::default();
        mappings.iter().for_each(|mapping| sum.add(mapping.size));
        let count = mappings.len();
        self.line(depth, &format!("  {} {count} mappings, {}", head("memory:"), size(sum)));
        let lines = if self.in_detail { each(&mappings) } else { by_name(&mappings) };
        for line in lines {
            self.line(depth, &format!("    {}", clean(&line)));
        }
    }

    fn open(&mut self, title: &str, open: &[&Open<'_>], depth: usize) {
        if open.is_empty() {
            return;
        }
        self.line(depth, &format!("  {}", head(&format!("{title}:"))));
        for one in open {
            let what = &one.description;
            let exec = if one.on_exec { "" } else { ", closed on exec" };
            let line =
                format!("{:>4} {:4} {:8} {}{exec}", one.fd, what.access, what.kind, what.text());
            self.line(depth, &format!("    {}", clean(&line)));
        }
    }

    fn shared_memory(&mut self) {
        if self.snapshot.shared_memory.is_empty() {
            return;
        }
        self.line(0, &head("shared memory:"));
        for (id, pagemap) in &self.snapshot.shared_memory {
            let entries = &pagemap.entries;
            let pages =
                entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.nr_pages()));
            let line =
                format!("  {id}: {} pages in pages-{}.img", HumanCount(pages), pagemap.pages_id);
            self.line(0, &line);
        }
    }

    fn image_files(&mut self) {
        if !self.in_detail {
            return;
        }
        self.line(0, &head("image files:"));
        for file in self.snapshot.files() {
            self.line(0, &format!("  {:>4} {}", HumanCount(file.entries as u64), file.name));
        }
    }
}

fn head(text: &str) -> String {
    style(text).green().to_string()
}

fn each(mappings: &[Mapping<'_>]) -> Vec<String> {
    let line = |mapping: &Mapping<'_>| {
        let vma = mapping.vma;
        let letter =
            |bit: i32, letter| if vma.prot & bit.cast_unsigned() != 0 { letter } else { '-' };
        let shared = if vma.flags & libc::MAP_SHARED.cast_unsigned() != 0 { 's' } else { 'p' };
        let access: String = [
            letter(libc::PROT_READ, 'r'),
            letter(libc::PROT_WRITE, 'w'),
            letter(libc::PROT_EXEC, 'x'),
            shared,
        ]
        .iter()
        .collect();
        format!(
            "{:012x}-{:012x} {access} {}  {}",
            vma.start,
            vma.end,
            mapping.name,
            size(mapping.size)
        )
    };
    mappings.iter().map(line).collect()
}

/// In the order in which the names come first.
fn by_name(mappings: &[Mapping<'_>]) -> Vec<String> {
    let mut sums: Vec<(&str, usize, Size)> = Vec::new();
    let mut known = HashMap::new();
    for mapping in mappings {
        let at = *known.entry(mapping.name.as_str()).or_insert_with(|| {
            sums.push((&mapping.name, 0, Size::default()));
            sums.len() - 1
        });
        sums[at].1 += 1;
        sums[at].2.add(mapping.size);
    }
    sums.iter().map(|(name, count, sum)| format!("{count:>3} {name}: {}", size(*sum))).collect()
}

fn size(size: Size) -> String {
    let pages = |bytes: u64| HumanCount(bytes / PAGE_SIZE);
    let mut text = format!("{}, {} pages saved", BinaryBytes(size.mapped), pages(size.saved));
    if size.in_parent > 0 {
        text += &format!(", {} in the dump before", pages(size.in_parent));
    }
    text
}

fn millis(micros: u32) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

/// None for what the calendar has no name for.
fn utc(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (seconds < YEAR_10000).then(|| humantime::format_rfc3339_seconds(time).to_string())
}
