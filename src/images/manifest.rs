//! `manifest`: sizes and checksums of a dump's files, so that a torn or altered directory is
//! noticed before anything is started. CRIU neither writes nor reads it; a directory without one
//! is a dump of CRIU's and is checked by its contents alone.
//!
//! A line a file: name, size in bytes, CRC-32 in hexadecimal (`-` where there is none, `holes` where
//! pages were taken out because a newer dump of the same tree has them). Checksums of
//! pages are made while they are written and their bytes are at hand. They are read all once more
//! before a restore up to [`MAX_READ_TWICE`] bytes in all; of more, the sizes are compared before,
//! and the contents while they are copied ([`PageFiles`](super::pages::PageFiles)).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::io::Read;

use super::dir::{ImageDir, MANIFEST};
use super::pages::Written;
use super::sections::SECTIONS;
use crate::error::{Context, Error, Kind, Result};
use crate::helper::{Helper, Later};
use crate::version;

/// Reading 1 GiB for its checksum alone would take half as long as restoring it.
const MAX_READ_TWICE: u64 = 64 << 20;
/// Pages of so many bytes are read by a second thread, which the restore will need anyway.
const WORTH_A_THREAD: u64 = 512 << 10;
/// From this many files of messages on it reads half of them.
const MANY: usize = 64;
/// More would not stay in the processor's cache, and fresh memory costs a page fault for each page.
pub(super) const BUFFER: usize = 64 << 10;

/// How names of files of raw pages begin.
const PAGES: &str = "pages-";
const HOLES: &str = "holes";
const HEADER: &str = "libcriu-manifest 1";
/// How the line of the writer begins.
const WRITER: &str = "# written by ";

/// What each file of a dump must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, Expected>,
    /// What wrote it, where it was read from a file that says so.
    writer: Option<String>,
}

/// What the directory has.
pub struct Checked {
    /// Files by name, which had to be read for it.
    pub messages: HashMap<String, Vec<u8>>,
    /// What is found of the pages.
    pub pages: Later<()>,
    /// Those whose contents are still to be compared.
    pub unchecked: BTreeMap<String, Written>,
}

impl Checked {
    /// Of a directory without a manifest.
    pub fn nothing() -> Self {
        let (messages, unchecked) = (HashMap::new(), BTreeMap::new());
        Self { messages, pages: Later::Now(Ok(())), unchecked }
    }
}

/// Its name, and what it must be.
type File = (String, Expected);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    size: u64,
    crc: Option<u32>,
    /// Pages were taken out.
    holes: bool,
}

impl Manifest {
    /// Notes a file that is in memory.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        let expected =
            Expected { size: bytes.len() as u64, crc: Some(crc32fast::hash(bytes)), holes: false };
        self.files.insert(name.to_owned(), expected);
    }

    /// Notes a file that was written in pieces.
    pub fn add_written(&mut self, name: &str, size: u64, crc: Option<u32>) {
        self.files.insert(name.to_owned(), Expected { size, crc, holes: false });
    }

    /// Notes that pages are taken out of a file: the dump is whole only together with a newer one.
    pub fn note_holes(&mut self, name: &str) {
        if let Some(expected) = self.files.get_mut(name) {
            (expected.crc, expected.holes) = (None, true);
        }
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n{WRITER}libcriu {}\n", version::OWN);
        for (name, Expected { size, crc, holes }) in &self.files {
            let crc = match crc {
                Some(crc) => format!("{crc:08x}"),
                None if *holes => HOLES.to_owned(),
                None => "-".to_owned(),
            };
            writeln!(text, "{name} {size} {crc}").expect("a String grows");
        }
        text
    }

    /// The directory's manifest; none in a dump of CRIU's.
    pub fn load(dir: &ImageDir) -> Result<Option<Self>> {
        let Some(bytes) = dir.try_read(MANIFEST)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| Error::image(MANIFEST, "is no text"))?;
        Self::parse(&text).map(Some)
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) || !text.ends_with('\n') {
            return Err(Error::image(MANIFEST, "is not a manifest of this version, or cut short"));
        }
        let mut lines = lines.peekable();
        let writer = lines.next_if(|line| line.starts_with(WRITER));
        let writer = writer.and_then(|line| Some(line.strip_prefix(WRITER)?.to_owned()));
        let files = lines
            .map(|line| {
                parse_line(line).ok_or_else(|| Error::image(MANIFEST, format!("bad line {line:?}")))
            })
            .collect::<Result<_>>()?;
        Ok(Self { files, writer })
    }

    /// Whether a file belongs to the dump.
    pub fn names(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// The program that wrote the dump, with its version.
    pub fn writer(&self) -> &str {
        self.writer.as_deref().unwrap_or("libcriu")
    }

    /// Compares the whole directory with what was written.
    pub fn check_all(&self, dir: &ImageDir) -> Result<()> {
        let files: Vec<File> = self.files.clone().into_iter().collect();
        Checker { dir, read_twice: true, buffer: Vec::new() }.all(&files).map(drop)
    }

    /// Compares the directory with what was written, but for the contents of very many pages.
    pub fn check<'scope>(
        &self,
        dir: &'scope ImageDir,
        helper: &Helper<'scope, '_>,
    ) -> Result<Checked> {
        let (pages, messages): (Vec<File>, Vec<File>) =
            self.files.clone().into_iter().partition(|(name, _)| name.starts_with(PAGES));
        let bytes = pages.iter().fold(0u64, |sum, (_, pages)| sum.saturating_add(pages.size));
        let read_twice = bytes <= MAX_READ_TWICE;
        let check =
            move |files: &[File]| Checker { dir, read_twice, buffer: Vec::new() }.all(files);
        let unchecked = if read_twice { BTreeMap::new() } else { contents_of(&pages) };
        let many = if messages.len() < MANY { messages.len() } else { messages.len() / 2 };
        let (here, there) = messages.split_at(many);
        let there = there.to_vec();
        let there = (!there.is_empty()).then(|| helper.give(move || check(&there)));
        let pages = match read_twice && bytes >= WORTH_A_THREAD {
            true => helper.give(move || check(&pages).map(drop)),
            false => Later::Now(check(&pages).map(drop)),
        };
        let mut contents = check(here)?;
        contents.extend(there.map_or(Ok(HashMap::new()), Later::get)?);
        Ok(Checked { messages: contents, pages, unchecked })
    }
}

fn contents_of(pages: &[File]) -> BTreeMap<String, Written> {
    let written = |expected: &Expected| Some(Written { size: expected.size, crc: expected.crc? });
    pages.iter().filter_map(|(name, expected)| Some((name.clone(), written(expected)?))).collect()
}

/// Compares files with what was written, one after the other.
struct Checker<'a> {
    dir: &'a ImageDir,
    /// Pages, too.
    read_twice: bool,
    buffer: Vec<u8>,
}

impl Checker<'_> {
    /// Returns the contents of those that are files of messages and not larger than memory.
    fn all(mut self, files: &[File]) -> Result<HashMap<String, Vec<u8>>> {
        let check = |(name, expected): &File| {
            Ok(self.check(name, expected)?.map(|bytes| (name.clone(), bytes)))
        };
        files.iter().map(check).filter_map(Result::transpose).collect()
    }

    /// Returns the contents of a file of messages, unless it may be larger than memory.
    fn check(&mut self, name: &str, expected: &Expected) -> Result<Option<Vec<u8>>> {
        let (file, size) = self.dir.open_sized(name)?;
        if size != expected.size {
            let cause = format!("has {size} bytes, the dump wrote {}", expected.size);
            return Err(damaged(name, cause));
        }
        if expected.holes {
            let cause = format!("{name}: pages were taken out of it by dedup");
            return Err(
                Error::new(Kind::BadImages, cause).remedy("restore the newer dump that has them")
            );
        }
        let Some(crc) = expected.crc else { return Ok(None) };
        let are_pages = name.starts_with(PAGES);
        let (found, contents) = if are_pages && !self.read_twice {
            (crc, None)
        } else if are_pages || SECTIONS.is_streamed(name) {
            (self.checksum(file).doing(|| format!("read {name}"))?, None)
        } else {
            let bytes = self.dir.read_opened(name, file, size)?;
            (crc32fast::hash(&bytes), Some(bytes))
        };
        if found != crc {
            return Err(altered(name));
        }
        Ok(contents)
    }

    fn checksum(&mut self, mut file: fs::File) -> std::io::Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        self.buffer.resize(BUFFER, 0);
        loop {
            match file.read(&mut self.buffer)? {
                0 => return Ok(hasher.finalize()),
                len => hasher.update(&self.buffer[..len]),
            }
        }
    }
}

pub(super) fn altered(name: &str) -> Error {
    damaged(name, "was altered since the dump (checksum)".into())
}

fn damaged(name: &str, cause: String) -> Error {
    Error::new(Kind::BadImages, format!("{name}: {cause}"))
        .remedy(format!("dump again, or remove {MANIFEST} if the change is meant"))
}

fn parse_line(line: &str) -> Option<(String, Expected)> {
    let mut words = line.rsplitn(3, ' ');
    let (crc, holes) = match words.next()? {
        "-" => (None, false),
        HOLES => (None, true),
        hex => (Some(u32::from_str_radix(hex, 16).ok()?), false),
    };
    let size = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), Expected { size, crc, holes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let mut manifest = Manifest::default();
        manifest.add("core-1.img", b"abc");
        manifest.add_written("pages-1.img", 8192, None);
        manifest.add_written("pages-2.img", 4096, Some(7));
        manifest.note_holes("pages-2.img");
        let read = Manifest::parse(&manifest.to_text()).unwrap();
        assert_eq!(read.files, manifest.files);
        assert_eq!(read.writer(), format!("libcriu {}", version::OWN));
    }

    #[test]
    fn a_cut_manifest_is_noticed() {
        let text = format!("{HEADER}\ncore-1.img 3 352441c2\n");
        assert!(Manifest::parse(&text).is_ok());
        assert!(Manifest::parse(text.trim_end()).is_err());
        assert!(Manifest::parse(&format!("{HEADER}\ncore-1.img 3\n")).is_err());
    }
}
