//! `manifest`: sizes and checksums of a dump's files, so that a torn or altered directory is
//! noticed before anything is started. CRIU neither writes nor reads it; a directory without one
//! is a dump of CRIU's and is checked by its contents alone.
//!
//! A line a file: name, size in bytes, CRC-32 in hexadecimal or `-` for raw pages, whose checksum
//! would cost a second pass over the memory.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use super::dir::{ImageDir, MANIFEST};
use crate::error::{Context, Error, Kind, Result};

const HEADER: &str = "libcriu-manifest 1";

/// What each file of a dump must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, Expected>,
}

#[derive(Debug, PartialEq, Eq)]
struct Expected {
    size: u64,
    crc: Option<u32>,
}

impl Manifest {
    /// Notes a file of messages.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        let expected = Expected { size: bytes.len() as u64, crc: Some(crc32fast::hash(bytes)) };
        self.files.insert(name.to_owned(), expected);
    }

    /// Notes a file of raw pages.
    pub fn add_size(&mut self, name: &str, size: u64) {
        self.files.insert(name.to_owned(), Expected { size, crc: None });
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (name, Expected { size, crc }) in &self.files {
            let crc = crc.map_or_else(|| "-".to_owned(), |crc| format!("{crc:08x}"));
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

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) || !text.ends_with('\n') {
            return Err(Error::image(MANIFEST, "is not a manifest of this version, or cut short"));
        }
        let files = lines
            .map(|line| {
                parse_line(line).ok_or_else(|| Error::image(MANIFEST, format!("bad line {line:?}")))
            })
            .collect::<Result<_>>()?;
        Ok(Self { files })
    }

    /// Compares the directory with what was written. Returns the files of messages, which had to
    /// be read for it.
    pub fn check(&self, dir: &ImageDir) -> Result<HashMap<String, Vec<u8>>> {
        let mut contents = HashMap::with_capacity(self.files.len());
        for (name, expected) in &self.files {
            let file = dir.open(name)?;
            let size = file.metadata().doing(|| format!("stat {name}"))?.len();
            if size != expected.size {
                let cause = format!("has {size} bytes, the dump wrote {}", expected.size);
                return Err(damaged(name, cause));
            }
            let Some(crc) = expected.crc else { continue };
            let bytes = dir.read_opened(name, file, size)?;
            if crc32fast::hash(&bytes) != crc {
                return Err(damaged(name, "was altered since the dump (checksum)".into()));
            }
            contents.insert(name.clone(), bytes);
        }
        Ok(contents)
    }
}

fn damaged(name: &str, cause: String) -> Error {
    Error::new(Kind::BadImages, format!("{name}: {cause}"))
        .remedy(format!("dump again, or remove {MANIFEST} if the change is meant"))
}

fn parse_line(line: &str) -> Option<(String, Expected)> {
    let mut words = line.rsplitn(3, ' ');
    let crc = match words.next()? {
        "-" => None,
        hex => Some(u32::from_str_radix(hex, 16).ok()?),
    };
    let size = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), Expected { size, crc }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let mut manifest = Manifest::default();
        manifest.add("core-1.img", b"abc");
        manifest.add_size("pages-1.img", 8192);
        assert_eq!(Manifest::parse(&manifest.to_text()).unwrap(), manifest);
    }

    #[test]
    fn a_cut_manifest_is_noticed() {
        let text = format!("{HEADER}\ncore-1.img 3 352441c2\n");
        assert!(Manifest::parse(&text).is_ok());
        assert!(Manifest::parse(text.trim_end()).is_err());
        assert!(Manifest::parse(&format!("{HEADER}\ncore-1.img 3\n")).is_err());
    }
}
