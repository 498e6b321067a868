//! `pack DIR > FILE`: a dump as an input of the target `images`, without its pages.
//!
//! Of files of one kind the one whose name comes first is taken.

use std::io::Write;

use criu::images::sections::SECTIONS;
use criu_fuzz::harness::{self, Record};

fn main() {
    let directory = std::env::args().nth(1).expect("the directory of a dump");
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .expect("list the directory")
        .map(|entry| entry.expect("list the directory").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let (mut packed, mut kinds) = (Vec::new(), Vec::new());
    for name in names {
        let Some(kind) = harness::kind_of(&name).filter(|kind| !kinds.contains(kind)) else {
            continue;
        };
        kinds.push(kind);
        let bytes = std::fs::read(format!("{directory}/{name}")).expect("read an image");
        file(&mut packed, kind, &bytes, &name);
    }
    std::io::stdout().write_all(&packed).expect("write to standard output");
}

/// Message by message; a file that is more than messages, as it is.
fn file(packed: &mut Vec<u8>, kind: usize, bytes: &[u8], name: &str) {
    let head = if name == SECTIONS.inventory.name() { 4 } else { 8 };
    let mut rest = &bytes[head..];
    let mut messages = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((message, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize)
        else {
            break;
        };
        messages.push(message);
        rest = after;
    }
    if !rest.is_empty() {
        return harness::pack(packed, kind, Record::Raw, bytes);
    }
    for message in messages {
        harness::pack(packed, kind, Record::Message, message);
    }
}
