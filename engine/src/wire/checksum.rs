//! The internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words.
//!
//! A *sum* here is a `u64` to be folded later, and it is in memory order: words count as they lie in
//! memory, never swapped (RFC 1071, section 2(B): the sum of swapped words is the swapped sum). So parts
//! add up with plain `+`, whatever they came from, and a finished checksum is bytes, not a number. A part that is
//! followed by another must have an even length.
//!
//! Bound: [`sum`] gives less than 2^35, so 2^29 parts add up without overflow.

#[cfg(target_arch = "x86_64")]
mod simd;

/// Sums `data`; an odd last byte counts as if a zero followed it.
///
/// The one place where bytes are summed: a faster version replaces it here.
#[inline(always)] // The caller's frame is 64 bytes: two calls for these few instructions were a tenth of its filter.
pub fn sum(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if data.len() >= simd::FROM_BYTES
        && let Some(sum) = simd::sum(data)
    {
        return sum;
    }
    sum_plain(data)
}

/// A way to sum that a [`Job`] is compiled for.
pub(crate) trait Sum {
    /// As [`sum`].
    fn sum(data: &[u8]) -> u64;

    /// Copies `from` to `to`, which is as long, and sums it on the way.
    ///
    /// # Panics
    /// Where it is not.
    fn copy(to: &mut [u8], from: &[u8]) -> u64;
}

/// Work over many sums, compiled once for each kind of CPU: a call for each sum, and what it pushes out of the registers,
/// costs as much as summing the 38 bytes of a short datagram does.
pub(crate) trait Job {
    /// What comes of it.
    type Output;

    /// To be `#[inline(always)]`, with all that it calls for each sum: what is not inlined is compiled for any CPU.
    fn run<S: Sum>(self) -> Self::Output;
}

/// Does a job in the way that this CPU does fastest.
#[inline]
pub(crate) fn run<J: Job>(job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    return simd::run(job);
    #[cfg(not(target_arch = "x86_64"))]
    job.run::<Any>()
}

/// Looks at each time what the CPU has.
#[derive(Debug)]
pub(crate) struct Any;

impl Sum for Any {
    #[inline(always)] // See `Job`.
    fn sum(data: &[u8]) -> u64 {
        sum(data)
    }

    #[inline(always)] // See `Job`.
    fn copy(to: &mut [u8], from: &[u8]) -> u64 {
        to.copy_from_slice(from);
        sum(from)
    }
}

/// 32 bytes at a time, one add-with-carry for eight of them.
#[inline(never)]
fn sum_plain(data: &[u8]) -> u64 {
    let word = |bytes: &[u8; 32], at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().expect("inside the 32"));
    let (blocks, rest) = data.as_chunks::<32>();
    let mut sum = 0;
    for block in blocks {
        let four = [0, 8, 16, 24].into_iter().fold(0, |sum, at| sum + u128::from(word(block, at)));
        sum = add(sum, add(four as u64, (four >> 64) as u64));
    }
    let (words, rest) = rest.as_chunks::<8>();
    sum = words.iter().fold(sum, |sum, word| add(sum, u64::from_ne_bytes(*word)));
    if !rest.is_empty() {
        let last = match data.last_chunk::<8>() {
            // The last eight bytes without those that were summed already.
            Some(last) => (u64::from_le_bytes(*last) >> (8 * (8 - rest.len()))).to_le(),
            None => {
                let mut last = [0; 8];
                last[..rest.len()].copy_from_slice(rest);
                u64::from_ne_bytes(last)
            }
        };
        sum = add(sum, last);
    }
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// The sum of two words of eight bytes as they lie in memory, in one: the carry comes in again at the bottom. (Not in the
/// bound of [`sum`]: only [`is_valid`] and itself take it.)
#[inline]
pub(crate) const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// Folds a sum to 16 bits, in memory order. It is 0 only if `sum` is.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    // Each step keeps the value modulo 2^16 - 1, and the last cannot carry again.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum that belongs in the field, as its two bytes.
#[inline]
pub const fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// Whether a sum over everything, the checksum field included, is right.
#[inline]
pub const fn is_valid(sum: u64) -> bool {
    /// The inverse of 0xffff modulo 2^64: times this, a multiple of 0xffff becomes how many times it is that, which is less
    /// than any other number becomes.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    // `fold(sum) == 0xffff`, which says "a multiple of 0xffff, but not 0", by one multiplication and one comparison instead
    // of a chain of shifts and adds.
    sum.wrapping_mul(INVERSE).wrapping_sub(1) < u64::MAX / 0xffff
}

/// One 16-bit field, given in host order, as a part of a sum.
#[inline]
pub const fn word(value: u16) -> u64 {
    value.to_be() as u64
}

/// Sum of the pseudo-header of UDP over IPv4 (RFC 768): addresses, protocol, and `len`, the bytes of the
/// UDP header and payload.
#[inline]
pub const fn pseudo_header(src: std::net::Ipv4Addr, dst: std::net::Ipv4Addr, protocol: u8, len: u16) -> u64 {
    u32::from_ne_bytes(src.octets()) as u64
        + u32::from_ne_bytes(dst.octets()) as u64
        + word(protocol as u16)
        + word(len)
}

/// The checksum after one 16-bit field under it changed from `old` to `new` (RFC 1624, equation 3).
///
/// It equals the one computed afresh for every real header. (Only for data of nothing but zeros, before
/// or after, may it give the other of the two zeros.)
#[inline]
pub const fn update(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let sum = !u16::from_ne_bytes(checksum) as u64 + !u16::from_ne_bytes(old) as u64 + u16::from_ne_bytes(new) as u64;
    finish(sum)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// RFC 1071, section 4.1, in big-endian numbers.
    fn naive(data: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn rfc_1071_example() {
        // Section 3: the sum of these is ddf2, so the checksum is its complement.
        assert_eq!(finish(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), [0x22, 0x0d]);
    }

    #[test]
    fn every_length_and_alignment_at_the_extremes() {
        for fill in [0x00, 0x01, 0x80, 0xff] {
            let data = vec![fill; 2100];
            for at in 0..16 {
                for len in (0..200).chain(2000..2048) {
                    let part = &data[at..at + len];
                    assert_eq!(finish(sum(part)), naive(part), "{len} bytes of {fill} at {at}");
                }
            }
        }
    }

    #[test]
    fn the_longest_packet_stays_inside_the_stated_bound() {
        let data = vec![0xff; 65_535];
        assert!(sum(&data) < 1 << 35);
        assert_eq!(finish(sum(&data)), naive(&data));
    }

    #[test]
    fn fold_of_extremes() {
        for (sum, folded) in
            [(0, 0), (1, 1), (0xffff, 0xffff), (0x1_0000, 1), (0x1_fffe, 0xffff), (u64::MAX, 0xffff), (1 << 63, 0x8000)]
        {
            assert_eq!(fold(sum), folded, "{sum:#x}");
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_one(data in proptest::collection::vec(any::<u8>(), 0..4096), at in 0usize..32) {
            let part = &data[at.min(data.len())..];
            prop_assert_eq!(finish(sum(part)), naive(part));
        }

        #[test]
        fn the_plain_one_equals_the_naive_one(data in proptest::collection::vec(any::<u8>(), 0..4096), at in 0usize..32) {
            let part = &data[at.min(data.len())..];
            prop_assert_eq!(finish(sum_plain(part)), naive(part));
            prop_assert!(sum_plain(part) < 1 << 35);
        }

        #[test]
        fn is_valid_says_what_fold_says(sum: u64) {
            prop_assert_eq!(is_valid(sum), fold(sum) == 0xffff);
            prop_assert_eq!(is_valid(sum / 0xffff * 0xffff), fold(sum / 0xffff * 0xffff) == 0xffff);
        }

        #[test]
        fn fold_keeps_the_value(sum: u64) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
            prop_assert_eq!(fold(sum) == 0, sum == 0);
        }

        #[test]
        fn even_parts_add_up(data in proptest::collection::vec(any::<u8>(), 0..512), cut in 0usize..512) {
            let cut = cut.min(data.len()) & !1;
            prop_assert_eq!(finish(sum(&data[..cut]) + sum(&data[cut..])), naive(&data));
        }

        #[test]
        fn data_with_its_checksum_is_valid(mut data in proptest::collection::vec(any::<u8>(), 2..512), flip in 16usize..) {
            data[..2].fill(0);
            let checksum = finish(sum(&data));
            data[..2].copy_from_slice(&checksum);
            prop_assert!(is_valid(sum(&data)));
            let bit = flip % (data.len() * 8);
            data[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!is_valid(sum(&data)));
        }

        #[test]
        fn update_equals_computing_afresh(mut data in proptest::collection::vec(any::<u8>(), 4..64), new: [u8; 2], at in 0usize..32) {
            data[0] |= 1; // not all zeros, see `update`
            let at = 2 + (at * 2) % (data.len() / 2 * 2 - 2);
            let before = finish(sum(&data));
            let old = [data[at], data[at + 1]];
            data[at..at + 2].copy_from_slice(&new);
            prop_assert_eq!(update(before, old, new), finish(sum(&data)));
        }

        #[test]
        fn pseudo_header_is_its_twelve_bytes(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u16) {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&src);
            bytes[4..8].copy_from_slice(&dst);
            bytes[9] = protocol;
            bytes[10..].copy_from_slice(&len.to_be_bytes());
            let sum = pseudo_header(Ipv4Addr::from(src), Ipv4Addr::from(dst), protocol, len);
            prop_assert_eq!(finish(sum), naive(&bytes));
        }
    }
}
