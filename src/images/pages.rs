//! Files of raw pages, to be read.
//!
//! What was written of them stands in the manifest. Few pages are compared with that before a
//! restore begins; to read many of them twice would take half as long as the restore. They are
//! compared while they are copied, and the restore fails before anything of it has run.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::checksum::{Piece, Pieces};
use super::dir::ImageDir;
use super::manifest::{BUFFER, altered};
use super::names;
use crate::error::{Context, Result};

/// The pages files of a dump.
#[derive(Debug)]
pub struct PageFiles {
    dir: ImageDir,
    /// Those that are compared while they are read.
    checks: BTreeMap<String, Arc<Check>>,
}

/// What a file must be.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// CRC-32.
    pub crc: u32,
}

#[derive(Debug)]
struct Check {
    written: Written,
    read: Mutex<Pieces>,
}

/// One of them.
#[derive(Debug)]
pub struct PageFile {
    file: File,
    name: String,
    check: Option<Arc<Check>>,
}

impl PageFiles {
    /// Those of `dir`; the `unchecked` ones, by name, are compared with what was written while they
    /// are read.
    pub fn new(dir: &ImageDir, unchecked: BTreeMap<String, Written>) -> Self {
        let check = |written| Arc::new(Check { written, read: Mutex::default() });
        let checks = unchecked.into_iter().map(|(name, written)| (name, check(written)));
        Self { dir: dir.clone(), checks: checks.collect() }
    }

    /// Opens one.
    pub fn open(&self, pages_id: u32) -> Result<PageFile> {
        let name = names::pages(pages_id);
        let file = self.dir.open(&name)?;
        let check = self.checks.get(&name).map(Arc::clone);
        Ok(PageFile { file, name, check })
    }

    /// Compares what was read, and reads what nobody has read. What is read later is not compared.
    pub fn finish(&self) -> Result<()> {
        self.checks.iter().try_for_each(|(name, check)| {
            self.read_rest(name, check)?;
            let Written { size, crc } = check.written;
            if check.read.lock().whole() == Some((size, crc)) { Ok(()) } else { Err(altered(name)) }
        })
    }

    fn read_rest(&self, name: &str, check: &Check) -> Result<()> {
        let gaps = check.read.lock().gaps(check.written.size);
        if gaps.is_empty() {
            return Ok(());
        }
        let file = self.dir.open(name)?;
        let mut buffer = vec![0; BUFFER];
        for gap in gaps {
            for at in gap.clone().step_by(BUFFER) {
                let len = usize::try_from(gap.end - at).map_or(BUFFER, |left| left.min(BUFFER));
                let bytes = &mut buffer[..len];
                file.read_exact_at(bytes, at).doing(|| format!("read {name}"))?;
                check.read.lock().add(Piece::new(at, bytes));
            }
        }
        Ok(())
    }
}

impl PageFile {
    /// Fills `bytes` from `offset` on; safe from several threads.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).doing(|| format!("read {}", self.name))?;
        if let Some(check) = &self.check {
            let piece = Piece::new(offset, bytes);
            check.read.lock().add(piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 3 * BUFFER + 100;

    fn with_pages(name: &str, look: impl Fn(&PageFiles, &File)) {
        let path = format!("/dev/shm/criu-page-files-{name}-{}", std::process::id());
        std::fs::create_dir_all(&path).unwrap();
        let file = File::create_new(format!("{path}/pages-1.img")).unwrap();
        let bytes: Vec<u8> = (0..LEN).map(|at| (at / 64) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let written = Written { size: LEN as u64, crc: crc32fast::hash(&bytes) };
        let dir = ImageDir::new(File::open(&path).unwrap().into());
        let unchecked = [("pages-1.img".to_owned(), written)].into_iter().collect();
        look(&PageFiles::new(&dir, unchecked), &file);
        std::fs::remove_dir_all(&path).unwrap();
    }

    fn read(pages: &PageFiles, at: usize, len: usize) {
        pages.open(1).unwrap().read_exact_at(&mut vec![0; len], at as u64).unwrap();
    }

    #[test]
    fn what_was_read_and_what_was_not_is_compared() {
        with_pages("whole", |pages, _| {
            read(pages, BUFFER, 10);
            read(pages, BUFFER + 5, BUFFER);
            pages.finish().unwrap();
        });
        for at in [0, BUFFER + 7, LEN - 1] {
            with_pages("altered", |pages, file| {
                file.write_all_at(&[0x55], at as u64).unwrap();
                read(pages, BUFFER, 10);
                let error = pages.finish().unwrap_err().to_string();
                assert!(error.contains("pages-1.img: was altered"), "{error}");
            });
        }
    }

    #[test]
    fn what_was_read_is_what_is_compared() {
        with_pages("between", |pages, file| {
            file.write_all_at(&[0x55], 9).unwrap();
            read(pages, 0, 10);
            file.write_all_at(&[0], 9).unwrap();
            assert!(pages.finish().is_err());
        });
    }
}
