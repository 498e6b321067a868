//! `dedup`: takes pages out of older dumps that a newer one of the same tree has.
//!
//! The image directory's `parent` is the dump before it, whose `parent` is the one before that.
//! Pages that the newest dump has are never read from an older one, so their blocks there are given
//! back by holes; the files keep their sizes. After this an older dump is no longer whole, and its
//! manifest says so before the first hole is made. All dumps have to belong to the same user:
//! `parent` may be a link, which must not lead root to the dumps of somebody else.

use std::collections::BTreeSet;
use std::fs::File;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::fstat;

use crate::error::{Context, Error, Kind, Result};
use crate::images::dir::{ImageDir, MANIFEST};
use crate::images::manifest::Manifest;
use crate::images::names;
use crate::images::proto::PagemapEntry;
use crate::images::read::decode_pagemap;
use crate::kernel::PAGE_SIZE;
use crate::log::Log;
use crate::objects::memory::runs;
use crate::options::Request;

/// Deduplicates the chain of dumps that ends in the image directory.
pub fn run(request: &Request, log: &Log) -> Result<()> {
    let newest = ImageDir::copy_of(request.images()?)?;
    let older = ancestors(&newest)?;
    if older.is_empty() {
        log.info(format!("{} has no parent: nothing to take out", newest.path()));
        return Ok(());
    }
    let mut freed = 0;
    for name in newest.names()?.iter().filter(|name| is_pagemap(name)) {
        freed += one(name, &newest, &older)?;
    }
    log.info(format!("Deduplicated: {} pages are taken out of older dumps", freed / PAGE_SIZE));
    Ok(())
}

fn is_pagemap(name: &str) -> bool {
    name.starts_with("pagemap-") && name.ends_with(".img")
}

/// The dumps before this one, the latest first.
fn ancestors(newest: &ImageDir) -> Result<Vec<ImageDir>> {
    let look = |dir: &ImageDir| fstat(dir.fd()).doing(|| dir.path());
    let first = look(newest)?;
    let mut seen = BTreeSet::from([(first.st_dev, first.st_ino)]);
    let mut found: Vec<ImageDir> = Vec::new();
    while let Some(dir) = found.last().unwrap_or(newest).subdirectory(names::PARENT)? {
        let stat = look(&dir)?;
        if !seen.insert((stat.st_dev, stat.st_ino)) {
            let cause = format!("{}: the dump is its own ancestor", dir.path());
            return Err(Error::new(Kind::BadImages, cause));
        }
        if stat.st_uid != first.st_uid {
            let (older, newest) = (dir.path(), newest.path());
            let cause = format!(
                "{older} belongs to user {}, {newest} to user {}: dumps of others are not changed",
                stat.st_uid, first.st_uid
            );
            return Err(Error::new(Kind::Denied, cause));
        }
        found.push(dir);
    }
    Ok(found)
}

/// Deduplicates one process or shared object. Returns how many bytes were taken out.
fn one(name: &str, newest: &ImageDir, older: &[ImageDir]) -> Result<u64> {
    let Some(newest) = Entries::read(newest, name)? else { return Ok(0) };
    let mut layers = Vec::new();
    for dir in older {
        // Where one dump does not know the object, no older one is asked about it.
        let Some(entries) = Entries::read(dir, name)? else { break };
        layers.push(Layer { dir, entries, pages: None });
    }
    let mut freed = 0;
    for range in newest.own() {
        freed += take_out(&mut layers, range.start, range.end)?;
    }
    Ok(freed)
}

/// Takes a range out of the first of `layers`, and what that refers to out of the others.
fn take_out(layers: &mut [Layer<'_>], start: u64, end: u64) -> Result<u64> {
    let Some((layer, others)) = layers.split_first_mut() else { return Ok(0) };
    let parts: Vec<Part> = layer.entries.within(start, end).collect();
    let mut freed = 0;
    for part in parts {
        if let Some(offset) = part.offset {
            layer.punch(offset, part.end - part.start)?;
            freed += part.end - part.start;
        }
        freed += take_out(others, part.start, part.end)?;
    }
    Ok(freed)
}

/// What a dump says of one process or shared object.
struct Layer<'a> {
    dir: &'a ImageDir,
    entries: Entries,
    /// Opened when the first page is taken out.
    pages: Option<File>,
}

impl Layer<'_> {
    fn punch(&mut self, offset: u64, len: u64) -> Result<()> {
        let name = names::pages(self.entries.pages_id);
        let file = match &mut self.pages {
            Some(file) => file,
            none => {
                note_holes(self.dir, &name)?;
                none.insert(self.dir.open_to_change(&name)?)
            }
        };
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let number = |value: u64| {
            i64::try_from(value).map_err(|_| Error::image(&name, format!("has no byte {value}")))
        };
        fallocate(&*file, hole, number(offset)?, number(len)?)
            .doing(|| format!("make a hole in {}/{name}", self.dir.path()))
    }
}

fn note_holes(dir: &ImageDir, pages: &str) -> Result<()> {
    match Manifest::load(dir)? {
        Some(mut manifest) => {
            manifest.note_holes(pages);
            dir.replace(MANIFEST, manifest.to_text().as_bytes())
        }
        None => Ok(()),
    }
}

/// A pagemap, of whose numbers it is known that their sums do not overflow.
struct Entries {
    pages_id: u32,
    parts: Vec<Part>,
}

/// A range of addresses.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    end: u64,
    /// Where its pages stand in the dump's own file, if they do.
    offset: Option<u64>,
}

impl Entries {
    fn read(dir: &ImageDir, name: &str) -> Result<Option<Self>> {
        let Some(bytes) = dir.try_read(name)? else { return Ok(None) };
        let pagemap = decode_pagemap(name, &bytes)?;
        let mut offset = 0;
        let part = |entry: &PagemapEntry| Self::part(name, entry, &mut offset);
        let parts = pagemap.entries.iter().map(part).collect::<Result<_>>()?;
        Ok(Some(Self { pages_id: pagemap.pages_id, parts }))
    }

    fn part(name: &str, entry: &PagemapEntry, offset: &mut u64) -> Result<Part> {
        let start = entry.vaddr;
        let len = runs::page_count(entry).checked_mul(PAGE_SIZE);
        let end = len.and_then(|len| start.checked_add(len));
        let (Some(len), Some(end)) = (len, end) else {
            return Err(Error::image(name, format!("an entry at {start:#x} has no end")));
        };
        if !runs::is_present(entry) {
            return Ok(Part { start, end, offset: None });
        }
        let own = *offset;
        *offset = offset
            .checked_add(len)
            .ok_or_else(|| Error::image(name, "has more pages than a file can hold"))?;
        Ok(Part { start, end, offset: Some(own) })
    }

    /// Ranges whose pages stand in the dump's own file.
    fn own(&self) -> impl Iterator<Item = Part> + '_ {
        self.parts.iter().filter(|part| part.offset.is_some()).copied()
    }

    /// What lies in a range.
    fn within(&self, start: u64, end: u64) -> impl Iterator<Item = Part> + '_ {
        self.parts.iter().filter_map(move |part| {
            let (from, to) = (part.start.max(start), part.end.min(end));
            let offset = part.offset.map(|offset| offset + (from.max(part.start) - part.start));
            (from < to).then_some(Part { start: from, end: to, offset })
        })
    }
}

#[cfg(test)]
mod tests;
