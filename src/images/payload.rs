//! Bytes behind a message, wherever they are until somebody wants them.
//!
//! What files without a name hold, pipes and queues may be more than the engine has memory for. So a
//! [`Payload`] knows its place, and is copied in pieces: a dump copies it from there into the image,
//! a restore from the image into what it makes. Who copies has to see the bytes for their checksum,
//! which is why no `copy_file_range` saves the way through a buffer.
//!
//! The place of a file's contents is, for a dump, the file itself, which nobody of the stopped tree
//! changes before they are written. That takes a descriptor for each such file. They could be
//! written at once instead; but where the directory holds an older dump its names are not free
//! before it is certain that nothing is refused. Or the descriptor could be fetched from the process
//! a second time; but what is merely mapped has none. The restore holds a descriptor of each file as
//! well, so a dump that would need too many could not be restored.
//!
//! What can be read only once, or is not to stay where it is, waits in a [`Spool`].

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::dir::ImageDir;
use super::manifest::BUFFER;
use crate::error::{Context, Result};
use crate::kernel::mapping;

/// Bytes that a [`Spool`] keeps in memory.
const MOST_IN_MEMORY: usize = 4 << 20;

/// Some bytes.
#[derive(Clone)]
pub struct Payload(Place);

#[derive(Clone)]
enum Place {
    Memory(Vec<u8>),
    Stretch { source: Arc<Source>, offset: u64, len: u64 },
}

/// A file that holds payloads.
#[derive(Debug)]
pub struct Source {
    /// For messages.
    name: String,
    file: Kept,
}

#[derive(Debug)]
enum Kept {
    Open(File),
    /// An open file of a dumpee, or rather a copy of its descriptor: nobody is to notice that it is
    /// read, and its position is not ours.
    Dumpees(File),
    /// An image, which is opened when it is wanted: a dump may have very many.
    Image(ImageDir),
}

impl Source {
    /// A file that stays open.
    pub fn open(file: File, name: String) -> Arc<Self> {
        Arc::new(Self { name, file: Kept::Open(file) })
    }

    /// A copy of a descriptor of a dumpee.
    pub fn of_dumpee(file: File, name: String) -> Arc<Self> {
        Arc::new(Self { name, file: Kept::Dumpees(file) })
    }

    /// An image.
    pub(super) fn image(dir: ImageDir, name: String) -> Arc<Self> {
        Arc::new(Self { name, file: Kept::Image(dir) })
    }

    /// Calls `work` with the open file.
    fn with<T>(&self, work: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        match &self.file {
            Kept::Open(file) | Kept::Dumpees(file) => work(file),
            Kept::Image(dir) => work(&dir.open(&self.name)?),
        }
    }

    /// Fills `bytes` from `at` on in its open file.
    fn read(&self, file: &File, bytes: &mut [u8], at: u64) -> Result<()> {
        let doing = || format!("read {}", self.name);
        match self.file {
            Kept::Dumpees(_) => mapping::read_unnoticed(file.as_fd(), bytes, at).doing(doing),
            _ => file.read_exact_at(bytes, at).doing(doing),
        }
    }
}

impl Payload {
    /// `len` bytes of a file.
    pub fn stretch(source: &Arc<Source>, offset: u64, len: u64) -> Self {
        Self(Place::Stretch { source: Arc::clone(source), offset, len })
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::Stretch { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `take` with all bytes, piece by piece; every piece but the last is a number of pages.
    pub fn pieces(&self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (source, start, len) = match &self.0 {
            Place::Memory(bytes) => return bytes.chunks(BUFFER).try_for_each(take),
            Place::Stretch { len: 0, .. } => return Ok(()),
            Place::Stretch { source, offset, len } => (source, *offset, *len),
        };
        source.with(|file| {
            let mut buffer = vec![0; usize::try_from(len).map_or(BUFFER, |len| len.min(BUFFER))];
            let mut done = 0;
            while done < len {
                let some = usize::try_from(len - done).map_or(BUFFER, |left| left.min(BUFFER));
                let at = start.saturating_add(done);
                source.read(file, &mut buffer[..some], at)?;
                take(&buffer[..some])?;
                done += some as u64;
            }
            Ok(())
        })
    }

    /// Whether these bytes are in it, from `at` on.
    fn holds(&self, at: u64, bytes: &[u8]) -> Result<bool> {
        let (source, start) = match &self.0 {
            Place::Memory(held) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                return Ok(held.get(at..).is_some_and(|held| held.starts_with(bytes)));
            }
            Place::Stretch { source, offset, .. } => (source, *offset),
        };
        let mut held = vec![0; bytes.len()];
        source.with(|file| source.read(file, &mut held, start + at))?;
        Ok(held == bytes)
    }

    #[cfg(test)]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.pieces(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        bytes
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Place::Memory(bytes))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Memory(bytes) => f.debug_tuple("Payload").field(bytes).finish(),
            Place::Stretch { source, offset, len } => {
                write!(f, "Payload({len} bytes at {offset} of {})", source.name)
            }
        }
    }
}

/// Bytes are compared, wherever they are; such as cannot be read are like none.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        let mut same = self.len() == other.len();
        let mut at = 0;
        let compared = self.pieces(|piece| {
            same = same && other.holds(at, piece)?;
            at += piece.len() as u64;
            Ok(())
        });
        same && compared.is_ok()
    }
}

/// Where payloads wait until they are written: a little in memory, all else in a file without a name
/// in the images directory, which is where they will need the space anyway.
#[derive(Debug)]
pub struct Spool {
    dir: ImageDir,
    in_memory: usize,
    file: Option<Arc<Source>>,
    /// Bytes in the file.
    end: u64,
}

impl Spool {
    /// One that may use the directory.
    pub fn new(dir: ImageDir) -> Self {
        Self { dir, in_memory: 0, file: None, end: 0 }
    }

    /// Keeps these bytes.
    pub fn keep(&mut self, bytes: &[u8]) -> Result<Payload> {
        let mut payload = Payload::from(Vec::new());
        self.append(&mut payload, bytes).map(|()| payload)
    }

    /// Keeps these bytes as well, behind those of `payload`, which is what was kept last.
    pub fn append(&mut self, payload: &mut Payload, bytes: &[u8]) -> Result<()> {
        match &mut payload.0 {
            Place::Memory(held) if self.in_memory + bytes.len() <= MOST_IN_MEMORY => {
                self.in_memory += bytes.len();
                held.extend_from_slice(bytes);
            }
            Place::Memory(held) => {
                let held = std::mem::take(held);
                self.in_memory -= held.len();
                let offset = self.end;
                self.write(&held)?;
                let source = self.write(bytes)?;
                *payload = Payload::stretch(&source, offset, self.end - offset);
            }
            Place::Stretch { len, .. } => {
                self.write(bytes)?;
                *len += bytes.len() as u64;
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Arc<Source>> {
        let source = match &self.file {
            Some(source) => Arc::clone(source),
            None => {
                let name = format!("what waits in {}", self.dir.path());
                Arc::clone(self.file.insert(Source::open(self.dir.create_nameless()?, name)))
            }
        };
        source.with(|file| {
            file.write_all_at(bytes, self.end).doing(|| format!("write {}", source.name))
        })?;
        self.end += bytes.len() as u64;
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> Spool {
        Spool::new(ImageDir::new(File::open(std::env::temp_dir()).unwrap().into()))
    }

    #[test]
    fn what_does_not_fit_into_memory_waits_in_a_file() {
        let mut spool = spool();
        let bytes: Vec<u8> = (0..MOST_IN_MEMORY / 2 + 1).map(|at| (at / 100) as u8).collect();
        let here = spool.keep(&bytes).unwrap();
        assert!(spool.file.is_none());
        let there = spool.keep(&bytes).unwrap();
        assert!(matches!((&here.0, &there.0), (Place::Memory(_), Place::Stretch { .. })));
        assert_eq!((here.bytes(), there.bytes()), (bytes.clone(), bytes.clone()));
        assert_eq!(here, there);
        let small = spool.keep(b"small").unwrap();
        assert!(matches!(small.0, Place::Memory(_)));
        assert_ne!(small, there);
    }

    #[test]
    fn what_grows_moves_into_the_file_as_a_whole() {
        let mut spool = spool();
        let mut payload = spool.keep(b"begin").unwrap();
        let piece = vec![7; 1 << 20];
        (0..6).for_each(|_| spool.append(&mut payload, &piece).unwrap());
        assert_eq!(payload.len(), 5 + (6 << 20));
        let mut all = b"begin".to_vec();
        all.resize(5 + (6 << 20), 7);
        assert!(payload.bytes() == all);
        assert_eq!(spool.in_memory, 0);
    }

    #[test]
    fn a_payload_that_cannot_be_read_equals_nothing() {
        let source = Source::open(File::open("/dev/null").unwrap(), "null".into());
        let payload = Payload::stretch(&source, 0, 3);
        assert_ne!(payload, Payload::from(b"abc".to_vec()));
        assert_ne!(Payload::from(b"abc".to_vec()), payload);
        assert_eq!(Payload::stretch(&source, 0, 0), Payload::from(Vec::new()));
    }
}
