//! The fragments of one extended netconsole message: any order, duplicates, consistent overlaps.

use super::header::Slice;

/// Most pieces that a message is kept in. The kernel needs 75 for its longest.
const MAX_PIECES: usize = 256;

/// What a held piece costs besides its bytes.
const PIECE_OVERHEAD_BYTES: usize = 48;

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It brought bytes that were not there.
    New,
    /// All of its bytes were there, and the same.
    Duplicate,
    /// It says something else about bytes that are there, or does not fit: another message.
    Conflict,
}

/// The pieces of one message.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Fragments {
    total: u32,
    covered: u32,
    /// By offset, without overlaps.
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
struct Piece {
    offset: u32,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset as usize + self.bytes.len()
    }
}

impl Fragments {
    /// A message of which `body` at `slice` is the first piece to come.
    pub fn new(slice: Slice, body: &[u8]) -> Fragments {
        Fragments {
            total: slice.total,
            covered: body.len() as u32,
            pieces: vec![Piece { offset: slice.offset, bytes: body.to_vec() }],
        }
    }

    /// Announced length of the body.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Every byte is there.
    pub fn complete(&self) -> bool {
        self.covered == self.total
    }

    /// What it takes in memory.
    pub fn held_bytes(&self) -> usize {
        self.covered as usize + self.pieces.len() * PIECE_OVERHEAD_BYTES
    }

    /// Adds a fragment that lies inside of its announced total (the header's parse sees to that).
    pub fn add(&mut self, slice: Slice, body: &[u8]) -> Added {
        if slice.total != self.total {
            return Added::Conflict;
        }
        let (from, to) = (slice.offset as usize, slice.offset as usize + body.len());
        let first = self.pieces.partition_point(|piece| piece.end() <= from);
        // In the common case the fragment follows all that is there.
        let overlapping = self.pieces[first..].iter().take_while(|piece| (piece.offset as usize) < to);
        let mut news = Vec::new();
        let mut at = from;
        for piece in overlapping {
            let start = piece.offset as usize;
            let (low, high) = (start.max(from), piece.end().min(to));
            if piece.bytes[low - start..high - start] != body[low - from..high - from] {
                return Added::Conflict;
            }
            if at < start {
                news.push((at, start));
            }
            at = at.max(piece.end());
        }
        if at < to {
            news.push((at, to));
        }
        if news.is_empty() {
            return Added::Duplicate;
        }
        if self.pieces.len() + news.len() > MAX_PIECES {
            return Added::Conflict;
        }
        for (low, high) in news {
            let bytes = body[low - from..high - from].to_vec();
            let place = self.pieces.partition_point(|piece| (piece.offset as usize) < low);
            self.covered += bytes.len() as u32;
            self.pieces.insert(place, Piece { offset: low as u32, bytes });
        }
        Added::New
    }

    /// The body, into `out`; where bytes are missing it says how many.
    pub fn assemble(&self, out: &mut Vec<u8>) {
        out.clear();
        let mut at = 0;
        for piece in &self.pieces {
            hole(at, piece.offset as usize, out);
            out.extend_from_slice(&piece.bytes);
            at = piece.end();
        }
        hole(at, self.total as usize, out);
    }
}

fn hole(from: usize, to: usize, out: &mut Vec<u8>) {
    if from < to {
        out.extend_from_slice(format!("[{} bytes lost]", to - from).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(fragments: &Fragments) -> String {
        let mut out = Vec::new();
        fragments.assemble(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn holes_are_marked() {
        let mut fragments = Fragments::new(Slice { offset: 4, total: 10 }, b"ef");
        assert_eq!(text(&fragments), "[4 bytes lost]ef[4 bytes lost]");
        assert_eq!(fragments.add(Slice { offset: 0, total: 10 }, b"abcd"), Added::New);
        assert_eq!(text(&fragments), "abcdef[4 bytes lost]");
        assert!(!fragments.complete());
    }

    #[test]
    fn overlaps_agree_or_conflict() {
        let mut fragments = Fragments::new(Slice { offset: 2, total: 6 }, b"cd");
        assert_eq!(fragments.add(Slice { offset: 2, total: 6 }, b"cd"), Added::Duplicate);
        assert_eq!(fragments.add(Slice { offset: 3, total: 6 }, b"dX"), Added::New);
        assert_eq!(fragments.add(Slice { offset: 0, total: 6 }, b"abcX"), Added::Conflict);
        assert_eq!(fragments.add(Slice { offset: 0, total: 7 }, b"ab"), Added::Conflict);
        assert_eq!(fragments.add(Slice { offset: 0, total: 6 }, b"abcdXf"), Added::New);
        assert!(fragments.complete());
        assert_eq!(text(&fragments), "abcdXf");
    }

    #[test]
    fn pieces_are_bounded() {
        let mut fragments = Fragments::new(Slice { offset: 0, total: 2000 }, b"x");
        let added = (1..1000).map(|at| fragments.add(Slice { offset: at * 2, total: 2000 }, b"x"));
        assert_eq!(added.filter(|added| *added == Added::New).count(), MAX_PIECES - 1);
    }

    proptest! {
        /// Any cover by slices of one text gives that text, in any order.
        #[test]
        fn any_order_and_overlap(
            body in prop::collection::vec(b'a'..=b'z', 1..200),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 1..40_usize), 1..60),
        ) {
            let total = body.len() as u32;
            let mut covered = vec![false; body.len()];
            let mut fragments: Option<Fragments> = None;
            for (start, len) in cuts {
                let from = start.index(body.len());
                let to = (from + len).min(body.len());
                let slice = Slice { offset: from as u32, total };
                let news = covered[from..to].iter().any(|there| !there);
                covered[from..to].fill(true);
                match &mut fragments {
                    None => fragments = Some(Fragments::new(slice, &body[from..to])),
                    Some(fragments) => {
                        let expected = if news { Added::New } else { Added::Duplicate };
                        prop_assert_eq!(fragments.add(slice, &body[from..to]), expected);
                    }
                }
            }
            let fragments = fragments.unwrap();
            prop_assert_eq!(fragments.complete(), covered.iter().all(|there| *there));
            if fragments.complete() {
                prop_assert_eq!(text(&fragments).into_bytes(), body);
            }
        }
    }
}
