//! The sum with AVX-512 or AVX2, where the CPU has it. Nanoseconds a datagram of 38, 230 and 998 bytes (Zen 5): plain
//! 2.4, 5.1 and 16.7; AVX-512 1.8, 3.0 and 7.9.
//!
//! The one place outside `dpdk/` that says `unsafe`: calling a function that needs a CPU feature is the caller's
//! promise that it is there, however safe the function itself is; and a vector is loaded through a pointer.
//!
//! Both add 16-bit words in 32-bit lanes. A packet has at most 32,768 words, so that even all lanes together do not
//! overflow 32 bits.

#![allow(unsafe_code)]

use super::{Any, Job, Sum};
use std::arch::x86_64::{
    __m256i, __m512i, _mm_add_epi32, _mm_cvtsi128_si64, _mm_unpackhi_epi64, _mm256_add_epi32, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_srli_epi32, _mm512_add_epi32, _mm512_and_si512, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_reduce_add_epi32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi32,
    _mm512_storeu_si512,
};

/// Shorter data are summed as fast without.
pub(super) const FROM_BYTES: usize = 32;
/// From here on AVX2 is faster than plain; it has no loads of a part of a vector.
const AVX2_FROM_BYTES: usize = 128;
/// No packet is longer. What is, is nobody's checksum, and summed plainly.
const MOST_BYTES: usize = 65_536;

/// Does a job in the way that this CPU does fastest.
#[inline]
pub(super) fn run<J: Job>(job: J) -> J::Output {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("bmi2") {
        // SAFETY: the CPU has all three, the only thing that the callee asks for.
        return unsafe { run_512(job) };
    }
    job.run::<Any>()
}

#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn run_512<J: Job>(job: J) -> J::Output {
    job.run::<Avx512>()
}

struct Avx512;

impl Sum for Avx512 {
    #[inline(always)] // See `Job`.
    fn sum(data: &[u8]) -> u64 {
        if data.len() > MOST_BYTES {
            return super::sum_plain(data);
        }
        // SAFETY: this type is known to `run_512` alone, which was called because the CPU has the features.
        unsafe { sum_512(data) }
    }

    #[inline(always)] // See `Job`.
    fn copy(to: &mut [u8], from: &[u8]) -> u64 {
        if from.len() > MOST_BYTES {
            return Any::copy(to, from);
        }
        // SAFETY: as above.
        unsafe { copy_512(to, from) }
    }
}

/// The sum, where the CPU can do it faster than plainly.
#[inline(always)] // See `checksum::sum`.
pub(super) fn sum(data: &[u8]) -> Option<u64> {
    if data.len() > MOST_BYTES {
        return None;
    }
    // Looked up once a process; a load and a bit test afterwards. (The first has the second in it, and says so to the
    // compiler only when asked.)
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has both features, the only thing that the callee asks for.
        return Some(unsafe { sum_512(data) });
    }
    if data.len() >= AVX2_FROM_BYTES && is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        return Some(unsafe { sum_256(data) });
    }
    None
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sum_512(data: &[u8]) -> u64 {
    let (blocks, rest) = data.as_chunks::<64>();
    let mut sums = _mm512_setzero_si512();
    for block in blocks {
        // SAFETY: 64 readable bytes; no alignment is asked for.
        let words = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        sums = _mm512_add_epi32(sums, halves_512(words));
    }
    if !rest.is_empty() {
        // SAFETY: bytes outside the mask, the first `rest.len()` ones, are not read.
        let words = unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (64 - rest.len()), rest.as_ptr().cast()) };
        sums = _mm512_add_epi32(sums, halves_512(words));
    }
    u64::from(_mm512_reduce_add_epi32(sums).cast_unsigned())
}

/// Copies and sums in one pass (22, 214, 982 bytes: 2.3, 3.6, 13.4 ns; one after the other 3.4, 4.7, 17).
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn copy_512(to: &mut [u8], from: &[u8]) -> u64 {
    assert_eq!(to.len(), from.len());
    let (len, at, into) = (from.len(), from.as_ptr(), to.as_mut_ptr());
    // SAFETY: whoever calls it has 64 bytes from `done` on in both slices; no alignment is asked for.
    let move_64 = |done: usize| unsafe {
        let words = _mm512_loadu_si512(at.add(done).cast());
        _mm512_storeu_si512(into.add(done).cast(), words);
        halves_512(words)
    };
    let mut sums = [_mm512_setzero_si512(); 2];
    let mut done = 0;
    // Two at a time: from a loop of single ones the compiler would take out the copying, as a call.
    while done + 128 <= len {
        sums[0] = _mm512_add_epi32(sums[0], move_64(done));
        sums[1] = _mm512_add_epi32(sums[1], move_64(done + 64));
        done += 128;
    }
    if done + 64 <= len {
        sums[0] = _mm512_add_epi32(sums[0], move_64(done));
        done += 64;
    }
    if done < len {
        let mask = u64::MAX >> (64 - (len - done));
        // SAFETY: bytes outside the mask, the first `len - done` ones, are neither read nor written; where there are 64, the
        // last 64 are inside both slices.
        let words = unsafe {
            let words = _mm512_maskz_loadu_epi8(mask, at.add(done).cast());
            if len < 64 {
                _mm512_mask_storeu_epi8(into.add(done).cast(), mask, words);
            } else {
                // Some of them again: a store under a mask is the slower one.
                _mm512_storeu_si512(into.add(len - 64).cast(), _mm512_loadu_si512(at.add(len - 64).cast()));
            }
            words
        };
        sums[1] = _mm512_add_epi32(sums[1], halves_512(words));
    }
    u64::from(_mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1])).cast_unsigned())
}

/// The two 16-bit words of each 32-bit lane, added.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_512(words: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_and_si512(words, _mm512_set1_epi32(0xffff)), _mm512_srli_epi32::<16>(words))
}

#[target_feature(enable = "avx2")]
fn sum_256(data: &[u8]) -> u64 {
    let (blocks, rest) = data.as_chunks::<64>();
    let mut sums = [_mm256_setzero_si256(); 2];
    for block in blocks {
        let (halves, _) = block.as_chunks::<32>();
        for (half, sum) in halves.iter().zip(&mut sums) {
            // SAFETY: 32 readable bytes; no alignment is asked for.
            let words = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            *sum = _mm256_add_epi32(*sum, halves_256(words));
        }
    }
    let sum = _mm256_add_epi32(sums[0], sums[1]);
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_cvtsi128_si64(_mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum))).cast_unsigned();
    (two & 0xffff_ffff) + (two >> 32) + super::sum_plain(rest)
}

/// The two 16-bit words of each 32-bit lane, added.
#[inline]
#[target_feature(enable = "avx2")]
fn halves_256(words: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_and_si256(words, _mm256_set1_epi32(0xffff)), _mm256_srli_epi32::<16>(words))
}

#[cfg(test)]
mod tests {
    use super::{super::sum_plain, *};

    /// Each that this CPU has equals the plain one, at every length around the blocks and every alignment.
    #[test]
    fn every_kind_is_the_plain_one() {
        let data: Vec<u8> = (0..2100_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let ones = vec![0xff; 2100];
        let avx512 = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512f");
        let avx2 = is_x86_feature_detected!("avx2");
        for data in [&data, &ones] {
            for (at, len) in (0..64).flat_map(|at| (0..300).chain(1400..1500).map(move |len| (at, len))) {
                let part = &data[at..at + len];
                let plain = super::super::fold(sum_plain(part));
                let mut copy = vec![0xee; len + 2];
                let copied = Any::copy(&mut copy[1..=len], part);
                assert_eq!(super::super::fold(copied), plain, "copied, {len} bytes at {at}");
                assert!(copy[1..=len] == *part && [copy[0], copy[len + 1]] == [0xee; 2], "{len} bytes at {at}");
                if avx512 {
                    let mut copy = vec![0xee; len + 2];
                    // SAFETY: the CPU has both features.
                    let copied = unsafe { copy_512(&mut copy[1..=len], part) };
                    assert_eq!(super::super::fold(copied), plain, "AVX-512, copied, {len} bytes at {at}");
                    assert!(copy[1..=len] == *part && [copy[0], copy[len + 1]] == [0xee; 2], "{len} bytes at {at}");
                    // SAFETY: the CPU has both features.
                    assert_eq!(super::super::fold(unsafe { sum_512(part) }), plain, "AVX-512, {len} bytes at {at}");
                }
                if avx2 {
                    // SAFETY: as above.
                    assert_eq!(super::super::fold(unsafe { sum_256(part) }), plain, "AVX2, {len} bytes at {at}");
                }
            }
        }
        for (has, name) in [(avx512, "AVX-512"), (avx2, "AVX2")] {
            if !has {
                eprintln!("SKIPPED every_kind_is_the_plain_one for {name}: this CPU does not have it");
            }
        }
    }

    #[test]
    fn the_longest_packet_does_not_overflow_a_lane() {
        let data = vec![0xff; MOST_BYTES];
        assert_eq!(sum(&data).map(super::super::fold).unwrap_or(0xffff), 0xffff);
        assert_eq!(sum(&vec![0xff; MOST_BYTES + 1]), None);
    }
}
