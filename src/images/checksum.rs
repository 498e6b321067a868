//! CRC-32 of files that are read or written in pieces, in whatever order.

use std::ops::Range;

use crc32fast::Hasher;

/// Finds out how this processor makes checksums, which takes long in a virtual machine.
pub fn prepare() {
    Hasher::new();
}

/// A stretch of a file and its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    offset: u64,
    len: u64,
    crc: u32,
}

impl Piece {
    /// Best made while the bytes are in the processor's cache.
    pub fn new(offset: u64, bytes: &[u8]) -> Self {
        Self { offset, len: bytes.len() as u64, crc: crc32fast::hash(bytes) }
    }

    fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// What is known of a file.
#[derive(Debug, Default)]
pub struct Pieces(Vec<Piece>);

impl Pieces {
    /// Adds one, whatever else is known of its bytes.
    pub fn add(&mut self, piece: Piece) {
        // The pages of a parent are read again for each of its children.
        if self.0.len() == self.0.capacity() {
            self.order();
            self.0.reserve(self.0.len());
        }
        self.0.push(piece);
    }

    /// The parts of the first `size` bytes that are still to be added.
    pub fn gaps(&mut self, size: u64) -> Vec<Range<u64>> {
        self.order();
        let starts = self.0.iter().map(|piece| piece.offset).chain([size]);
        let ends = [0].into_iter().chain(self.0.iter().map(Piece::end));
        ends.zip(starts).filter(|(end, start)| end < start).map(|(end, start)| end..start).collect()
    }

    /// How many bytes the file has and their checksum; none if it has gaps.
    pub fn whole(&mut self) -> Option<(u64, u32)> {
        self.order();
        let mut whole = Hasher::new();
        let mut end = 0;
        for piece in &self.0 {
            if piece.offset != end {
                return None;
            }
            whole.combine(&Hasher::new_with_initial_len(piece.crc, piece.len));
            end = piece.end();
        }
        Some((end, whole.finalize()))
    }

    /// Sorts them and drops those that begin within another.
    fn order(&mut self) {
        self.0.sort_unstable_by_key(|piece| (piece.offset, u64::MAX - piece.len));
        let mut end = 0;
        self.0.retain(|piece| {
            let fits = piece.offset >= end && piece.len > 0;
            if fits {
                end = piece.end();
            }
            fits
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8], ranges: &[Range<usize>]) -> Pieces {
        let mut pieces = Pieces::default();
        for range in ranges {
            pieces.add(Piece::new(range.start as u64, &bytes[range.clone()]));
        }
        pieces
    }

    #[test]
    fn the_order_of_pieces_does_not_matter() {
        let bytes = b"pieces of a file";
        let whole = Some((16, crc32fast::hash(bytes)));
        assert_eq!(pieces(bytes, &[10..16, 0..10]).whole(), whole);
        assert_eq!(pieces(bytes, &[4..16, 0..1, 1..4]).whole(), whole);
        assert_eq!(pieces(bytes, &[]).whole(), Some((0, 0)));
    }

    #[test]
    fn what_is_read_again_and_again_takes_no_more_memory() {
        let mut known = Pieces::default();
        for _ in 0..1000 {
            (0..4).for_each(|at| known.add(Piece::new(at, b"a")));
        }
        assert!(known.0.capacity() < 20, "{}", known.0.capacity());
        assert_eq!(known.whole(), Some((4, crc32fast::hash(b"aaaa"))));
    }

    #[test]
    fn what_was_read_twice_counts_once_and_what_was_not_is_named() {
        let bytes = b"pieces of a file";
        let mut known = pieces(bytes, &[2..4, 2..6, 5..9, 2..6, 12..14]);
        assert_eq!(known.gaps(16), [0..2, 6..12, 14..16]);
        assert_eq!(known.whole(), None);
        for gap in [0..2, 6..12, 14..16] {
            known.add(Piece::new(gap.start as u64, &bytes[gap]));
        }
        assert_eq!(known.gaps(16), []);
        assert_eq!(known.whole(), Some((16, crc32fast::hash(bytes))));
    }
}
