//! `pack DIR > FILE`: a dump as an input of the target `images`, without its pages.
//!
//! Of files of one kind the one whose name comes first is taken.

use std::io::Write;

use criu_fuzz::harness::{self, KINDS, Record};

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
        file(&mut packed, kind, &bytes);
    }
    std::io::stdout().write_all(&packed).expect("write to standard output");
}

/// Message by message; files whose messages have bytes behind them, as they are.
fn file(packed: &mut Vec<u8>, kind: usize, bytes: &[u8]) {
    let inventory = KINDS[kind].0 == "inventory.img";
    let mut rest = &bytes[if inventory { 4 } else { 8 }..];
    let mut messages = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((message, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize)
        else {
            break;
        };
        messages.push(message);
        rest = after;
    }
    let payload = ["pipes-data", "fifo-data", "sk-queues", "ghost-file"];
    if payload.iter().any(|name| KINDS[kind].0.starts_with(name)) || !rest.is_empty() {
        return harness::pack(packed, kind, Record::Raw, bytes);
    }
    for message in messages {
        harness::pack(packed, kind, Record::Message, message);
    }
}
