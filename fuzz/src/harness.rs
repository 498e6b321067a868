//! Takes bytes from anybody, and must neither panic nor hang nor allocate beyond measure.
//!
//! The fuzz targets call these functions with made-up bytes, `tests/fuzz_corpus.rs` with those of
//! the kept corpus. What a message or an image asks for is not done.

// Each user compiles this module and uses a part of it.
#![allow(dead_code)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::LazyLock;

use criu::cli::show;
use criu::images::codec::Encoder;
use criu::images::dir::ImageDir;
use criu::images::manifest::Manifest;
use criu::images::proto::{CriuReq, CriuResp};
use criu::images::read::read_files;
use criu::images::sections::{Image, SECTIONS};
use criu::images::snapshot::Snapshot;
use criu::objects::{memory, validate};
use criu::options::getopt::Scan;
use criu::options::{Options, Places, Request, Verb, config, getopt, table};
use criu::rpc::setup::{Client, Session};
use prost::Message;

/// A datagram of the RPC, up to the request that the engine would get.
pub fn rpc(bytes: &[u8]) {
    // What the C library makes of the answers of a worker.
    let _ = CriuResp::decode(bytes);
    let Ok(message) = CriuReq::decode(bytes) else { return };
    let mut message = message.opts.unwrap_or_default();
    if let Ok(options) = Options::from_rpc(&message) {
        let again = Options::from_rpc(&options.to_rpc()).expect("what was said may be said again");
        assert_eq!(options, again, "an option is lost on its way");
    }
    // No files are read here.
    message.config_file = None;
    for verb in Verb::ALL {
        if let Ok(session) = Session::new(verb, &message, &Client::this_process()) {
            let _ = session.into_request();
        }
    }
}

/// A configuration file, and the same words as a command line.
pub fn config(bytes: &[u8]) {
    let mut options = Options::default();
    if config::read(bytes, &mut options).is_ok() {
        for verb in Verb::ALL {
            let _ = Request::new(verb, options.clone(), Places::default());
        }
    }
    let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    let Scan { .. } = getopt::scan(&words);
    let mut options = Options::default();
    if getopt::read(&words, &mut options).is_ok() {
        let _ = table::check(Verb::Dump, &options);
    }
}

/// Image files, read and validated.
pub fn images(bytes: &[u8]) {
    static PAGES: LazyLock<ImageDir> = LazyLock::new(pages);
    let Some(snapshot) = snapshot(bytes) else { return };
    // One after the other, whatever the one before has said.
    let mut refusals = criu::error::Refusals::default();
    let mut valid = validate::tree(&snapshot, &[], &mut refusals).is_ok();
    for pid in snapshot.tasks.keys() {
        valid &= validate::process(&snapshot, *pid, &mut refusals).is_ok();
    }
    if valid {
        let _ = memory::check_stored(&snapshot, &PAGES);
    }
}

/// Image files, read and shown.
pub fn show(bytes: &[u8]) {
    if let Some(snapshot) = snapshot(bytes) {
        let (text, _) = show::render(&snapshot);
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'));
    }
}

/// Reads the files of the input in the place of those of a small dump.
///
/// The input is a list of records: two bytes that say which kind of file, two bytes of length, the
/// upper two bits of which say what follows.
fn snapshot(bytes: &[u8]) -> Option<Snapshot> {
    static BASE: LazyLock<Files> =
        LazyLock::new(|| Files::unpack(include_bytes!("../base/dump.bin")));
    let files = Files::unpack(bytes);
    let manifest = KINDS.len() - 1;
    if let Some(text) = files.0.get(&manifest).and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        let _ = Manifest::parse(text);
    }
    let read = |name: &str| {
        let kind = kind_of(name);
        Ok(kind.and_then(|kind| files.0.get(&kind).or_else(|| BASE.0.get(&kind))).cloned())
    };
    read_files(&read, "made up".to_owned()).ok()
}

/// A directory with a file of a few pages.
fn pages() -> ImageDir {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = if package.ends_with("fuzz") { "base" } else { "fuzz/base" };
    ImageDir::new(File::open(package.join(base)).expect("the base dump").into())
}

/// The kinds of image files, and behind them a manifest, which is text.
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let sections = SECTIONS.all().into_iter().map(|(field, image)| Kind::new(field, Some(image)));
    sections.chain([Kind::new("manifest", None)]).collect()
});

/// A kind of file.
struct Kind {
    /// How inputs call it: it depends on nothing but a name, so that inputs that are kept mean the
    /// same when kinds are added.
    tag: u16,
    image: Option<Image>,
}

impl Kind {
    fn new(name: &str, image: Option<Image>) -> Self {
        let crc = crc32fast::hash(name.as_bytes());
        Self { tag: crc as u16, image }
    }

    fn magic_words(&self) -> Vec<u8> {
        self.image.map_or_else(Vec::new, |image| Encoder::new(image.magic).finish())
    }
}

/// The kind of the file `name`.
pub fn kind_of(name: &str) -> Option<usize> {
    KINDS.iter().position(|kind| kind.image.is_some_and(|image| image.is(name)))
}

/// The kind that an input means, whatever it says.
fn kind_of_tag(tag: u16) -> usize {
    let known = KINDS.iter().position(|kind| kind.tag == tag);
    known.unwrap_or_else(|| usize::from(tag) % KINDS.len())
}

/// How many kinds of files inputs cannot tell apart.
pub fn ambiguous() -> usize {
    let tags: HashSet<u16> = KINDS.iter().map(|kind| kind.tag).collect();
    KINDS.len() - tags.len()
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A message, which gets its length in front of it.
    Message = 0,
    /// Bytes behind a message.
    Payload = 1,
    /// The whole file, as it is.
    Raw = 2,
}

/// Appends a record to an input.
pub fn pack(into: &mut Vec<u8>, kind: usize, what: Record, bytes: &[u8]) {
    assert!(bytes.len() <= LENGTH.into(), "a record of {} bytes", bytes.len());
    into.extend(KINDS[kind].tag.to_be_bytes());
    into.extend(((what as u16) << 14 | bytes.len() as u16).to_be_bytes());
    into.extend(bytes);
}

/// The bits of a record's length.
const LENGTH: u16 = 0x3fff;

/// Contents by kind: all files of one kind are the same.
struct Files(HashMap<usize, Vec<u8>>);

impl Files {
    fn unpack(mut bytes: &[u8]) -> Self {
        let mut files: HashMap<usize, Vec<u8>> = HashMap::new();
        while let [kind, more, high, low, rest @ ..] = bytes {
            let kind = kind_of_tag(u16::from_be_bytes([*kind, *more]));
            let word = u16::from_be_bytes([*high, *low]);
            let (record, rest) = rest.split_at(rest.len().min((word & LENGTH).into()));
            bytes = rest;
            let file = files.entry(kind).or_insert_with(|| KINDS[kind].magic_words());
            match word >> 14 {
                0 => {
                    file.extend((record.len() as u32).to_le_bytes());
                    file.extend(record);
                }
                1 => file.extend(record),
                _ => *file = record.to_vec(),
            }
        }
        Self(files)
    }
}
