//! How long the frames are.

use std::{fmt, str::FromStr};

use netpoll::wire::template::HEADERS_LEN;

/// Shortest and longest frame, in bytes with FCS, as RFC 2544 counts them.
pub(super) const SHORTEST: u16 = 64;
pub(super) const LONGEST: u16 = 1518;
/// Bytes of the frame check sequence, which the NIC appends.
pub(super) const FCS_LEN: usize = 4;
/// What a frame takes on the wire besides its own bytes: preamble, start delimiter, shortest gap.
const GAP_LEN: usize = 20;
/// Simple IMIX, 7:4:1 of IP packets of 40 (padded to 46), 576 and 1500 bytes.
const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];
/// Sizes in one list at most.
const MOST: usize = 64;

/// Frame sizes, taken in turn, round and round. At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    sizes: Vec<u16>,
    /// Bits on the wire of those before each, and of all.
    bits_before: Vec<u64>,
}

impl Sizes {
    fn new(sizes: Vec<u16>) -> Sizes {
        let mut bits_before = vec![0];
        for size in &sizes {
            bits_before.push(bits_before[bits_before.len() - 1] + wire_bits((*size).into()));
        }
        Sizes { sizes, bits_before }
    }

    /// One size.
    pub(super) fn one(size: u16) -> Sizes {
        Sizes::new(vec![size])
    }

    /// Bits on the wire of the frames before number `number`.
    #[inline]
    pub(super) fn bits_before(&self, number: u64) -> u64 {
        let len = self.sizes.len() as u64;
        number / len * self.bits_before[self.sizes.len()] + self.bits_before[(number % len) as usize]
    }

    /// The size of frame number `number`, in bytes with FCS.
    #[inline]
    pub(super) fn of(&self, number: u64) -> u16 {
        match self.sizes[..] {
            [one] => one,
            _ => self.sizes[(number % self.sizes.len() as u64) as usize],
        }
    }

    pub(super) fn smallest(&self) -> u16 {
        self.sizes.iter().copied().min().unwrap_or(SHORTEST)
    }

    pub(super) fn largest(&self) -> u16 {
        self.sizes.iter().copied().max().unwrap_or(LONGEST)
    }
}

/// Bytes of payload in a frame of `size` bytes.
pub(super) const fn payload_len(size: u16) -> usize {
    size as usize - FCS_LEN - HEADERS_LEN
}

/// The size of a frame with a payload of so many bytes.
pub(super) fn with_payload(len: usize) -> usize {
    (len + HEADERS_LEN + FCS_LEN).max(SHORTEST.into())
}

/// What a frame of `size` bytes takes on the wire, in bits: 672 for 64 bytes, so that 10 Gbit/s are 14.88 million.
pub(super) const fn wire_bits(size: usize) -> u64 {
    (size + GAP_LEN) as u64 * 8
}

impl FromStr for Sizes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Sizes, Self::Err> {
        const EXPECTED: &str =
            "expected a frame size with FCS from 64 to 1518, several like `64,512,1518` in turn, or `imix`";
        if text == "imix" {
            return Ok(Sizes::new(IMIX.to_vec()));
        }
        let size = |text: &str| -> Option<u16> {
            let strict = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|size| strict && (SHORTEST..=LONGEST).contains(size))
        };
        let sizes: Option<Vec<u16>> = text.split(',').map(size).collect();
        sizes.filter(|sizes| sizes.len() <= MOST).map(Sizes::new).ok_or(EXPECTED)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sizes == IMIX {
            return f.write_str("IMIX");
        }
        let sizes: Vec<_> = self.sizes.iter().map(u16::to_string).collect();
        write!(f, "{} B", sizes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let sizes: Sizes = "imix".parse().unwrap();
        let count = |size| (0..1200).filter(|number| sizes.of(*number) == size).count();
        assert_eq!((count(64), count(594), count(1518)), (700, 400, 100));
        let sum = |before: u64| (0..before).map(|number| wire_bits(sizes.of(number).into())).sum::<u64>();
        assert!([0, 1, 11, 12, 13, 100].iter().all(|number| sizes.bits_before(*number) == sum(*number)));
        assert_eq!((sizes.smallest(), sizes.largest()), (64, 1518));
    }

    #[test]
    fn sizes_are_strict_and_count_the_fcs() {
        assert_eq!("64,1518".parse(), Ok(Sizes::new(vec![64, 1518])));
        for bad in ["", "63", "1519", "64,", "+64", "64-128", "IMIX"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad:?}");
        }
        assert_eq!((payload_len(64), payload_len(1518)), (18, 1472));
        assert_eq!((with_payload(0), with_payload(18), with_payload(1472)), (64, 64, 1518));
        assert_eq!(10_000_000_000 / wire_bits(64), 14_880_952, "what 10 Gbit/s are known to carry");
    }
}
