//! A batch that is larger than the room for it is run in parts, one after the other.
//!
//! A part has some of the calls and all data that these refer to, by their arguments or by pointers
//! within the data. Data that calls of several parts refer to go with each of them, as the part before
//! has left them. So nobody who adds calls to a batch has to think of its size; only a single call and
//! its data have to fit.

use std::collections::{BTreeMap, BTreeSet};

use super::{Arg, Batch, Call, DATA_ALIGN, DataRef, ENTRY_SIZE, Outcome};
use crate::error::{Error, Kind, Result};

/// A batch under way, part by part.
#[derive(Debug)]
pub struct Parts {
    whole: Batch,
    /// The pieces of data that each piece points to.
    targets: BTreeMap<usize, Vec<usize>>,
    /// What the calls have returned that have run.
    rets: Vec<i64>,
}

/// What a part has of the whole batch.
#[derive(Debug)]
pub struct Taken {
    calls: usize,
    /// Which pieces of data, and where these are in the part.
    places: BTreeMap<usize, DataRef>,
}

impl Parts {
    /// None of the calls has run yet.
    pub fn of(whole: Batch) -> Self {
        let mut targets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, to) in &whole.pointers {
            targets.entry(whole.piece_of(*at)).or_default().push(whole.piece_of(*to));
        }
        Self { whole, targets, rets: Vec::new() }
    }

    /// The next calls, as many as fit into `room` bytes; none if all have run.
    pub fn next(&mut self, room: usize) -> Result<Option<(Batch, Taken)>> {
        let left = &self.whole.calls[self.rets.len()..];
        let Some(first) = left.first() else { return Ok(None) };
        let (mut calls, mut pieces, mut len) = (0, BTreeSet::new(), 0);
        for call in left {
            let more: BTreeSet<usize> = self.pieces_of(call).difference(&pieces).copied().collect();
            len += ENTRY_SIZE + more.iter().map(|piece| self.len_of(*piece)).sum::<usize>();
            if len > room {
                break;
            }
            pieces.extend(more);
            calls += 1;
        }
        if calls == 0 {
            Err(too_large(first, len, room))
        } else {
            Ok(Some(self.part(calls, &pieces)))
        }
    }

    /// Takes what the calls of a part have returned and written.
    pub fn ran(&mut self, part: &Taken, outcome: &Outcome) {
        self.rets.extend(&outcome.rets[..part.calls]);
        for (piece, place) in &part.places {
            let whole = self.whole.pieces[*piece];
            self.whole.data[whole.offset..][..whole.len].copy_from_slice(outcome.bytes(*place));
        }
    }

    /// What all calls have returned and written.
    pub fn outcome(self) -> Outcome {
        Outcome { rets: self.rets, data: self.whole.data }
    }

    /// All data that a call needs.
    fn pieces_of(&self, call: &Call) -> BTreeSet<usize> {
        let data = call.args.iter().filter_map(|arg| match arg {
            Arg::Data(place) => Some(self.whole.piece_of(*place)),
            Arg::Value(_) => None,
        });
        let (mut found, mut to_do) = (BTreeSet::new(), data.collect::<Vec<usize>>());
        while let Some(piece) = to_do.pop() {
            if found.insert(piece) {
                to_do.extend(self.targets.get(&piece).into_iter().flatten());
            }
        }
        found
    }

    /// What a piece takes at most, with the space before it.
    fn len_of(&self, piece: usize) -> usize {
        self.whole.pieces[piece].len.next_multiple_of(DATA_ALIGN)
    }

    fn part(&self, calls: usize, pieces: &BTreeSet<usize>) -> (Batch, Taken) {
        let mut batch = Batch::new();
        let piece = |index: usize| self.whole.pieces[index];
        let copy = |index: &usize| (*index, batch.bytes(self.whole.at(piece(*index))));
        let places: BTreeMap<usize, DataRef> = pieces.iter().map(copy).collect();
        let moved = |place: DataRef| {
            let index = self.whole.piece_of(place);
            let skipped = place.offset - piece(index).offset;
            DataRef { offset: places[&index].offset + skipped, len: place.len }
        };
        let first = self.rets.len();
        batch.calls = self.whole.calls[first..first + calls].to_vec();
        for arg in batch.calls.iter_mut().flat_map(|call| &mut call.args) {
            if let Arg::Data(place) = arg {
                *place = moved(*place);
            }
        }
        let there = |(at, _): &&(DataRef, DataRef)| pieces.contains(&self.whole.piece_of(*at));
        let pointers = self.whole.pointers.iter().filter(there);
        batch.pointers = pointers.map(|(at, to)| (moved(*at), moved(*to))).collect();
        (batch, Taken { calls, places })
    }
}

fn too_large(call: &Call, need: usize, room: usize) -> Error {
    let number = format!("number {}", call.nr);
    let what = call.must.as_ref().unwrap_or(&number);
    Error::new(Kind::Internal, format!("the system call to {what} needs {need} bytes, not {room}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use crate::kernel::remote::RemoteAddr;

    const BASE: u64 = 0x1000;

    /// What a call finds at an address of the encoded batch.
    fn word(image: &[u8], at: u64) -> u64 {
        let at = usize::try_from(at - BASE).unwrap();
        u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
    }

    /// Runs a batch in a room; each call has the number of a word by which it multiplies the word at its
    /// first argument, or if that is a pointer the word there. It returns the product.
    fn run(batch: Batch, room: usize) -> Result<(Vec<usize>, Outcome)> {
        let (mut parts, mut sizes) = (Parts::of(batch), Vec::new());
        while let Some((part, taken)) = parts.next(room)? {
            assert!(part.encoded_len() <= room);
            sizes.push(part.len());
            let mut image = part.encode(RemoteAddr(BASE));
            for call in 0..part.len() {
                let entry = BASE + (call * ENTRY_SIZE) as u64;
                let (factor, mut at) = (word(&image, entry), word(&image, entry + 8));
                if word(&image, at) >= BASE {
                    at = word(&image, at);
                }
                let product = (word(&image, at) * factor).to_le_bytes();
                for place in [at, entry + super::super::ENTRY_RET as u64] {
                    image[usize::try_from(place - BASE).unwrap()..][..8].copy_from_slice(&product);
                }
            }
            let outcome = part.outcome(&image)?;
            parts.ran(&taken, &outcome);
        }
        Ok((sizes, parts.outcome()))
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        let build = || {
            let mut batch = Batch::new();
            let words: Vec<DataRef> =
                (1..=9u64).map(|word| batch.bytes(&word.to_le_bytes())).collect();
            let shared = batch.bytes(&[[0; 8], 5u64.to_le_bytes()].concat());
            let mut ids = Vec::new();
            for (factor, word) in (2..).zip(&words) {
                ids.push(batch.call(factor, args![*word]));
                ids.push(batch.call(2, args![shared.skip(8)]));
            }
            let pointer = batch.space(16);
            batch.point(pointer.skip(8), words[3]);
            ids.push(batch.call(7, args![pointer.skip(8)]));
            (batch, ids, [words[3], shared])
        };
        let (batch, ids, places) = build();
        let (sizes, whole) = run(batch, usize::MAX).unwrap();
        assert_eq!(sizes, [19]);
        assert_eq!(whole.ret(ids[18]), Ok(4 * 5 * 7));
        assert_eq!(whole.u64(places[1].skip(8)), 5 << 9);
        for room in [192, 200, 256, 500, 1000, 1800] {
            let (batch, ..) = build();
            let (sizes, parted) = run(batch, room).unwrap();
            assert!(sizes.len() > 1, "{room}");
            for id in &ids {
                assert_eq!(parted.ret(*id), whole.ret(*id), "{room} {id:?}");
            }
            assert_eq!(parted.u64(places[0]), whole.u64(places[0]));
            assert_eq!(parted.u64(places[1].skip(8)), whole.u64(places[1].skip(8)));
        }
    }

    #[test]
    fn a_call_that_needs_more_than_there_is_is_named() {
        let mut batch = Batch::new();
        let data = batch.space(1000);
        batch.must("read a lot", 1, args![data]);
        let text = run(batch, 1000).unwrap_err().to_string();
        assert_eq!(text, "the system call to read a lot needs 1088 bytes, not 1000");
    }
}
