//! The framing of an image file: two magic words, then `u32 length, message[, payload]` each. The
//! inventory alone has one magic word, its kind's: it is what tells the format of all others.

use prost::Message;

use super::sections::SECTIONS;
use crate::error::{Error, Result};

/// First word of every dump image of format 1.1.
pub const COMMON_MAGIC: u32 = 0x5456_4319;
/// First word of service files (stats, irmap cache).
pub const SERVICE_MAGIC: u32 = 0x5510_5940;

/// The longest message that is decoded, in bytes: a million VMAs. Decoded, a message may be many times
/// as large.
const MAX_ENTRY: usize = 64 << 20;

/// Builds one image file in memory.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// A dump image whose kind has this magic word.
    pub fn new(magic: u32) -> Self {
        if magic == SECTIONS.inventory.magic {
            return Self { bytes: magic.to_le_bytes().to_vec() };
        }
        Self::with_common(COMMON_MAGIC, magic)
    }

    /// A service file.
    pub fn service(magic: u32) -> Self {
        Self::with_common(SERVICE_MAGIC, magic)
    }

    fn with_common(common: u32, magic: u32) -> Self {
        let mut bytes = common.to_le_bytes().to_vec();
        bytes.extend_from_slice(&magic.to_le_bytes());
        Self { bytes }
    }

    /// Appends one entry.
    pub fn entry(&mut self, message: &impl Message) -> &mut Self {
        let len = u32::try_from(message.encoded_len()).expect("messages stay far below 4 GiB");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        message.encode(&mut self.bytes).expect("a Vec grows");
        self
    }

    /// Appends the raw payload of the entry before it.
    pub fn payload(&mut self, payload: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(payload);
        self
    }

    /// The file's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads one image file that is wholly in memory; `name` is for messages.
#[derive(Debug)]
pub struct Decoder<'a> {
    name: &'a str,
    rest: &'a [u8],
    len: usize,
}

impl<'a> Decoder<'a> {
    /// Checks the magic words.
    pub fn new(name: &'a str, bytes: &'a [u8], magic: u32) -> Result<Self> {
        let mut decoder = Self { name, rest: bytes, len: bytes.len() };
        if magic == SECTIONS.inventory.magic {
            return decoder.check_kind(magic);
        }
        let common = decoder.word("the magic")?;
        if common != COMMON_MAGIC && common != SERVICE_MAGIC {
            let cause = format!("is no image file (it begins with {common:#010x})");
            return Err(Error::image(name, cause));
        }
        decoder.check_kind(magic)
    }

    fn check_kind(mut self, magic: u32) -> Result<Self> {
        let (name, kind) = (self.name, self.word("the magic")?);
        if kind != magic {
            let cause = format!("is an image of another kind ({kind:#010x}, not {magic:#010x})");
            return Err(Error::image(name, cause));
        }
        Ok(self)
    }

    /// The next entry, or none at the end of the file.
    pub fn entry<M: Message + Default>(&mut self) -> Result<Option<M>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.len - self.rest.len();
        let len = self.word("an entry's length")? as usize;
        if len > MAX_ENTRY {
            let cause = format!("entry at byte {at}: {len} bytes are too many for a message");
            return Err(Error::image(self.name, cause));
        }
        let bytes = self.take(len, "an entry")?;
        let message = M::decode(bytes)
            .map_err(|error| Error::image(self.name, format!("entry at byte {at}: {error}")))?;
        Ok(Some(message))
    }

    /// The raw payload of the entry before it.
    pub fn payload(&mut self, len: usize) -> Result<&'a [u8]> {
        self.take(len, "a payload")
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn word(&mut self, what: &str) -> Result<u32> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let at = self.len - self.rest.len();
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            let cause = format!(
                "is cut short: {what} of {len} bytes at byte {at} ends behind the file's {} bytes",
                self.len
            );
            return Err(Error::image(self.name, cause));
        };
        self.rest = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::proto::{InventoryEntry, PipeDataEntry, PstreeEntry};

    const MAGIC: u32 = 0x5645_3709;

    fn sample() -> Vec<u8> {
        let mut file = Encoder::new(MAGIC);
        file.entry(&PipeDataEntry { pipe_id: 7, bytes: 3, size: Some(4096) }).payload(b"abc");
        file.finish()
    }

    #[test]
    fn round_trip_with_payload() {
        let bytes = sample();
        let mut decoder = Decoder::new("pipes-data.img", &bytes, MAGIC).unwrap();
        let entry: PipeDataEntry = decoder.entry().unwrap().unwrap();
        assert_eq!((entry.pipe_id, entry.bytes), (7, 3));
        assert_eq!(decoder.payload(3).unwrap(), b"abc");
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
        bytes.resize(bytes.len() + MAX_ENTRY + 1, 0);
        let mut decoder = Decoder::new("x.img", &bytes, MAGIC).unwrap();
        let text = decoder.entry::<PstreeEntry>().unwrap_err().to_string();
        assert!(text.contains("too many for a message"), "{text}");
    }
}
