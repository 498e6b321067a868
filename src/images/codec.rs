//! The framing of an image file: two magic words, then `u32 length, message[, payload]` each. The
//! inventory alone has one magic word, its kind's: it is what tells the format of all others.

use std::fmt;
use std::os::unix::fs::FileExt;

use prost::Message;

use super::dir::Stream;
use super::manifest::BUFFER;
use super::payload::Payload;
use super::sections::SECTIONS;
use crate::error::{Context, Error, Result};

/// First word of every dump image of format 1.1.
pub const COMMON_MAGIC: u32 = 0x5456_4319;
/// First word of service files (stats, irmap cache).
pub const SERVICE_MAGIC: u32 = 0x5510_5940;

/// The longest message that is decoded, in bytes: a million VMAs. Decoded, a message may be many times
/// as large.
const MAX_ENTRY: u64 = 64 << 20;

/// How much of a stream is read at once where messages stand.
const WINDOW: u64 = 4 << 10;

/// Takes pieces of a file, one behind the other.
pub(super) type Taker<'f> = dyn FnMut(&[u8]) -> Result<()> + 'f;

/// Builds one image file: in memory, or on its way to where it is stored.
pub struct Encoder<'w> {
    bytes: Vec<u8>,
    /// Takes what comes first of the file, when there is much of it.
    out: Option<&'w mut Taker<'w>>,
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Encoder<'static> {
    /// A dump image whose kind has this magic word.
    pub fn new(magic: u32) -> Self {
        Self { bytes: magic_words(magic), out: None }
    }

    /// A service file.
    pub fn service(magic: u32) -> Self {
        let words = [SERVICE_MAGIC.to_le_bytes(), magic.to_le_bytes()];
        Self { bytes: words.concat(), out: None }
    }

    /// The file's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'w> Encoder<'w> {
    /// The same as [`new`](Encoder::new), given to `out` in pieces; the last is [flushed](Self::flush).
    pub(super) fn to(out: &'w mut Taker<'w>, magic: u32) -> Self {
        Self { bytes: magic_words(magic), out: Some(out) }
    }

    /// Appends one entry.
    pub fn entry(&mut self, message: &impl Message) -> &mut Self {
        let len = u32::try_from(message.encoded_len()).expect("messages stay far below 4 GiB");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        message.encode(&mut self.bytes).expect("a Vec grows");
        self
    }

    /// Appends any number of entries.
    pub fn entries<'m, M: Message + 'm>(&mut self, messages: impl IntoIterator<Item = &'m M>) {
        for message in messages {
            self.entry(message);
        }
    }

    /// Appends the raw payload of the entry before it.
    pub fn payload(&mut self, payload: &Payload) -> Result<()> {
        payload.pieces(|piece| {
            self.bytes.extend_from_slice(piece);
            if self.bytes.len() < BUFFER { Ok(()) } else { self.flush() }
        })
    }

    /// Gives away what there is, if there is somebody who takes it.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

fn magic_words(magic: u32) -> Vec<u8> {
    if magic == SECTIONS.inventory.magic {
        return magic.to_le_bytes().to_vec();
    }
    [COMMON_MAGIC.to_le_bytes(), magic.to_le_bytes()].concat()
}

/// Reads one image file; `name` is for messages.
#[derive(Debug)]
pub struct Decoder<'a> {
    name: &'a str,
    input: Input<'a>,
    at: u64,
    len: u64,
}

#[derive(Debug)]
enum Input<'a> {
    Memory(&'a [u8]),
    Stream {
        stream: &'a Stream,
        /// The bytes from `start` on.
        window: Vec<u8>,
        start: u64,
    },
}

impl<'a> Decoder<'a> {
    /// A file that is wholly in memory. Checks the magic words.
    pub fn new(name: &'a str, bytes: &'a [u8], magic: u32) -> Result<Self> {
        Self { name, input: Input::Memory(bytes), at: 0, len: bytes.len() as u64 }.begin(magic)
    }

    /// A file of which nothing but messages is brought into memory. Checks the magic words.
    pub(super) fn stream(name: &'a str, stream: &'a Stream, magic: u32) -> Result<Self> {
        let input = Input::Stream { stream, window: Vec::new(), start: 0 };
        Self { name, input, at: 0, len: stream.len }.begin(magic)
    }

    fn begin(mut self, magic: u32) -> Result<Self> {
        let name = self.name;
        if magic != SECTIONS.inventory.magic {
            let common = self.word("the magic")?;
            if common != COMMON_MAGIC && common != SERVICE_MAGIC {
                let cause = format!("is no image file (it begins with {common:#010x})");
                return Err(Error::image(name, cause));
            }
        }
        let kind = self.word("the magic")?;
        if kind != magic {
            let cause = format!("is an image of another kind ({kind:#010x}, not {magic:#010x})");
            return Err(Error::image(name, cause));
        }
        Ok(self)
    }

    /// The next entry, or none at the end of the file.
    pub fn entry<M: Message + Default>(&mut self) -> Result<Option<M>> {
        if self.left() == 0 {
            return Ok(None);
        }
        let (name, at) = (self.name, self.at);
        let len = u64::from(self.word("an entry's length")?);
        if len > MAX_ENTRY {
            let cause = format!("entry at byte {at}: {len} bytes are too many for a message");
            return Err(Error::image(name, cause));
        }
        let bytes = self.take(len, "an entry")?;
        let message = M::decode(bytes)
            .map_err(|error| Error::image(name, format!("entry at byte {at}: {error}")))?;
        Ok(Some(message))
    }

    /// The raw payload of the entry before it.
    pub fn payload(&mut self, len: u64) -> Result<Payload> {
        if let Input::Stream { stream, .. } = &self.input {
            let source = &stream.source;
            let offset = self.skip(len, "a payload")?;
            return Ok(Payload::stretch(source, offset, len));
        }
        Ok(self.take(len, "a payload")?.to_vec().into())
    }

    /// How many bytes have not been read yet.
    pub fn left(&self) -> u64 {
        self.len - self.at
    }

    fn word(&mut self, what: &str) -> Result<u32> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    /// Goes on by `len` bytes. Returns where they begin.
    fn skip(&mut self, len: u64, what: &str) -> Result<u64> {
        let at = self.at;
        if len > self.left() {
            let cause = format!(
                "is cut short: {what} of {len} bytes at byte {at} ends behind the file's {} bytes",
                self.len
            );
            return Err(Error::image(self.name, cause));
        }
        self.at += len;
        Ok(at)
    }

    fn take(&mut self, len: u64, what: &str) -> Result<&[u8]> {
        let at = self.skip(len, what)?;
        let (bytes, start) = match &mut self.input {
            Input::Memory(bytes) => (&**bytes, 0),
            Input::Stream { stream, window, start } => {
                if at < *start || at + len > *start + window.len() as u64 {
                    // What is left of the file is at least as much as was asked for.
                    let wanted = len.max(WINDOW.min(self.len - at));
                    window.resize(usize::try_from(wanted).expect("a window"), 0);
                    stream
                        .file
                        .read_exact_at(window, at)
                        .doing(|| format!("read {}", self.name))?;
                    *start = at;
                }
                (&window[..], *start)
            }
        };
        let first = usize::try_from(at - start).expect("within what is in memory");
        Ok(&bytes[first..first + usize::try_from(len).expect("within what is in memory")])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::images::dir::ImageDir;
    use crate::images::payload::Source;
    use crate::images::proto::{InventoryEntry, PipeDataEntry, PstreeEntry};

    const MAGIC: u32 = 0x5645_3709;

    fn sample() -> Vec<u8> {
        let mut file = Encoder::new(MAGIC);
        file.entry(&PipeDataEntry { pipe_id: 7, bytes: 3, size: Some(4096) });
        file.payload(&b"abc".to_vec().into()).unwrap();
        file.finish()
    }

    #[test]
    fn round_trip_with_payload() {
        let bytes = sample();
        let mut decoder = Decoder::new("pipes-data.img", &bytes, MAGIC).unwrap();
        let entry: PipeDataEntry = decoder.entry().unwrap().unwrap();
        assert_eq!((entry.pipe_id, entry.bytes), (7, 3));
        assert_eq!(decoder.payload(3).unwrap().bytes(), b"abc");
        assert!(decoder.entry::<PipeDataEntry>().unwrap().is_none());
    }

    #[test]
    fn every_truncation_is_an_error_or_an_earlier_end() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            let Ok(mut decoder) = Decoder::new("x.img", &bytes[..cut], MAGIC) else { continue };
            match decoder.entry::<PipeDataEntry>() {
                Ok(Some(_)) => assert!(decoder.payload(3).is_err(), "cut at {cut}"),
                Ok(None) => assert_eq!(cut, 8),
                Err(error) => assert!(error.to_string().contains("cut short"), "{error}"),
            }
        }
    }

    /// The first bytes of a dump made by CRIU 4.2.
    #[test]
    fn an_inventory_has_one_magic_word() {
        let kind = SECTIONS.inventory.magic;
        let bytes = [0x16, 0x31, 0x31, 0x58, 4, 0, 0, 0, 8, 2, 16, 1];
        let mut decoder = Decoder::new("inventory.img", &bytes, kind).unwrap();
        let entry: InventoryEntry = decoder.entry().unwrap().unwrap();
        assert_eq!((entry.img_version, entry.fdinfo_per_id), (2, Some(true)));
        assert_eq!(Encoder::new(kind).entry(&entry).bytes, bytes);
        assert!(Decoder::new("inventory.img", &sample(), kind).is_err());
    }

    /// Payloads larger than the window, between messages of which some cross its end.
    #[test]
    fn a_stream_is_read_as_what_is_in_memory() {
        let mut file = Encoder::new(MAGIC);
        for len in (0..200).chain([5000, 70_000, 1]) {
            file.entry(&PipeDataEntry { pipe_id: 7, bytes: len, size: Some(u32::MAX) });
            file.payload(&vec![len as u8; len as usize].into()).unwrap();
        }
        let bytes = file.finish();
        let (name, dir) = ("x.img", std::env::temp_dir());
        let dir = ImageDir::new(std::fs::File::open(dir).unwrap().into());
        let file = dir.create_nameless().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let open = file.try_clone().unwrap();
        let source = Source::open(open, name.to_owned());
        let read = |mut decoder: Decoder<'_>| {
            let mut all = Vec::new();
            while let Some(entry) = decoder.entry::<PipeDataEntry>()? {
                let payload = decoder.payload(entry.bytes.into())?;
                all.push((entry, payload));
            }
            Result::Ok(all)
        };
        for len in [bytes.len(), bytes.len() - 1, bytes.len() - 20, 9000, 8, 3] {
            let stream = Stream {
                file: file.try_clone().unwrap(),
                len: len as u64,
                source: Arc::clone(&source),
            };
            let streamed = Decoder::stream(name, &stream, MAGIC).and_then(read);
            let in_memory = Decoder::new(name, &bytes[..len], MAGIC).and_then(read);
            match (streamed, in_memory) {
                (Ok(streamed), Ok(in_memory)) => assert_eq!(streamed, in_memory),
                (streamed, in_memory) => assert_eq!(
                    streamed.unwrap_err().to_string(),
                    in_memory.unwrap_err().to_string()
                ),
            }
        }
    }

    #[test]
    fn another_kind_is_refused() {
        let text = Decoder::new("x.img", &sample(), 1).unwrap_err().to_string();
        assert!(text.contains("another kind"), "{text}");
        assert!(Decoder::new("x.img", b"GIF89a__", MAGIC).is_err());
        let mut decoder = Decoder::new(
            "x.img",
            &[0x19, 0x43, 0x56, 0x54, 9, 0x37, 0x45, 0x56, 1, 0, 0, 0, 255],
            MAGIC,
        )
        .unwrap();
        assert!(decoder.entry::<PstreeEntry>().is_err());
    }
    #[test]
    fn a_message_has_a_length_that_a_message_can_have() {
        let mut bytes = Encoder::new(MAGIC).finish();
        bytes.extend((MAX_ENTRY as u32 + 1).to_le_bytes());
        bytes.resize(bytes.len() + MAX_ENTRY as usize + 1, 0);
        let mut decoder = Decoder::new("x.img", &bytes, MAGIC).unwrap();
        let text = decoder.entry::<PstreeEntry>().unwrap_err().to_string();
        assert!(text.contains("too many for a message"), "{text}");
    }
}
